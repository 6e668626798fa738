"""The film: what every step of an optimiser did to the weights, and of which parts it was made.

Each step is taken apart into what came from the gradient of this very step, what from the gradients before it (the
momentum) and what from weight decay; the three must sum to the change that the weights underwent. For plain SGD there
is only the first: update == -lr * gradient. From the first step to the last the weights stay in the same memory, and
what they have become is what they were plus the sum of the updates: nothing else is kept, and nothing is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer
from ..optim import SGD, Adam, AdamW, Optimizer
from ..tensor import Tensor
from .checks import Array, learned_tensor, require_close

# Computing an update rounds up to a dozen times (Adam), and each rounding may be half a unit in the last place.
_ROUNDINGS = 8


class Parts(NamedTuple):
    """An update, taken apart: float64 arrays of the parameter's shape, or 0, whose sum is the update."""

    gradient: Any  # from this step's gradient
    momentum: Any  # from those before it
    decay: Any  # from weight decay


@dataclass(frozen=True, eq=False)
class Reel:
    """What the film has of one parameter: F frames, one for each step that was kept, and sums over all steps.

    The parts of an update are None for an optimiser that this library does not have.
    """

    steps: NDArray[np.intp]  # (F,), numbers of the steps, from 0
    lr: NDArray[np.float64]  # (F,)
    before: Array  # (F, *shape), the weights before the step
    gradient: Array  # (F, *shape)
    update: Array  # (F, *shape), the weights after the step minus those before it
    from_gradient: Array | None  # (F, *shape), float64, and so the next two
    from_momentum: Array | None
    from_decay: Array | None
    start: Array  # the weights when the film began
    end: Array  # the weights now
    sum_from_gradient: Array | None  # float64, over all steps, also those that were not kept; and so the next two
    sum_from_momentum: Array | None
    sum_from_decay: Array | None
    address: int  # of the weights in memory, when the film began
    same_memory: bool  # whether they were there before and after every step
    discrepancy: float  # the largest |end - start - sum of the parts|
    tolerance: float  # what the rounding of all steps may amount to

    @property
    def moved(self) -> Array:
        """end - start, in float64."""
        return np.subtract(self.end, self.start, dtype=np.float64)


class _Frame(NamedTuple):
    step: int
    lr: float
    before: Array
    gradient: Array
    update: Array
    parts: Parts | None


@dataclass(eq=False)
class _Track:
    """What is recorded of one parameter."""

    name: str
    parameter: Tensor
    group: Mapping[str, Any]
    start: Array
    address: int
    same_memory: bool = True
    sums: Parts = field(default_factory=lambda: Parts(0.0, 0.0, 0.0))
    tolerance: float = 0.0
    frames: list[_Frame] = field(default_factory=list)


class Film:
    """Records an optimiser's steps: call `film.step()` where `optimizer.step()` stood.

        film = Film(optimizer, dict(model.named_parameters()))
        ...
        film.step()
        film["conv1.weight"].update

    parameters: those to record, by name.
    every: which steps are kept as frames.
    limit: how many frames are kept at most; when there are so many, every other one is dropped and `every` doubles, so
    that memory stays bounded and the frames evenly spaced. A frame takes 12 bytes a float32 weight, and 8 more for
    each part of the update that is not 0.

    Steps that are kept are checked weight by weight: `step` raises LensError if an update is not the sum of its parts
    to rounding. All steps enter the sums, which are checked when the reel is taken.
    """

    def __init__(
        self, optimizer: Optimizer, parameters: Mapping[str, Tensor], every: int = 1, limit: int = 128
    ) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Film: optimizer must be an Optimizer, got {optimizer!r}")
        if not isinstance(parameters, Mapping) or not parameters:
            raise TypeError(f"Film: parameters must be a dict of at least one tensor by name, got {parameters!r}")
        self.optimizer = optimizer
        self.every = integer("Film", "every", every, least=1)
        self.limit = integer("Film", "limit", limit, least=2)
        self.steps = 0
        self._tracks: dict[str, _Track] = {}
        groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in parameters.items():
            learned_tensor("Film", name, parameter)
            if id(parameter) not in groups:
                raise ValueError(f"Film: the optimizer does not update {name}, got {optimizer!r}")
            self._tracks[name] = _Track(name, parameter, groups[id(parameter)], _copy(parameter), _address(parameter))

    def step(self) -> None:
        """Lets the optimiser make its step, and records it. Parameters without a gradient have no frame of it."""
        keep = self.steps % self.every == 0
        started = []
        for track in self._tracks.values():
            p = track.parameter
            track.same_memory &= _address(p) == track.address
            if p.grad is not None:
                parts = _parts(self.optimizer, p, track.group)
                started.append((track, float(track.group["lr"]), _copy(p) if keep else None, p.grad, parts))
        self.optimizer.step()
        for track, lr, before, gradient, parts in started:
            after = track.parameter.data
            track.same_memory &= _address(track.parameter) == track.address
            if parts is not None:
                track.sums = Parts(*map(np.add, track.sums, parts))
                track.tolerance += _step_rounding(_largest(after), sum(map(_largest, parts)), after.dtype)
            if before is not None:
                if parts is not None:
                    change = np.subtract(after, before, dtype=np.float64)
                    tolerance = _step_rounding(np.abs(after), sum(map(np.abs, parts)), after.dtype)
                    what = f"step {self.steps} of {track.name}, the update and its parts"
                    require_close("Film", what, change, sum(parts), tolerance)
                track.frames.append(_Frame(self.steps, lr, before, _copy(gradient), after - before, parts))
        self.steps += 1
        if any(len(track.frames) >= self.limit for track in self._tracks.values()):
            self.every *= 2
            for track in self._tracks.values():
                track.frames = [frame for frame in track.frames if frame.step % self.every == 0]

    def __getitem__(self, name: str) -> Reel:
        """What was recorded of the parameter of this name.

        Raises LensError if it has been changed by anything but the recorded steps.
        """
        if name not in self._tracks:
            raise KeyError(f"Film: no parameter is called {name!r}, there are {', '.join(self._tracks)}")
        track = self._tracks[name]
        frames, shape, dtype = track.frames, track.start.shape, track.start.dtype
        end = _copy(track.parameter)
        known = type(self.optimizer) in _RULES
        discrepancy = 0.0
        if known:
            moved, total = np.subtract(end, track.start, dtype=np.float64), sum(track.sums)
            require_close("Film", f"{name}, end - start and the sum of all updates", moved, total, track.tolerance)
            discrepancy = float(np.max(np.abs(moved - total), initial=0.0))

        def stacked(values: list[Any], dtype: Any = np.float64) -> Array:
            result = np.zeros((len(frames), *shape), dtype)
            for i, value in enumerate(values):
                result[i] = value
            return result

        def part(number: int) -> Array | None:
            return stacked([frame.parts[number] for frame in frames if frame.parts]) if known else None

        def summed(number: int) -> Array | None:
            return np.zeros(shape) + track.sums[number] if known else None

        return Reel(
            steps=np.array([frame.step for frame in frames], np.intp),
            lr=np.array([frame.lr for frame in frames], np.float64),
            before=stacked([frame.before for frame in frames], dtype),
            gradient=stacked([frame.gradient for frame in frames], dtype),
            update=stacked([frame.update for frame in frames], dtype),
            from_gradient=part(0),
            from_momentum=part(1),
            from_decay=part(2),
            start=track.start.copy(),
            end=end,
            sum_from_gradient=summed(0),
            sum_from_momentum=summed(1),
            sum_from_decay=summed(2),
            address=track.address,
            same_memory=track.same_memory and _address(track.parameter) == track.address,
            discrepancy=discrepancy,
            tolerance=track.tolerance,
        )


