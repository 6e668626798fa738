"""Checks derivatives: analytic against numeric ones along random directions, and linear maps against their adjoints.

Of a function f with arguments x and a random u of its result's shape, `check_grads` looks at `<u, f(x + t v)>` along a
random direction v. Its slope at t = 0, taken numerically, has to be `<gradient, v>`. A wrong element of the gradient
shows in almost every direction, so that one direction does for all elements. The gradient is itself a function, of x
and of u, and the same check of that one is the check of the next order.

The numeric slope is a central difference at two steps, h and h/2, extrapolated to fourth order (Richardson, 1911). In
float64 with h = 2**-13 its truncation error (about h**4 = 2e-16) and its rounding error (about 2e-16 / h = 2e-12) are
both far below the tolerance, and h is small enough not to step over most kinks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .arguments import integer
from .modes import enable_grad
from .tensor import Tensor, gradients

__all__ = ["GradientError", "check_adjoint", "check_grads"]

# By how many roundings of its result a function may err without being called wrong.
_ROUNDINGS = 16


class GradientError(AssertionError):
    """An analytic derivative differs from its numeric estimate; the message says where, and by how much."""


def check_grads(
    f: Callable[..., Any],
    args: Sequence[Any],
    order: int = 1,
    *,
    seed: int = 0,
    step: float = 2**-13,
    rtol: float = 1e-7,
    atol: float = 1e-14,
) -> None:
    """Checks all derivatives of `f(*args)` up to the given order against numeric ones.

    f: a deterministic function of tensors; returns a tensor, or a tuple or list of them. Results that are not floating
    are passed over, and arrays and numbers count as constants.
    args: floats, floating arrays and floating tensors are checked, as float64 (differences of float32 values say next
    to nothing: smaller floats are promoted); everything else is handed to f as it is.
    order: 2 checks the first and the second order, and so on. From the second order on, the gradient's own dependence
    on `u` (see above) is checked too. Every derivative is taken with and without `create_graph`.
    seed: what the directions are drawn from.
    step: the h above.
    rtol: the admitted difference, relative to the norm of the terms of the scalar product `<gradient, v>`, or to the
    slope if that is larger. What rounding does to the results of f is admitted besides.
    atol: the difference that is always admitted; where the true slope is 0, the numeric one is not exactly that.

    Raises GradientError for a difference, ValueError if there is nothing to check, TypeError if a result of f is
    floating but not float64.
    """
    order = integer("check_grads", "order", order, least=1)
    rng = np.random.default_rng(seed)
    values = [_promoted(arg) for arg in args]
    checked = [i for i, value in enumerate(values) if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    if not checked:
        raise ValueError(f"check_grads: args must hold something floating, got {args!r}")
    names = _names(f, len(args))
    function = f
    for k in range(1, order + 1):
        where = f"{_name(f)}, order {k}"
        outputs = _results(function, where, values)
        weights = [rng.standard_normal(output.shape) for output in outputs]
        gradient = [_gradient_map(function, where, checked, len(values), create) for create in (False, True)]
        analytic = [_results(g, where, [*values, *weights]) for g in gradient]
        for place, i in enumerate(checked):
            direction = rng.standard_normal(values[i].shape)
            slope = _slope(function, where, values, i, direction, weights, step)
            for created, found in zip((False, True), analytic, strict=True):
                terms = found[place] * direction
                tolerance = atol + slope.rounding + rtol * max(float(np.linalg.norm(terms)), abs(slope.value))
                if not abs(terms.sum() - slope.value) <= tolerance:  # so written that NaN raises
                    raise GradientError(
                        f"check_grads: {where}, argument {i} ({names[i]}), create_graph={created}\n"
                        f"  analytic    {terms.sum():.12g}\n"
                        f"  numeric     {slope.value:.12g}\n"
                        f"  difference  {abs(terms.sum() - slope.value):.3g}, admitted {tolerance:.3g}\n"
                        f"  direction   seed {seed}, begins {np.array2string(direction.ravel()[:4], precision=6)}\n"
                        f"  {slope.diagnosis(tolerance)}"
                    )
        names += [f"u[{j}], the gradient with respect to result {j} of order {k - 1}" for j in range(len(outputs))]
        checked += range(len(values), len(values) + len(weights))
        values += weights
        function = gradient[True]


def check_adjoint(
    linear: Callable[[Any], Any],
    adjoint: Callable[[Any], Any],
    x_shape: tuple[int, ...],
    y_shape: tuple[int, ...],
    *,
    seed: int = 0,
    dtype: Any = np.float64,
) -> None:
    """Checks `<linear(x), y> == <x, adjoint(y)>` for random x and y of these shapes: exact but for rounding.

    Both maps take an array or a tensor of the dtype, and return one. Raises GradientError for a difference of more than
    32 roundings of the sum of the absolute terms, or for a result of the wrong shape.
    """
    rng = np.random.default_rng(seed)
    x, y = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, y_shape))
    image, preimage = (_array(result) for result in (linear(x), adjoint(y)))
    if image.shape != y.shape or preimage.shape != x.shape:
        maps = f"{_name(linear)} maps {x.shape} to {image.shape}, and {_name(adjoint)} {y.shape} to {preimage.shape}"
        raise GradientError(f"check_adjoint: {maps}")
    ahead, back = image.astype(float) * y, x * preimage.astype(float)
    tolerance = 32 * float(np.finfo(dtype).eps) * max(np.abs(ahead).sum(), np.abs(back).sum())
    if not abs(ahead.sum() - back.sum()) <= tolerance:
        raise GradientError(
            f"check_adjoint: {_name(linear)} and {_name(adjoint)} are not adjoint: <A x, y> = {ahead.sum():.12g}, "
            f"<x, A' y> = {back.sum():.12g}, admitted {tolerance:.3g} (seed {seed})"
        )


class _Slope(NamedTuple):
    """Numeric slopes at 0 of a function of t, each taken with the step and with half of it."""

    central: tuple[float, float]
    left: tuple[float, float]
    right: tuple[float, float]
    rounding: float  # how far rounding may have moved them

    @property
    def value(self) -> float:
        coarse, fine = self.central
        return (4 * fine - coarse) / 3

    def diagnosis(self, tolerance: float) -> str:
        coarse, fine = self.central
        gaps = [abs(right - left) for left, right in zip(self.left, self.right, strict=True)]
        # Where a function is smooth the one-sided slopes approach each other in proportion to the step.
        if gaps[1] > 0.75 * gaps[0] and gaps[1] > tolerance:
            return (
                f"the point looks like a kink or a tie: the slope is {self.left[1]:.6g} before it "
                f"and {self.right[1]:.6g} after it"
            )
        if not abs(coarse - fine) <= max(tolerance, 1e-4 * abs(fine)):
            return (
                f"the numeric estimate does not settle as the step shrinks ({coarse:.6g}, then {fine:.6g}): "
                f"a kink or tie nearby, too large a step, or a function that is not deterministic"
            )
        return "the function looks smooth here"


def _slope(
    f: Callable[..., Any], where: str, values: list[Any], i: int, direction: Any, weights: list[Any], step: float
) -> _Slope:
    """The slopes of `<weights, f(values)>` as value i moves in the direction."""
    half = step / 2
    results = {
        t: _results(f, where, [*values[:i], np.asarray(values[i] + t * direction), *values[i + 1 :]])
        for t in (-step, -half, 0, half, step)
    }

    def between(start: float, end: float) -> float:
        # Differences are taken before they are weighed, so that the summation adds no rounding of its own.
        pairs = zip(weights, results[start], results[end], strict=True)
        return float(sum((u * (after - before)).sum() for u, before, after in pairs)) / (end - start)

    sizes = [sum(float(np.abs(u * y).sum()) for u, y in zip(weights, ys, strict=True)) for ys in results.values()]
    return _Slope(
        central=(between(-step, step), between(-half, half)),
        left=(between(-step, 0), between(-half, 0)),
        right=(between(0, step), between(0, half)),
        rounding=_ROUNDINGS * float(np.finfo(float).eps) * max(sizes) / step,
    )


def _gradient_map(
    f: Callable[..., Any], where: str, checked: list[int], count: int, create_graph: bool
) -> Callable[..., tuple[Tensor, ...]]:
    """Of f with `count` arguments x: (*x, *u, one for each result) -> the gradients of `<u, f(x)>` by `checked`."""
    checked = list(checked)

    def gradient(*values: Any) -> tuple[Tensor, ...]:
        with enable_grad():
            inputs = list(values[:count])
            for i in checked:
                if not inputs[i].requires_grad:
                    inputs[i] = Tensor(inputs[i].data, requires_grad=True)
            outputs = _floating(f(*inputs), where)
            depending = [(y, u) for y, u in zip(outputs, values[count:], strict=True) if y.requires_grad]
            found = gradients(
                [y for y, _ in depending],
                [inputs[i] for i in checked],
                [u for _, u in depending],
                create_graph=create_graph,
                allow_unused=True,
            )
        return tuple(Tensor(np.zeros(inputs[i].shape)) if g is None else g for i, g in zip(checked, found, strict=True))

    return gradient


def _results(f: Callable[..., Any], where: str, values: Sequence[Any]) -> list[Any]:
    """The floating results of f as arrays; float64 arrays reach f as tensors."""
    results = f(*(Tensor(v) if isinstance(v, np.ndarray) and v.dtype == np.float64 else v for v in values))
    return [np.asarray(tensor.data) for tensor in _floating(results, where)]


def _floating(results: Any, where: str) -> list[Tensor]:
    several = results if isinstance(results, tuple | list) else [results]
    tensors = [y if isinstance(y, Tensor) else Tensor(y) for y in several]
    tensors = [y for y in tensors if y.dtype.kind == "f"]
    if not tensors:
        raise ValueError(f"check_grads: {where}: the function must return something floating, got {results!r}")
    for j, y in enumerate(tensors):
        if y.dtype != np.float64:
            raise TypeError(f"check_grads: {where}: result {j} must be float64 for float64 arguments, got {y.dtype}")
    return tensors


def _promoted(arg: Any) -> Any:
    """A copy of a floating argument in float64; anything else as it is."""
    value = arg.data if isinstance(arg, Tensor) else arg
    if isinstance(value, float | np.floating | np.ndarray) and np.asarray(value).dtype.kind == "f":
        return np.array(value, dtype=np.float64)
    return arg


def _array(result: Any) -> Any:
    return np.asarray(result.data if isinstance(result, Tensor) else result)


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__qualname__", None) or getattr(f, "__name__", None) or repr(f)


def _names(f: Callable[..., Any], count: int) -> list[str]:
    """The names of f's first positional parameters, as far as they can be found out."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):  # some functions written in C have no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [*names, *(f"args[{i}]" for i in range(len(names), count))][:count]
