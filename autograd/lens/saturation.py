"""Dead, sparse, saturated: three different things that an activation can make of a filter's map.

Sparse: zero at many positions, and not at others; that is a filter which answers to some patterns only. Saturated: so
far out on a flat part of the activation that little gradient passes. Dead: zero at every position of every image, with
slope 0; then no gradient passes at all, and the filter's is exactly 0. Which of them a filter is can only be said of a
set of images, not of a single one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import number
from ..functional import cross_entropy
from ..nn import Conv2d, Module
from .activation import slopes
from .checks import LensError, conv_layer, module
from .observe import gradients, in_batches, raw


@dataclass(frozen=True, eq=False)
class Saturation:
    """Of each of O filters, over N images: what the activation made of its maps. Shares lie between 0 and 1."""

    zeros_by_position: NDArray[np.float64]  # (O, h, w), the share of the images that are zero there
    zeros_by_image: NDArray[np.float64]  # (N, O), the share of the positions
    zeros: NDArray[np.float64]  # (O,), the share of all positions of all images
    saturated: NDArray[np.float64]  # (O,), the share of positions whose slope is smaller than the threshold
    dead: NDArray[np.bool_]  # (O,), zero and with slope 0 at every position of every image
    gradient_norm: NDArray[np.float64]  # (O,), Euclidean, of the mean loss of the images; exactly 0 where dead


def saturation(
    model: Module,
    layer: Conv2d,
    activation: Module,
    images: Any,
    labels: Any,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    batch_size: int = 500,
    threshold: float = 0.01,
) -> Saturation:
    """How often each of the layer's maps is zero or saturated after the activation, over a set of images.

    images: (N, C, H, W), as the model takes them; held-out ones, to say something about others than those learned.
    labels: (N,). loss: a function of the model's output and labels, the mean over the images.
    The model runs in evaluation mode, and keeps the mode and the gradients that it has.

    Raises LensError if the gradient of a dead filter is not exactly 0, ValueError or TypeError for arguments that make
    no sense.
    """
    layer, activation = conv_layer("saturation", layer), module("saturation", "activation", activation)
    threshold = number("saturation", "threshold", threshold, least=0)
    images = np.asarray(images)
    zero_maps, zeros_by_image, saturated, passing = [], [], [], []
    gradient = np.zeros(layer.weight.shape)
    batches = in_batches("saturation", model, batch_size, [layer, activation], images, np.asarray(labels), record=True)
    for (x, y), output, [_, call] in batches:
        before, after = raw(call.input), raw(call.output)
        if before.ndim != 4 or before.shape[1] != layer.out_channels or after.shape != before.shape:
            raise ValueError(
                f"saturation: the activation must take and return maps of {layer.out_channels} filters, it took "
                f"{before.shape} and returned {after.shape}"
            )
        [batch_gradient] = gradients("saturation", loss(output, y), weight=layer.weight)
        gradient += len(x) / len(images) * batch_gradient
        slope = slopes(activation, before)
        zero = after == 0
        zero_maps.append(zero.sum(0))
        zeros_by_image.append(zero.mean((2, 3)))
        saturated.append((np.abs(slope) < threshold).mean((2, 3)))
        passing.append((~zero | (slope != 0)).any((0, 2, 3)))
    dead = ~np.any(passing, axis=0)
    gradient_norm = np.sqrt((gradient**2).sum((1, 2, 3)))
    if gradient[dead].any():
        wrong = np.flatnonzero(dead & (gradient_norm > 0)).tolist()
        raise LensError(f"saturation: filters {wrong} are dead, and their gradient is not 0")
    zeros_by_position = sum(zero_maps) / len(images)
    return Saturation(
        zeros_by_position=zeros_by_position,
        zeros_by_image=np.concatenate(zeros_by_image),
        zeros=zeros_by_position.mean((1, 2)),
        saturated=np.concatenate(saturated).mean(0),
        dead=dead,
        gradient_norm=gradient_norm,
    )
