"""What every part of the lens checks: that two sums agree to rounding, and that arguments name things that exist."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer
from ..kernels import get_float32_precision
from ..nn import Conv2d, Module
from ..tensor import Tensor

Array = NDArray[Any]


class LensError(AssertionError):
    """Two numbers that must be equal are not: what would have been shown is not what happened."""


def rounding(terms: int, magnitude: Any, dtype: Any) -> Any:
    """The most by which a sum of so many products may be off in a dtype.

    magnitude: the sum of the absolute values of the products; a number or an array.
    Each term can be rounded by half an epsilon of the magnitude, and the roundings of a long sum partly cancel, so that
    16 epsilons are allowed for any. Products too small for the dtype lose up to its smallest number each.
    """
    numbers = np.finfo(dtype)
    return min(terms + 1, 16) * float(numbers.eps) * magnitude + terms * float(numbers.smallest_subnormal)


def convolution_rounding(magnitude: Array, dtype: Any) -> NDArray[np.float64]:
    """The most by which the sums that a convolution kernel computes may be off, at the precision that is set.

    magnitude: for every sum, that of the absolute values of its products, (..., height, width). Kernels may combine the
    sums of neighbouring positions (or taps), and then share their errors: the largest one in the plane counts.
    """
    numbers = np.finfo(dtype)
    exact = 16 * float(numbers.eps)
    relative = {"highest": exact, "high": 2e-5, "medium": 2.0**-8 + exact}[get_float32_precision()]
    largest = np.max(magnitude, axis=(-2, -1), keepdims=True, initial=0)
    scaled = largest * (relative if numbers.dtype == np.float32 else exact) + float(numbers.smallest_normal)
    return np.broadcast_to(scaled, magnitude.shape).astype(np.float64)


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
