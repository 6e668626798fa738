"""What a node costs: a chain of scalar multiply-adds, forward and backward, against PyTorch's eager mode."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from .peer import Peer

_CHAIN = """
def workload():
    return run
def run():
    a, b = leaf(0.999), leaf(0.001)
    y = a
    for _ in range({length}):
        y = y * a + b
    y.backward()
"""
_OURS = """
import autograd
version = "convgrad"
def leaf(value):
    return autograd.Tensor(value, requires_grad=True)
"""
_TORCH = """
import torch
torch.set_num_threads(1)
version = "PyTorch " + torch.__version__
def leaf(value):
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)
"""


class NodeCost(NamedTuple):
    """Microseconds per multiply-add (two nodes), forward and backward, of one side."""

    version: str
    median: float
    spread: tuple[float, float]  # the quartiles


class Comparison(NamedTuple):
    """Our side, the peer if there is one, and the median over the rounds of our time over the peer's."""

    ours: NodeCost
    peer: NodeCost | None
    ratio: float | None


def node_cost(peer_python: str | None = None, length: int = 1000, rounds: int = 200) -> Comparison:
    """Runs the chain on our side and, if an interpreter that has PyTorch is given, on that, in turns.

    Raises ValueError if that interpreter cannot import torch.
    """
    chain = _CHAIN.format(length=length)
    sides = [Peer(_OURS + chain)]
    try:
        if peer_python is not None:
            sides.append(Peer(_TORCH + chain, peer_python))
        for side in sides:
            side.prepare("chain")
        for _ in range(5):  # warm up
            for side in sides:
                side.time("chain")
        times = [[side.time("chain") / length * 1e6 for side in sides] for _ in range(rounds)]
    finally:
        for side in sides:
            side.close()
    costs = []
    for side, record in zip(sides, zip(*times, strict=True), strict=True):
        low, median, high = statistics.quantiles(record, n=4)
        costs.append(NodeCost(side.version, median, (low, high)))
    if peer_python is None:
        return Comparison(costs[0], None, None)
    return Comparison(costs[0], costs[1], statistics.median(ours / theirs for ours, theirs in times))
