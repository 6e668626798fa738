"""Where max-pooling sends the gradient: all of a window's gradient to its winning cell, and none to the others.

A cell that wins no window learns nothing from this image; one that wins several, where windows overlap, gets the sum.
Where cells tie for the maximum, the first one in reading order wins, or, if the layer says so, all share equally.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..geometry import pool2d_geometry
from ..nn import MaxPool2d
from .checks import Array, require_close, rounding
from .observe import Loss, gradients, raw, run
from .taps import windows


@dataclass(frozen=True, eq=False)
class PoolingRoutes:
    """A max-pooling's maps, its winners, and the gradient on both sides of it."""

    input: Array  # (N, C, H, W)
    output: Array  # (N, C, oh, ow)
    row: NDArray[np.intp]  # (N, C, oh, ow), of the first cell of the window that has the maximum, and so the next
    column: NDArray[np.intp]  # (N, C, oh, ow)
    ties: NDArray[np.intp]  # (N, C, oh, ow), how many cells have the maximum: 1 where there is no tie
    wins: NDArray[np.intp]  # (N, C, H, W), in how many windows a cell receives gradient
    gradient_output: Array  # (N, C, oh, ow)
    gradient_input: Array  # (N, C, H, W), the engine's; equal to gradient_output added up at the winners


def pooling_routes(loss: Loss, pool: MaxPool2d) -> PoolingRoutes:
    """The routes of the gradient through a max-pooling, for the loss that `loss()` computes.

    Raises LensError if the gradient that arrived below is not the one above, sent to the winners; ValueError for maps
    that do not require a gradient or have a NaN, TypeError for another layer.
    """
    if not isinstance(pool, MaxPool2d):
        raise TypeError(f"pooling_routes: pool must be a MaxPool2d, got a {type(pool).__name__}")
    value, [call] = run("pooling_routes", loss, pool)
    output = call.output[0] if pool.return_indices else call.output
    gradient_output, gradient_input = gradients("pooling_routes", value, output=output, input=call.input)
    x, y = raw(call.input), raw(output)
    if np.isnan(y).any():
        raise ValueError("pooling_routes: the maps must not have a NaN")

    n, c, height, width = x.shape
    read = _windows(pool, x.shape)
    inside = x.reshape(n, c, -1)[:, :, np.maximum(read, 0)]
    equal = (inside == y[..., None]) & (read >= 0)
    ties = equal.sum(-1)
    takes = equal / ties[..., None] if pool.ties == "split" else equal & (np.cumsum(equal, axis=-1) == 1)
    winner = np.take_along_axis(np.broadcast_to(read, equal.shape), equal.argmax(-1)[..., None], -1)[..., 0]

    def scattered(values: Array) -> Array:
        """Values of windows and their cells, (N, C, oh, ow, cells), added up where they belong in the input."""
        places = np.arange(n * c).reshape(n, c, 1, 1, 1) * height * width + np.maximum(read, 0)
        return np.bincount(places.ravel(), values.ravel(), x.size).reshape(x.shape)

    sent = scattered(takes * gradient_output[..., None].astype(np.float64))
    sizes = scattered(takes * np.abs(gradient_output[..., None]).astype(np.float64))
    what = "the gradient below the pooling, and the one above it sent to the winners"
    require_close("pooling_routes", what, gradient_input, sent, rounding(read.shape[2], sizes, x.dtype))
    row, column = np.divmod(winner, width)
    return PoolingRoutes(
        input=x,
        output=y,
        row=row,
        column=column,
        ties=ties,
        wins=scattered((takes > 0).astype(np.float64)).astype(np.intp),
        gradient_output=gradient_output,
        gradient_input=gradient_input,
    )


def _windows(pool: MaxPool2d, shape: tuple[int, ...]) -> NDArray[np.intp]:
    """The cells of every window, row by row, -1 outside the maps: (oh, ow, cells of a window)."""
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    g = pool2d_geometry("pooling_routes", shape, *settings)
    # With ceil_mode a last window may reach beyond the padding.
    padding = tuple(
        (p, (o - 1) * s + d * (k - 1) + 1 - p - n)
        for n, o, k, s, p, d in zip(g.input, g.output, g.kernel, g.stride, g.padding, g.dilation, strict=True)
    )
    return windows(g.input, g.kernel, g.stride, padding, g.dilation).reshape(*g.output, -1)
