"""Pooling: max-pooling is a gather whose adjoint is a scatter, average-pooling is linear and has its adjoint.

Each of a pair is the other's rule. The forward pass of max-pooling keeps where in its window each maximum was, in the
smallest integer that fits; its gradient goes back to exactly those cells. The other forms are composed.
"""

from __future__ import annotations

import builtins
import operator
from typing import Any

import numpy as np

from . import kernels
from .arguments import integer, number
from .geometry import Pool2dGeometry, pool2d_geometry
from .numpy import absolute, add_at, einsum, equal, getitem, max, pad, power, reshape, shape, sliding_window_view, where
from .primitive import Primitive
from .tensor import Tensor

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "lp_pool2d",
    "max_pool2d",
    "max_unpool2d",
]

Pair = int | tuple[int, int]

_max_pool2d: Primitive = Primitive(
    kernels.max_pool2d,
    has_residual=True,  # the offsets of the maxima in their windows
    x=lambda g, residual, geometry: _max_scatter2d(g, residual, geometry=geometry),
)
_max_gather2d: Primitive = Primitive(
    kernels.max_gather2d,
    x=lambda g, offsets, geometry: _max_scatter2d(g, offsets, geometry=geometry),
)
_max_scatter2d: Primitive = Primitive(
    kernels.max_scatter2d,
    y=lambda g, offsets, geometry: _max_gather2d(g, offsets, geometry=geometry),
)
_avg_pool2d: Primitive = Primitive(
    kernels.avg_pool2d,
    x=lambda g, geometry, count_include_pad, divisor_override: _avg_pool2d_adjoint(
        g, geometry=geometry, count_include_pad=count_include_pad, divisor_override=divisor_override
    ),
)
_avg_pool2d_adjoint: Primitive = Primitive(
    kernels.avg_pool2d_adjoint,
    y=lambda g, geometry, count_include_pad, divisor_override: _avg_pool2d(
        g, geometry=geometry, count_include_pad=count_include_pad, divisor_override=divisor_override
    ),
)


def max_pool2d(
    x: Any,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    ties: str = "first",
) -> Any:
    """The maximum of every window, as in PyTorch; stride defaults to the kernel's size.

    x: (N, C, H, W), float32 or float64; the result is (N, C, oh, ow). Padding is never chosen; a NaN is.
    ceil_mode: a last window may overhang the edge, if it starts inside the input or its left padding.
    return_indices: also return, as an int64 array, the position of each maximum in the flattened (H, W) plane.
    ties: which of equal maxima receives the gradient: the 'first' (row-major), or all, the gradient being 'split'.
    """
    geometry = pool2d_geometry("max_pool2d", shape(x), kernel_size, stride, padding, dilation, ceil_mode)
    if ties == "first":
        y = _max_pool2d(x, geometry=geometry)
    elif ties == "split":
        y = max(_windows(x, geometry, -np.inf), axis=(4, 5))
    else:
        raise ValueError(f"max_pool2d: ties must be 'first' or 'split', got {ties!r}")
    return (y, _positions(kernels.max_pool2d(_raw(x), geometry)[1], geometry)) if return_indices else y


