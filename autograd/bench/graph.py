"""What a node costs: a chain of scalar multiply-adds, forward and backward, against PyTorch's eager mode."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from .peer import Peer

_CHAIN = """
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


def node_cost(peer_python: str | None = None, length: int = 1000, rounds: int = 100) -> list[NodeCost]:
    """Runs the chain on our side and, if an interpreter that has PyTorch is given, on that, in turns.

    Raises ValueError if that interpreter cannot import torch.
    """
    chain = _CHAIN.format(length=length)
    sides = [Peer(_OURS + chain)]
    try:
        if peer_python is not None:
            sides.append(Peer(_TORCH + chain, peer_python))
        times: list[list[float]] = [[] for _ in sides]
        for repeat in range(rounds + 5):
            for side, record in zip(sides, times, strict=True):
                seconds = side.time()
                if repeat >= 5:  # the first rounds warm up
                    record.append(seconds / length * 1e6)
    finally:
        for side in sides:
            side.close()
    costs = []
    for side, record in zip(sides, times, strict=True):
        low, median, high = statistics.quantiles(record, n=4)
        costs.append(NodeCost(side.version, median, (low, high)))
    return costs
