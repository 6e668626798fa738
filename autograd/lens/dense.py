"""A convolution is a dense layer most of whose weights are zero, and whose others are tied to one another.

Written out as a matrix, y = M x, the same filter weight stands in as many places as the filter has positions. A dense
layer would learn every entry of M by itself, with the gradient upstream * x; the convolution adds these gradients up
over all entries that are the same weight. Nothing else distinguishes the two, and both are updated by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..functional import conv2d, conv2d_weight, linear
from ..modes import enable_grad
from ..nn import Conv2d
from ..tensor import Tensor
from .checks import Array, conv_layer, convolution_rounding, require_close, rounding
from .observe import gradients
from .taps import cells, channels

_LARGEST = 2**24  # entries of the matrix: 128 MB of float64


@dataclass(frozen=True, eq=False)
class DenseTie:
    """A convolution and the dense layer that computes the same.

    A row of the matrix is one output (filter, row, column), a column one input (channel, row, column), each flattened.
    """

    matrix: Array  # (O * oh * ow, C * H * W)
    ties: NDArray[
        np.intp
    ]  # the same shape: which weight, flat, an entry is; -1 where inputs and outputs do not connect
    output_conv: Array  # (N, O, oh, ow)
    output_dense: Array  # (N, O, oh, ow), equal to output_conv to rounding
    dense_gradient: Array  # the matrix's shape: what a dense layer would learn by
    tied_gradient: Array  # (O, C / groups, kh, kw), the dense gradient summed over the entries that are one weight
    filter_gradient: Array  # (O, C / groups, kh, kw), the convolution's own, equal to tied_gradient to rounding
    tolerance: float  # the most that rounding may amount to in a gradient
    connections: int  # entries of the matrix that are a weight
    weights: int  # weights of the filters, each of which stands in connections / weights places on average


@enable_grad()
def dense_tie(layer: Conv2d, images: Any, upstream: Any = None) -> DenseTie:
    """The layer beside the dense layer that it is, on images (N, C, H, W), small ones: the matrix has many entries.

    upstream: the gradient with respect to the layer's output, of its shape; drawn at random, with seed 0, if None.

    Raises LensError if outputs or gradients differ by more than rounding; ValueError for a matrix of more than 2^24
    entries, or a padding mode that adds pixels of the image to its border, where an entry would be a sum of weights.
    """
    layer = conv_layer("dense_tie", layer)
    if layer.padding_mode != "zeros":
        raise ValueError(f"dense_tie: padding_mode must be 'zeros', got {layer.padding_mode!r}")
    dtype = layer.weight.dtype
    x = np.asarray(images, dtype)
    if x.ndim != 4 or x.shape[1] != layer.in_channels:
        raise ValueError(f"dense_tie: images must have shape (N, {layer.in_channels}, H, W), got {x.shape}")
    weight = Tensor(layer.weight.data, requires_grad=True)
    bias = None if layer.bias is None else layer.bias.data
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
    y = conv2d(x, weight, bias, *settings)
    g = np.random.default_rng(0).normal(size=y.shape) if upstream is None else np.asarray(upstream)
    if g.shape != y.shape:
        raise ValueError(f"dense_tie: upstream must have shape {y.shape}, got {g.shape}")
    g = g.astype(dtype)

    ties = _ties(layer, *x.shape[2:])
    entries = np.where(ties < 0, 0, layer.weight.data.reshape(-1)[ties])
    matrix = Tensor(entries, requires_grad=True)
    o, c, kh, kw = weight.shape
    positions = y.shape[2] * y.shape[3]
    dense = linear(x.reshape(len(x), -1), matrix, None if bias is None else np.repeat(bias, positions))

    [filter_gradient] = gradients("dense_tie", y, g, weight=weight)
    [dense_gradient] = gradients("dense_tie", dense, g.reshape(dense.shape), matrix=matrix)
    used = ties >= 0
    tied_gradient = np.bincount(ties[used], dense_gradient[used], minlength=weight.size).reshape(weight.shape)

    # Both sides round; the sums of absolute values say how much.
    sizes = conv2d(np.abs(x), np.abs(weight.data), None if bias is None else np.abs(bias), *settings)
    tolerance = convolution_rounding(sizes, dtype) + rounding(c * kh * kw, sizes, dtype)
    output_dense = dense.data.reshape(y.shape)
    require_close("dense_tie", "the outputs of the convolution and of the dense layer", y.data, output_dense, tolerance)
    sizes = conv2d_weight(np.abs(x), (o, c, kh, kw), np.abs(g), *settings)
    tolerance = convolution_rounding(sizes, dtype) + rounding(len(x), sizes, dtype)
    what = "the filter gradient and the dense gradient summed over the ties"
    require_close("dense_tie", what, filter_gradient, tied_gradient, tolerance)
    return DenseTie(
        matrix=entries,
        ties=ties,
        output_conv=y.data,
        output_dense=output_dense,
        dense_gradient=dense_gradient,
        tied_gradient=tied_gradient,
        filter_gradient=filter_gradient,
        tolerance=float(np.max(tolerance, initial=0.0)),
        connections=int(used.sum()),
        weights=weight.size,
    )


def _ties(layer: Conv2d, height: int, width: int) -> NDArray[np.intp]:
    """Which weight, flat, connects every input with every output: (O * oh * ow, C * H * W), -1 where none does."""
    read = cells(layer, height, width)
    oh, ow = read.shape[:2]
    rows, columns = layer.out_channels * oh * ow, layer.in_channels * height * width
    if rows * columns > _LARGEST:
        raise ValueError(
            f"dense_tie: the matrix of images of {height} x {width} would have {rows} x {columns} entries, more than "
            f"{_LARGEST}; cut a smaller piece out of them"
        )
    numbers = np.arange(layer.weight.size).reshape(layer.weight.shape)
    ties = np.full((layer.out_channels, oh, ow, layer.in_channels, height * width), -1)
    i, j, u, v = np.nonzero(read >= 0)
    for o in range(layer.out_channels):
        for c, channel in enumerate(range(layer.in_channels)[channels(layer, o)]):
            ties[o, i, j, channel, read[i, j, u, v]] = numbers[o, c, u, v]
    return ties.reshape(rows, columns)