def avg_pool2d(
    x: Any,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of every window, as in PyTorch; stride defaults to the kernel's size.

    x: (N, C, H, W), float32 or float64; the result is (N, C, oh, ow).
    count_include_pad: whether padding counts in the divisor; what overhangs it (ceil_mode) never does.
    divisor_override: divide by this instead.
    """
    geometry = pool2d_geometry("avg_pool2d", shape(x), kernel_size, stride, padding, 1, ceil_mode)
    return _avg_pool2d(x, geometry=geometry, count_include_pad=count_include_pad, divisor_override=divisor_override)


def lp_pool2d(x: Any, norm_type: float, kernel_size: Pair, stride: Pair | None = None, ceil_mode: bool = False) -> Any:
    """The p-norm of every window, (sum |x|^p)^(1/p), with p = norm_type >= 1; its derivative is 0 where it is 0."""
    p = number("lp_pool2d", "norm_type", norm_type, least=1)
    geometry = pool2d_geometry("lp_pool2d", shape(x), kernel_size, stride, 0, 1, ceil_mode)
    sums = _avg_pool2d(power(absolute(x), p), geometry=geometry, count_include_pad=True, divisor_override=1)
    empty = equal(sums, 0)
    return where(empty, 0, power(where(empty, 1, sums), 1 / p))


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """The mean of every bin, for a result of the given size; None keeps a size.

    Bin j of o over a size i covers [floor(j*i/o), ceil((j+1)*i/o)); bins may overlap.
    """
    sizes = _output_size("adaptive_avg_pool2d", x, output_size)
    means = []
    for n, bins in zip(shape(x)[2:], sizes, strict=True):
        matrix = np.zeros((bins, n), _raw(x).dtype)
        for j, (start, stop) in enumerate(_bins(n, bins)):
            matrix[j, start:stop] = 1 / (stop - start)
        means.append(matrix)
    return einsum("nchw,ih,jw->ncij", x, *means)


def adaptive_max_pool2d(x: Any, output_size: Any) -> Any:
    """The maximum of every bin (as in `adaptive_avg_pool2d`); the first of equal maxima receives the gradient."""
    sizes = _output_size("adaptive_max_pool2d", x, output_size)
    raw = _raw(x)
    batch, channels, height, width = raw.shape
    winners = np.empty((batch, channels, *sizes), np.int64)
    for i, (top, bottom) in enumerate(_bins(height, sizes[0])):
        for j, (left, right) in enumerate(_bins(width, sizes[1])):
            cells = raw[:, :, top:bottom, left:right].reshape(batch, channels, -1)
            rows, columns = np.divmod(np.argmax(cells, axis=2), right - left)
            winners[:, :, i, j] = (top + rows) * width + left + columns
    n, c = np.ogrid[:batch, :channels]
    plane = reshape(x, (batch, channels, height * width))
    return getitem(plane, (n[:, :, None, None], c[:, :, None, None], winners))


def max_unpool2d(
    x: Any, indices: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, output_size: Any = None
) -> Any:
    """Puts every value back to where `max_pool2d(..., return_indices=True)` found it, and 0 elsewhere.

    indices: integers of x's shape, positions in the flattened result plane; values whose indices coincide are added.
    output_size: (H, W) of the result, by default (size - 1) * stride - 2 * padding + kernel_size.
    Raises ValueError for an index outside the plane.
    """
    batch, channels, height, width = shape(x)
    if output_size is None:
        g = pool2d_geometry("max_unpool2d", (batch, channels, 2**20, 2**20), kernel_size, stride, padding)
        size = [
            (n - 1) * s - 2 * p + k for n, s, p, k in zip((height, width), g.stride, g.padding, g.kernel, strict=True)
        ]
    else:
        size = [operator.index(n) for n in output_size]
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"max_unpool2d: output_size must be two positive integers, got {tuple(size)}")
    positions = np.asarray(_raw(indices))
    if positions.dtype.kind not in "iu":
        raise TypeError(f"max_unpool2d: indices must be integers, got dtype {positions.dtype}")
    if positions.shape != shape(x):
        raise ValueError(f"max_unpool2d: indices must have shape {shape(x)}, got {positions.shape}")
    if positions.size and not (positions.min() >= 0 and positions.max() < size[0] * size[1]):
        wrong = positions[(positions < 0) | (positions >= size[0] * size[1])][0]
        raise ValueError(f"max_unpool2d: indices must lie in a plane of {size[0]} x {size[1]} cells, got {wrong}")
    n, c = np.ogrid[:batch, :channels]
    index = (n[:, :, None, None], c[:, :, None, None], positions)
    return reshape(add_at(index, x, (batch, channels, size[0] * size[1])), (batch, channels, *size))


def _raw(x: Any) -> Any:
    return x._data if isinstance(x, Tensor) else np.asarray(x)


def _windows(x: Any, g: Pool2dGeometry, value: float) -> Any:
    """Every window, as (N, C, oh, ow, kh, kw), of x with a border of `value`."""
    extent = tuple(d * (k - 1) + 1 for d, k in zip(g.dilation, g.kernel, strict=True))
    needed = [(o - 1) * s + e for o, s, e in zip(g.output, g.stride, extent, strict=True)]
    borders = [(p, builtins.max(n - p - i, 0)) for p, n, i in zip(g.padding, needed, g.input, strict=True)]
    x = pad(x, ((0, 0), (0, 0), *borders), constant_values=value)
    windows = sliding_window_view(x[:, :, : needed[0], : needed[1]], extent, (2, 3))
    steps = [slice(None, None, step) for step in (*g.stride, *g.dilation)]
    return windows[:, :, *steps]


def _positions(offsets: Any, g: Pool2dGeometry) -> Any:
    """Offsets in windows as positions in the flattened plane."""
    rows, columns = np.divmod(offsets.astype(np.int64), g.kernel[1])
    rows = rows * g.dilation[0] + (np.arange(g.output[0]) * g.stride[0] - g.padding[0])[:, None]
    columns = columns * g.dilation[1] + np.arange(g.output[1]) * g.stride[1] - g.padding[1]
    return rows * g.input[1] + columns


def _bins(n: int, bins: int) -> list[tuple[int, int]]:
    return [(j * n // bins, -((j + 1) * n // -bins)) for j in range(bins)]


def _output_size(function: str, x: Any, output_size: Any) -> tuple[int, int]:
    x_shape = shape(x)
    if len(x_shape) != 4 or 0 in x_shape[2:]:
        raise ValueError(f"{function}: x must have shape (N, C, H, W) with a plane that is not empty, got {x_shape}")
    sizes = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    if len(sizes) != 2:
        raise ValueError(f"{function}: output_size must be an integer or a pair, got {output_size!r}")
    rows, columns = (n if size is None else size for size, n in zip(sizes, x_shape[2:], strict=True))
    return integer(function, "output_size", rows, least=1), integer(function, "output_size", columns, least=1)
