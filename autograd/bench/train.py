"""`bench train`: a whole training step of named networks (forward, loss, backward, update), and the memory it takes.

The gate: the gradients of one step are compared with those of the same step in float64. That step has itself been
checked: the slope of the loss along its gradients, by central differences of two more forward passes, is their length.
This uses no rule of differentiation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import nn
from ..functional import cross_entropy
from ..modes import no_grad
from ..tensor import Tensor
from .contest import OURS, Contest, Settings, saved
from .conv import Listener
from .peers import Kind
from .rows import TrainRow
from .sides import networks

TORCH = Kind("PyTorch", "train_pytorch", "torch", {name: name for name in ("channels_last", "contiguous")})
BATCHES = {"lenet5": 64, "resnet20": 128, "vgg8": 64}
# Of the greatest gradient. Where rounding decides on which side of zero the input of a ReLU is, gradients jump: in
# ResNet-20 both sides are at 2e-3 to 4e-3 with float32. Without such jumps it is 1e-6.
_ERROR_BOUNDS = {"float32": 2e-2, "float64": 1e-10}
_DIFFERENCE = 1e-7  # length of the step by which all parameters together are moved
_SLOPE_BOUND = 1e-4


class FirstStep(NamedTuple):
    """All parameters of a network in a row, (parameters,); images, (N, C, H, W); and their classes, (N,)."""

    parameters: NDArray[np.float64]
    images: NDArray[np.float64]
    labels: NDArray[np.int64]


def measure(
    names: Sequence[str], batch: int | None, settings: Settings, listener: Listener
) -> tuple[list[TrainRow], dict[str, str]]:
    """A row for each network and number of threads, and the versions of all sides.

    batch: the number of images instead of each network's own. Raises PeerError if our own side does not run.
    """
    rows: list[TrainRow] = []
    versions: dict[str, str] = {}
    listener.begin(len(names) * len(settings.threads))
    for threads in settings.threads:
        for name in names:
            listener.step(f"{name}, {threads} threads")
            # Fresh processes for every network: what one has allocated is of no use to the next.
            with Contest("train_convgrad", [TORCH], settings, threads, listener) as contest:
                versions |= contest.versions
                rows.append(_row(name, batch or BATCHES[name], settings, threads, contest))
                listener.row(rows[-1])
    return rows, versions


def _row(name: str, batch: int, settings: Settings, threads: int, contest: Contest) -> TrainRow:
    start = first_step(name, batch)
    exact, slope_error = gradients_and_slope(name, start)
    bound = _ERROR_BOUNDS[settings.dtype]
    with saved(start.parameters, start.images.astype(settings.dtype), start.labels) as paths:
        arguments = (networks.__file__, name, *paths)
        memory = contest.memory(arguments)  # first: what a process has had at most only grows
        found = contest.measure(arguments, exact, bound)
    fault = f"WRONG: the gradients in float64 disagree with differences by {slope_error:.0e}"
    return TrainRow(
        suite="training",
        layer=name,
        count=1,
        problem=f"{name} n{batch}",
        map="step",
        dtype=settings.dtype,
        isa=settings.isa,
        threads=threads,
        timing=found.timing if slope_error < _SLOPE_BOUND else None,
        error=found.error,
        error_bound=bound,
        peers=found.peers,
        notes=found.notes if slope_error < _SLOPE_BOUND else (fault, *found.notes),
        memory=memory[OURS],
        peer_memory={side: used for side, used in memory.items() if side in found.peers},
    )


def first_step(name: str, batch: int) -> FirstStep:
    """What a network's steps begin with, the same in every run."""
    rng = np.random.default_rng(0)
    model = networks.network(name, nn).double()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters(rng)
    return FirstStep(
        np.concatenate([parameter.data.ravel() for parameter in model.parameters()]),
        rng.standard_normal((batch, *networks.INPUTS[name])),
        rng.integers(0, 10, batch),
    )


def gradients_and_slope(name: str, start: FirstStep) -> tuple[NDArray[np.float64], float]:
    """The gradients in float64, (1, parameters), and by how much the slope of the loss along them is not their length.

    The slope is that between two more forward passes, a small step before and after; the difference is relative.
    """

    def loss_at(values: NDArray[np.float64]) -> tuple[nn.Module, Tensor]:
        model = networks.network(name, nn).double()
        with no_grad():
            networks.set_parameters(model, values)
        return model, cross_entropy(model(start.images), start.labels)

    model, loss = loss_at(start.parameters)
    loss.backward()
    gradients = networks.gradients(model)
    length = float(np.linalg.norm(gradients))
    step = _DIFFERENCE / length * gradients
    with no_grad():
        above, below = (float(loss_at(start.parameters + sign * step)[1]) for sign in (1, -1))
    return gradients[None], abs((above - below) / (2 * _DIFFERENCE) / length - 1)