def _copy(tensor: Tensor) -> Array:
    return np.array(tensor.data, order="K")


def _largest(array: Any) -> float:
    """The largest absolute value; two passes over the array, and no copy."""
    return max(float(np.max(array, initial=0.0)), -float(np.min(array, initial=0.0)))


def _step_rounding(weight: Any, update: Any, dtype: Any) -> Any:
    """The most by which rounding changes a step to a weight of this size, by an update whose parts have this size.

    The weight is rounded at most three times (AdamW: the factor by which it decays, and two operations on it), each
    time by half a unit in the last place.
    """
    numbers = np.finfo(dtype)
    return float(numbers.eps) * (1.5 * weight + _ROUNDINGS * update) + float(numbers.smallest_subnormal)


def _address(tensor: Tensor) -> int:
    """Where a tensor's numbers are in memory; a scalar, which is no array, has no place of its own."""
    return int(tensor.data.__array_interface__["data"][0]) if tensor.ndim else 0


def _sgd(p: Array, g: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Parts:
    """With v the velocity so far, the update is -lr * (now * (g + weight_decay * p) + past * v)."""
    lr, momentum, decay = (float(group[name]) for name in ("lr", "momentum", "weight_decay"))
    now, past = 1.0, 0.0
    if momentum:
        if state:
            now, past = 1 - float(group["dampening"]), momentum
        if group["nesterov"]:
            now, past = 1 + momentum * now, momentum * past
    return Parts(
        _times(-lr * now, g),
        _times(-lr * past, state["velocity"]) if past else 0.0,
        _times(-lr * now * decay, p) if decay else 0.0,
    )


def _adam(p: Array, g: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Parts:
    """Adam divides a mean of gradients by its size: the mean is taken apart. Decay is part of the gradient."""
    (beta1, beta2), decay = map(float, group["betas"]), float(group["weight_decay"])
    t = state.get("step", 0) + 1
    square = (1 - beta2) * (g + _times(decay, p)) ** 2
    if state:
        square += _times(beta2, state["mean_square"])
    scale = float(group["lr"]) / (1 - beta1**t) / (np.sqrt(square / (1 - beta2**t)) + float(group["eps"]))
    return Parts(
        scale * _times(beta1 - 1, g),
        scale * _times(-beta1, state["mean"]) if state else 0.0,
        scale * _times((beta1 - 1) * decay, p) if decay else 0.0,
    )


def _adamw(p: Array, g: Array, state: Mapping[str, Any], group: Mapping[str, Any]) -> Parts:
    """Adam without decay, which comes apart from the gradient."""
    gradient, momentum, _ = _adam(p, g, state, {**group, "weight_decay": 0.0})
    return Parts(gradient, momentum, _times(-float(group["lr"]) * float(group["weight_decay"]), p))


def _times(factor: float, array: Array) -> Array:
    return np.multiply(array, factor, dtype=np.float64)


_RULES = {SGD: _sgd, Adam: _adam, AdamW: _adamw}


def _parts(optimizer: Optimizer, p: Tensor, group: Mapping[str, Any]) -> Parts | None:
    """Of what the coming update will be made; None if the optimiser has a rule of its own."""
    rule = _RULES.get(type(optimizer))
    if rule is None or p.grad is None:
        return None
    return rule(p.data, p.grad.data, optimizer.state.get(p, {}), group)
