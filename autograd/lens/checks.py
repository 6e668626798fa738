"""What every part of the lens checks: that two sums agree to rounding, and that arguments name things that exist."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer
from ..nn import Conv2d, Module
from ..tensor import Tensor

Array = NDArray[Any]


class LensError(AssertionError):
    """Two numbers that must be equal are not: what would have been shown is not what happened."""


def rounding(terms: int, magnitude: Any, dtype: Any) -> Any:
    """The most by which a sum of so many products may be off in a dtype, whatever the order in which it is taken.

    magnitude: the sum of the absolute values of the products; a number or an array.
    The bound is the probabilistic one, 8 sqrt(n) u times the magnitude, which fails for one sum in 10^13. (Higham and
    Mary 2019, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41.) Products too small
    for the dtype lose up to its smallest number each.
    """
    numbers = np.finfo(dtype)
    return 4 * float(numbers.eps) * math.sqrt(terms + 1) * magnitude + terms * float(numbers.smallest_subnormal)


def require_close(function: str, what: str, actual: Any, expected: Any, tolerance: Any) -> None:
    """Raises LensError unless the arrays differ by no more than the tolerance in every element; a NaN always does."""
    distance = np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64))
    wrong = ~(distance <= tolerance)
    if wrong.any():
        place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        first, second = (np.asarray(array)[place] for array in (actual, expected))
        limit = float(np.broadcast_to(tolerance, wrong.shape)[place])
        at = f" at {tuple(map(int, place))}" if place else ""
        raise LensError(f"{function}: {what}: {first} and {second} differ{at} by more than rounding ({limit:.3g})")


def conv_layer(function: str, layer: Any) -> Conv2d:
    """The layer, which must be a Conv2d."""
    if not isinstance(layer, Conv2d):
        raise TypeError(f"{function}: layer must be a Conv2d, got {_kind(layer)}")
    return layer


def module(function: str, argument: str, value: Any) -> Module:
    """A Module."""
    if not isinstance(value, Module):
        raise TypeError(f"{function}: {argument} must be a Module, got {_kind(value)}")
    return value


def learned_tensor(function: str, argument: str, value: Any) -> Tensor:
    """A leaf tensor that requires a gradient."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: {argument} must be a tensor, got {_kind(value)}")
    if not value.is_leaf or not value.requires_grad:
        raise ValueError(f"{function}: {argument} must be a leaf that requires a gradient, got {value!r}")
    return value


def element(function: str, argument: str, index: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of one element of an array of this shape, as Python integers that are not negative."""
    if not isinstance(index, tuple | list) or len(index) != len(shape):
        raise TypeError(f"{function}: {argument} must be {len(shape)} integers, an index into {shape}, got {index!r}")
    for number in index:
        integer(function, argument, number)
    if not all(0 <= number < size for number, size in zip(index, shape, strict=True)):
        raise ValueError(f"{function}: {argument} must be an index into shape {shape}, got {tuple(index)}")
    return tuple(map(int, index))


def _kind(value: object) -> str:
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
