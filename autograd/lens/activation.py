"""Activation is a step of its own: it edits the map that a filter has made, and never the filter.

The gradient comes back through the same step: what arrives at the map before the activation is what arrived after it,
times the activation's slope. ReLU's slope is 1 or 0, a mask; where it is 0 the position teaches the filter nothing.
Only the optimiser changes the filter, and only by what has come back so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..modes import enable_grad
from ..nn import Conv2d, Module
from ..tensor import Tensor
from .checks import Array, LensError, conv_layer, module, require_close
from .observe import Loss, gradients, raw, run


@dataclass(frozen=True, eq=False)
class ActivationStep:
    """What an activation does to a layer's maps, and to the gradient on its way back.

    A filter of zeros and a map of zeros are different things. A filter of zeros makes a map that is its bias
    everywhere, and learns as soon as a gradient arrives. A map of zeros after ReLU can come from a filter full of
    numbers; no gradient passes, so they stay as they are, until other images or other layers let the map be positive.
    """

    before: Array  # (N, O, h, w), what the activation was given
    after: Array  # (N, O, h, w), what it made of that
    slope: Array  # (N, O, h, w), d after / d before
    mask: NDArray[np.bool_]  # slope != 0: where gradient passes
    gradient_after: Array  # d loss / d after
    gradient_before: Array  # d loss / d before, equal to gradient_after * slope
    filters: Array  # (O, C, kh, kw), before the layer ran
    filters_after_forward: Array  # after the layer, the activation and the gradient's way back: the same bits
    filter_gradient: Array  # (O, C, kh, kw)
    filter_is_zero: NDArray[np.bool_]  # (O,)
    map_is_zero: NDArray[np.bool_]  # (O,), after the activation, at every position of every image
    gradient_is_zero: NDArray[np.bool_]  # (O,), of the filter


def activation_step(loss: Loss, layer: Conv2d, activation: Module) -> ActivationStep:
    """Maps and gradients on both sides of the activation that follows a layer, for the loss that `loss()` computes.

    activation: a module that works on every element alone and keeps the shape of the layer's maps, which it is given
    directly or after normalisation.

    Raises LensError if the gradient before the activation is not the one after it times the slope, or if a filter has
    changed, ValueError or TypeError for arguments that make no sense.
    """
    layer, activation = conv_layer("activation_step", layer), module("activation_step", "activation", activation)
    filters = layer.weight.data.copy()
    value, [convolution, call] = run("activation_step", loss, layer, activation)
    before, after = raw(call.input), raw(call.output)
    if raw(convolution.output).shape != before.shape or before.shape != after.shape:
        raise ValueError(
            f"activation_step: the activation must keep the shape of the layer's maps, {convolution.output.shape}, "
            f"it was given {before.shape} and returned {after.shape}"
        )
    gradient_before, gradient_after, filter_gradient = gradients(
        "activation_step", value, before=call.input, after=call.output, weight=layer.weight
    )
    slope = slopes(activation, before)
    # One rounding in the product, and a few in a slope that is computed by another order of the same operations.
    numbers = np.finfo(before.dtype)
    tolerance = 16 * numbers.eps * np.abs(gradient_after) * np.maximum(np.abs(slope), 1) + numbers.smallest_subnormal
    what = "the gradient before the activation, and the one after it times the slope"
    require_close("activation_step", what, gradient_before, gradient_after * slope, tolerance)
    if not np.array_equal(filters.view(np.uint8), layer.weight.data.copy().view(np.uint8)):
        raise LensError("activation_step: running the model has changed the filters")
    return ActivationStep(
        before=before,
        after=after,
        slope=slope,
        mask=slope != 0,
        gradient_after=gradient_after,
        gradient_before=gradient_before,
        filters=filters,
        filters_after_forward=layer.weight.data.copy(),
        filter_gradient=filter_gradient,
        filter_is_zero=np.logical_not(filters.any(axis=(1, 2, 3))),
        map_is_zero=np.logical_not(after.any(axis=(0, 2, 3))),
        gradient_is_zero=np.logical_not(filter_gradient.any(axis=(1, 2, 3))),
    )


@enable_grad()
def slopes(activation: Module, x: Array) -> Array:
    """An elementwise activation's derivative at every element of x, from the engine."""
    tensor = Tensor(x, requires_grad=True)
    [slope] = gradients("slopes", activation.forward(tensor), np.ones_like(x), before=tensor)
    return slope
