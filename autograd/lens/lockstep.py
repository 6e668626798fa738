"""The same network under several activations, trained in lockstep: same start, same batches, same steps.

Whatever differs in the end, in filters, dead maps or accuracy, comes from the activation alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer
from ..nn import Conv2d, Module
from .checks import Array, conv_layer
from .observe import part
from .saturation import saturation
from .training import evaluate, fit


@dataclass(frozen=True, eq=False)
class Lockstep:
    """What became of A models, looked at F times; shares are over the held-out images, between 0 and 1."""

    names: tuple[str, ...]  # (A,)
    steps: NDArray[np.intp]  # (F,), how many steps had been made
    losses: NDArray[np.float64]  # (A, steps), of every batch
    accuracy: NDArray[np.float64]  # (A, F), held-out
    filters: Array  # (A, F, O, C, kh, kw)
    dead: NDArray[np.float64]  # (A, F), the share of the filters
    saturated: NDArray[np.float64]  # (A, F), the share of the maps' values
    zeros: NDArray[np.float64]  # (A, F), the share of the maps' values


def lockstep(
    models: Mapping[str, Module],
    layer: str,
    activation: str,
    images: Any,
    labels: Any,
    test_images: Any,
    test_labels: Any,
    steps: int = 200,
    batch_size: int = 32,
    lr: float = 0.06,
    seed: int = 0,
    every: int = 50,
) -> Lockstep:
    """Trains the models, in place, on the same batches, and compares one layer's filters and maps on the way.

    models: by name, such as that of the activation; they must have parameters of the same names and start from the same
    bits. layer, activation: names of modules in each of them, the convolution and what follows it.
    every: after how many steps to look; also at the start and the end.

    Raises ValueError if the models do not start alike; otherwise as `fit` and `saturation`.
    """
    if not isinstance(models, Mapping) or not models:
        raise TypeError(f"lockstep: models must be a dict of at least one Module by name, got {models!r}")
    steps, every = integer("lockstep", "steps", steps, least=1), integer("lockstep", "every", every, least=1)
    layers = {
        name: (conv_layer("lockstep", part("lockstep", model, layer)), part("lockstep", model, activation))
        for name, model in models.items()
    }
    first, *others = models
    start = models[first].state_dict()
    for other in others:
        state = models[other].state_dict()
        if start.keys() != state.keys() or not all(np.array_equal(state[name], start[name]) for name in start):
            raise ValueError(f"lockstep: the models must start with the same values, {other!r} differs from {first!r}")

    looks = [step for step in range(steps + 1) if step % every == 0 or step == steps]
    losses: list[NDArray[np.float64]] = []
    frames: list[list[_Frame]] = []
    for name, model in models.items():
        seen: list[_Frame] = []

        def look(step: int, model: Module = model, name: str = name, seen: list[_Frame] = seen) -> None:
            if step in looks:
                seen.append(_look(model, *layers[name], test_images, test_labels))

        losses.append(fit(model, images, labels, steps, batch_size, lr, seed, look))
        frames.append(seen)
    accuracy, filters, dead, saturated, zeros = (
        np.array([[frame[i] for frame in row] for row in frames]) for i in range(len(_Frame._fields))
    )
    return Lockstep(tuple(models), np.array(looks), np.array(losses), accuracy, filters, dead, saturated, zeros)


class _Frame(NamedTuple):
    accuracy: float
    filters: Array
    dead: float
    saturated: float
    zeros: float


def _look(model: Module, layer: Conv2d, activation: Module, images: Any, labels: Any) -> _Frame:
    maps = saturation(model, layer, activation, images, labels)
    shares = (float(np.mean(share)) for share in (maps.dead, maps.saturated, maps.zeros))
    return _Frame(evaluate(model, images, labels)[1], layer.weight.data.copy(), *shares)
