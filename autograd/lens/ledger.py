"""The tap ledger: every term of which the gradient of one weight is the sum.

A weight w[o,c,u,v] meets, at every position of every image, one pixel, and what it contributes there to the loss is
that pixel times the gradient with respect to the output of the position. The chain rule adds these up:

    d loss / d w[o,c,u,v] = sum over n,i,j of upstream[n,o,i,j] * x[n,c, i*stride-padding+u*dilation, j*...]

This sum is all that a filter ever learns from a batch, and the ledger is its list of terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer
from ..functional import conv2d
from ..modes import enable_grad
from ..nn import Conv2d
from ..tensor import Tensor
from .checks import Array, conv_layer, convolution_rounding, element, require_close
from .observe import Loss, gradients, raw, run
from .taps import cells, channels, patches


@dataclass(frozen=True, eq=False)
class TapLedger:
    """The terms of one weight's gradient, T of them, the largest in absolute value first.

    image, row, column: where in the layer's output the term arose, integers (T,).
    pixel_row, pixel_column: the pixel of the layer's input that the weight met there, integers (T,).
    patches: what the whole filter saw at the first positions, (K, C / groups, kh, kw); 0 in the padding.
    """

    weight: tuple[int, int, int, int]
    value: float  # the weight itself
    gradient: float  # what backward gives for it
    total: float  # the sum of the terms, equal to the gradient to rounding
    tolerance: float  # what rounding may amount to
    padded: int  # positions that are left out, because the weight met a zero of the padding
    upstream: Array  # (T,), the gradient with respect to the output there
    pixel: Array  # (T,)
    term: NDArray[np.float64]  # (T,), upstream * pixel
    running_sum: NDArray[np.float64]  # (T,)
    image: NDArray[np.intp]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    pixel_row: NDArray[np.intp]
    pixel_column: NDArray[np.intp]
    patches: Array


def tap_ledger(loss: Loss, layer: Conv2d, weight: Any, top: int = 16) -> TapLedger:
    """The ledger of `layer.weight[o, c, u, v]` for the loss that `loss()` computes.

    loss: a function without arguments that runs the model, the layer once, and returns the loss, a scalar tensor.
    weight: (o, c, u, v). top: for how many terms the patches are returned.

    Raises LensError if the terms do not add up to the gradient (as when the loss uses the weight elsewhere, too),
    ValueError or TypeError for arguments that make no sense.
    """
    layer = conv_layer("tap_ledger", layer)
    o, c, u, v = element("tap_ledger", "weight", weight, layer.weight.shape)
    top = integer("tap_ledger", "top", top, least=0)
    value, [call] = run("tap_ledger", loss, layer)
    upstream, gradient = gradients("tap_ledger", value, output=call.output, weight=layer.weight)

    images = raw(call.input)
    n, _, height, width = images.shape
    read = np.broadcast_to(cells(layer, height, width)[:, :, u, v], (n, *upstream.shape[2:]))
    image, row, column = np.nonzero(read >= 0)
    pixel_row, pixel_column = np.divmod(read[image, row, column], width)
    factor = upstream[image, o, row, column]
    pixel = images[image, channels(layer, o).start + c, pixel_row, pixel_column]
    term = factor.astype(np.float64) * pixel

    order = np.argsort(-np.abs(term), kind="stable")
    running_sum = np.cumsum(term[order])
    total = float(running_sum[-1]) if order.size else 0.0
    sizes = _gradient(layer, np.abs(images), np.abs(upstream))
    tolerance = float(convolution_rounding(sizes, gradient.dtype)[o, c, u, v])
    place = f"the terms of weight[{o}, {c}, {u}, {v}] add up to the gradient"
    require_close("tap_ledger", place, total, gradient[o, c, u, v], tolerance)
    first = order[:top]
    return TapLedger(
        weight=(o, c, u, v),
        value=float(layer.weight.data[o, c, u, v]),
        gradient=float(gradient[o, c, u, v]),
        total=total,
        tolerance=tolerance,
        padded=read.size - term.size,
        upstream=factor[order],
        pixel=pixel[order],
        term=term[order],
        running_sum=running_sum,
        image=image[order],
        row=row[order],
        column=column[order],
        pixel_row=pixel_row[order],
        pixel_column=pixel_column[order],
        patches=patches(layer, images, o, image[first], row[first], column[first]),
    )


@enable_grad()
def _gradient(layer: Conv2d, images: Array, upstream: Array) -> Array:
    """The gradient with respect to a layer's filters, for other images and upstream gradients than its own."""
    weight = Tensor(layer.weight.data, requires_grad=True)
    settings = (layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)
    [gradient] = gradients("tap_ledger", conv2d(images, weight, None, *settings), upstream, weight=weight)
    return gradient
