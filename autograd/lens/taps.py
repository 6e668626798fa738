"""Which pixel every weight of a filter meets at every position."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..conv import conv2d
from ..nn import Conv2d
from .checks import Array


def windows(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: Any,
    padding: Any,
    dilation: Any,
    padding_mode: str = "zeros",
) -> NDArray[np.intp]:
    """For planes of this size, the cell that tap (u, v) of the window at (i, j) covers: (oh, ow, kh, kw).

    Cells are numbered row by row; -1 stands for a zero of the padding. The other arguments are those of `conv2d`, and
    it is conv2d that gives the answer: run over a plane of these numbers, a filter that is 1 at one tap and 0 elsewhere
    returns the number that it finds there, exactly, as float64 holds integers up to 2^53.
    """
    height, width = size
    kh, kw = kernel
    numbers = np.arange(1.0, height * width + 1).reshape(1, 1, height, width)
    single = np.eye(kh * kw).reshape(kh * kw, 1, kh, kw)
    found = np.asarray(conv2d(numbers, single, None, stride, padding, dilation, 1, padding_mode))
    _, _, oh, ow = found.shape
    return found.reshape(kh, kw, oh, ow).transpose(2, 3, 0, 1).astype(np.intp) - 1


def cells(layer: Conv2d, height: int, width: int) -> NDArray[np.intp]:
    """For images of this size, the pixel that tap (u, v) of a layer reads at output position (i, j): (oh, ow, kh, kw).

    Pixels are numbered row by row; -1 stands for a zero of the padding.
    """
    return windows((height, width), layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.padding_mode)


def channels(layer: Conv2d, filter: int) -> slice:
    """The input channels that a filter reads: those of its group."""
    per_group = layer.in_channels // layer.groups
    first = filter // (layer.out_channels // layer.groups) * per_group
    return slice(first, first + per_group)


def patches(
    layer: Conv2d, images: Array, filter: int, image: NDArray[np.intp], row: NDArray[np.intp], column: NDArray[np.intp]
) -> Array:
    """What a filter saw at K positions of the layer's output: (K, C / groups, kh, kw), 0 in the padding.

    images: the layer's input, (N, C, H, W). image, row, column: integers (K,).
    """
    height, width = images.shape[2:]
    read = cells(layer, height, width)[row, column][:, None]  # (K, 1, kh, kw)
    planes = images[:, channels(layer, filter)].reshape(len(images), -1, height * width)
    channel = np.arange(planes.shape[1])[:, None, None]
    return np.where(read < 0, 0, planes[image[:, None, None, None], channel, read])
