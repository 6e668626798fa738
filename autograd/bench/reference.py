"""The gate: nothing is timed before its whole result has been compared with float64 arithmetic that shares no code.

The reference multiplies explicit patches with NumPy's float64 matrix product, one image at a time, and every element of
every result is compared with it, twice:

- With normally distributed operands, the greatest error must be within the bound of the accuracy class. This finds
  rounding that is coarser than the class allows, and misplaced or missing parts.
- With operands of -1 and 1, every product is -1 or 1 and every result an integer that float32 and bfloat16 products
  represent exactly; a product that is missing, counted twice or taken at another place shifts it by 1 or 2. Results
  must be less than 1/2 from the exact integer (transforms of Winograd's kind divide, and so need not hit it exactly).
  This finds one wrong product among a million, which the bound of a coarse class alone would let through.

Both sets are random, so that operands that are interchanged, transposed or shifted do not give the same sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Conv2dGeometry
from .problem import shapes

Array = NDArray[Any]

# The greatest error over the greatest value. Direct float32 sums reach 2e-6, Winograd F(4x4, 3x3) 2e-5 and bfloat16
# operands 3e-3 on the largest layers here; float64 has 29 bits more than float32.
ERROR_BOUNDS = {"highest": 1e-5, "high": 5e-5, "medium": 1e-2, "float64": 1e-13}


def error_bound(dtype: str, precision: str) -> float:
    """What the error of a right result does not exceed, given its accuracy class (float64 has only one)."""
    return ERROR_BOUNDS["float64" if dtype == "float64" else precision]


def normal_operands(map_name: str, geometry: Conv2dGeometry, dtype: str) -> list[Array]:
    """The two operands of a map, normally distributed."""
    rng, kind = np.random.default_rng(0), np.dtype(dtype)
    return [rng.standard_normal(shape, kind.type) for shape in shapes(map_name, geometry)[:2]]


def sign_operands(map_name: str, geometry: Conv2dGeometry, dtype: str) -> list[Array]:
    """The two operands of a map, of -1 and 1."""
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 2, shape, np.int8) * 2 - 1).astype(dtype) for shape in shapes(map_name, geometry)[:2]]


def relative_error(result: Array, reference: Array) -> float:
    """The greatest absolute error over the greatest absolute value; NaN if anything is."""
    worst, largest = _greatest_difference(result, reference), float(np.abs(reference).max(initial=0))
    return worst / largest if largest else worst


def wrong_products(result: Array, reference: Array) -> bool:
    """Whether a result of sign operands is anywhere 1/2 or more from the exact integer."""
    return not _greatest_difference(result, reference) < 0.5


def _greatest_difference(result: Array, reference: Array) -> float:
    if result.shape != reference.shape:
        raise ValueError(f"the result has shape {result.shape}, not {reference.shape}")
    return float(max((np.abs(ours - theirs).max() for ours, theirs in zip(result, reference, strict=True)), default=0))


def reference(map_name: str, first: Array, second: Array, g: Conv2dGeometry) -> Array:
    """The result of a map in float64, by explicit patches and NumPy's matrix product."""
    outputs, depth = g.out_channels // g.groups, g.in_channels // g.groups * g.kernel[0] * g.kernel[1]
    pixels = g.output[0] * g.output[1]
    if map_name == "conv2d_weight":
        weight = np.zeros((g.groups, outputs, depth))
        for x, y in zip(first, second, strict=True):
            weight += y.reshape(g.groups, outputs, pixels).astype(np.float64) @ _patches(x, g).transpose(0, 2, 1)
        return weight.reshape(g.weight_shape)
    filters = second.reshape(g.groups, outputs, depth).astype(np.float64)
    if map_name == "conv2d":
        images = ((filters @ _patches(x, g)).reshape(g.y_shape[1:]) for x in first)
        return np.array(list(images)).reshape(g.y_shape)
    columns = (filters.transpose(0, 2, 1) @ y.reshape(g.groups, outputs, pixels).astype(np.float64) for y in first)
    return np.array([_sum_of_patches(patches, g) for patches in columns]).reshape(g.x_shape)


def _windows(framed: Array, g: Conv2dGeometry) -> Array:
    """A view of a framed image: (channels, kernel height, kernel width, output height, output width)."""
    extents = tuple(d * (k - 1) + 1 for d, k in zip(g.dilation, g.kernel, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(framed, extents, (1, 2), writeable=True)
    (sh, sw), (dh, dw) = g.stride, g.dilation
    return np.asarray(windows[:, ::sh, ::sw, ::dh, ::dw].transpose(0, 3, 4, 1, 2))


def _frame(g: Conv2dGeometry) -> tuple[Array, tuple[slice, ...]]:
    """Zeros for an image with its padding, and where in it the image is."""
    (top, bottom), (left, right) = g.padding
    height, width = g.input
    framed = np.zeros((g.in_channels, top + height + bottom, left + width + right))
    return framed, (slice(None), slice(top, top + height), slice(left, left + width))


def _patches(x: Array, g: Conv2dGeometry) -> Array:
    """One image as (groups, channels of a group x kernel, output pixels)."""
    framed, inside = _frame(g)
    framed[inside] = x
    return _windows(framed, g).reshape(g.groups, -1, g.output[0] * g.output[1])


def _sum_of_patches(patches: Array, g: Conv2dGeometry) -> Array:
    """The adjoint of `_patches`: every value of a patch added to the pixel that it came from."""
    framed, inside = _frame(g)
    windows = _windows(framed, g)
    values = patches.reshape(windows.shape)
    for u, v in np.ndindex(*g.kernel):  # the windows of one tap do not overlap
        windows[:, u, v] += values[:, u, v]
    return framed[inside]
