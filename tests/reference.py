"""Slow, obvious references of convolution and pooling, straight from the formulas: loops over taps, float64 arithmetic.

Each works on a geometry and plain ``(N, C, H, W)`` arrays. Padding is made explicit first, by writing the input into a
frame of zeros (or cutting it, where padding is negative), so that what follows needs no bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograd.geometry import Conv2dGeometry, Pool2dGeometry

Array = NDArray[Any]


def conv2d(x: Array, weight: Array, bias: Array | None, g: Conv2dGeometry) -> Array:
    """``y[n,o,i,j] = b[o] + sum over c,u,v of w[o,c,u,v] x[n,c',i*s-p+u*d,j*s-p+v*d]``, zero outside the input."""
    framed = _frame(x.astype(np.float64), g)
    y = np.zeros(g.y_shape)
    for group, inputs, outputs in _groups(g):
        for u, v, window in _taps(g):
            y[:, outputs] += np.einsum(
                "nchw,oc->nohw", framed[:, inputs][window], _group_taps(weight, g, group)[:, :, u, v]
            )
    return y if bias is None else y + bias.astype(np.float64)[:, None, None]


def conv2d_input(y: Array, weight: Array, g: Conv2dGeometry) -> Array:
    """``dx[n,c',h,w] += y[n,o,i,j] w[o,c,u,v]`` at ``h = i*s-p+u*d``, ``w = j*s-p+v*d``."""
    framed = np.zeros(_frame(np.zeros(g.x_shape), g).shape)
    for group, inputs, outputs in _groups(g):
        for u, v, window in _taps(g):
            products = np.einsum(
                "nohw,oc->nchw", y[:, outputs].astype(np.float64), _group_taps(weight, g, group)[:, :, u, v]
            )
            framed[:, inputs][window] += products
    return _unframe(framed, g)


def conv2d_weight(x: Array, y: Array, g: Conv2dGeometry) -> Array:
    """``dw[o,c,u,v] = sum over n,i,j of y[n,o,i,j] x[n,c',i*s-p+u*d,j*s-p+v*d]``."""
    framed = _frame(x.astype(np.float64), g)
    weight = np.zeros(g.weight_shape)
    for _, inputs, outputs in _groups(g):
        for u, v, window in _taps(g):
            weight[outputs, :, u, v] = np.einsum(
                "nohw,nchw->oc", y[:, outputs].astype(np.float64), framed[:, inputs][window]
            )
    return weight


def max_pool2d(x: Array, g: Pool2dGeometry) -> tuple[Array, Array]:
    """The maximum of every window and its position there, row-major over the kernel's cells.

    Cells are scanned row-major, those outside the input left out; a value is taken when it is the first, greater than
    the best, or NaN.
    """
    y = np.zeros(g.y_shape, x.dtype)
    offsets = np.zeros(g.y_shape, np.int64)
    for i, j in np.ndindex(*g.output):
        for n, c in np.ndindex(g.batch, g.channels):
            best = None
            for offset, h, w in _cells(g, i, j):
                value = x[n, c, h, w]
                if best is None or value > best or np.isnan(value):
                    best = value
                    offsets[n, c, i, j] = offset
            y[n, c, i, j] = best
    return y, offsets


def max_gather2d(x: Array, offsets: Array, g: Pool2dGeometry) -> Array:
    """The values of ``x`` at the positions ``offsets`` of their windows."""
    y = np.zeros(g.y_shape, x.dtype)
    for n, c, i, j in np.ndindex(*g.y_shape):
        cells = {offset: (h, w) for offset, h, w in _cells(g, i, j)}
        y[n, c, i, j] = x[n, c][cells[int(offsets[n, c, i, j])]]
    return y


def max_scatter2d(y: Array, offsets: Array, g: Pool2dGeometry) -> Array:
    """Every value of ``y`` added to the cell of its window that ``offsets`` names."""
    x = np.zeros(g.x_shape)
    for n, c, i, j in np.ndindex(*g.y_shape):
        cells = {offset: (h, w) for offset, h, w in _cells(g, i, j)}
        x[n, c][cells[int(offsets[n, c, i, j])]] += y[n, c, i, j]
    return x


def avg_pool2d(x: Array, g: Pool2dGeometry, count_include_pad: bool, divisor_override: int | None) -> Array:
    """The sum of every window over its divisor."""
    y = np.zeros(g.y_shape)
    for i, j in np.ndindex(*g.output):
        for _, h, w in _cells(g, i, j):
            y[:, :, i, j] += x[:, :, h, w].astype(np.float64)
        y[:, :, i, j] /= _divisor(g, i, j, count_include_pad, divisor_override)
    return y


def avg_pool2d_adjoint(y: Array, g: Pool2dGeometry, count_include_pad: bool, divisor_override: int | None) -> Array:
    """Every value of ``y``, over its window's divisor, added to all cells of its window."""
    x = np.zeros(g.x_shape)
    for i, j in np.ndindex(*g.output):
        share = y[:, :, i, j].astype(np.float64) / _divisor(g, i, j, count_include_pad, divisor_override)
        for _, h, w in _cells(g, i, j):
            x[:, :, h, w] += share
    return x


def _groups(g: Conv2dGeometry) -> Iterator[tuple[int, slice, slice]]:
    inputs, outputs = g.in_channels // g.groups, g.out_channels // g.groups
    for group in range(g.groups):
        yield group, slice(group * inputs, (group + 1) * inputs), slice(group * outputs, (group + 1) * outputs)


def _group_taps(weight: Array, g: Conv2dGeometry, group: int) -> Array:
    outputs = g.out_channels // g.groups
    return weight[group * outputs : (group + 1) * outputs].astype(np.float64)


def _taps(g: Conv2dGeometry) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Every tap with the part of the framed input that it reads, one value an output pixel."""
    for u, v in np.ndindex(*g.kernel):
        (sh, sw), (dh, dw), (oh, ow) = g.stride, g.dilation, g.output
        rows = slice(u * dh, u * dh + (oh - 1) * sh + 1, sh)
        columns = slice(v * dw, v * dw + (ow - 1) * sw + 1, sw)
        yield u, v, (slice(None), slice(None), rows, columns)


def _frame(x: Array, g: Conv2dGeometry) -> Array:
    """``x`` inside its padding, without the edges that negative padding crops."""
    positive = [(max(before, 0), max(after, 0)) for before, after in g.padding]
    return np.pad(x, [(0, 0), (0, 0), *positive])[_crop(g)]


def _unframe(framed: Array, g: Conv2dGeometry) -> Array:
    """The adjoint of ``_frame``."""
    (top, bottom), (left, right) = [(max(before, 0), max(after, 0)) for before, after in g.padding]
    height, width = g.input
    whole = np.zeros((*framed.shape[:2], top + height + bottom, left + width + right))
    whole[_crop(g)] = framed
    return whole[:, :, top : top + height, left : left + width]


def _crop(g: Conv2dGeometry) -> tuple[slice, ...]:
    edges = [slice(max(-before, 0), min(after, 0) or None) for before, after in g.padding]
    return (slice(None), slice(None), *edges)


def _cells(g: Pool2dGeometry, i: int, j: int) -> Iterator[tuple[int, int, int]]:
    """The cells of window ``(i, j)`` inside the input: position in the window, row, column."""
    for u, v in np.ndindex(*g.kernel):
        h = i * g.stride[0] - g.padding[0] + u * g.dilation[0]
        w = j * g.stride[1] - g.padding[1] + v * g.dilation[1]
        if 0 <= h < g.input[0] and 0 <= w < g.input[1]:
            yield u * g.kernel[1] + v, h, w


def _divisor(g: Pool2dGeometry, i: int, j: int, count_include_pad: bool, divisor_override: int | None) -> float:
    if divisor_override is not None:
        return divisor_override
    area = 1
    for axis, index in enumerate((i, j)):
        start = index * g.stride[axis] - g.padding[axis]
        end = min(start + g.kernel[axis], g.input[axis] + g.padding[axis])
        if not count_include_pad:
            start, end = max(start, 0), min(end, g.input[axis])
        area *= end - start
    return area
