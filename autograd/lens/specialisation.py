"""What each filter has come to stand for: what excites it, which classes and angles it prefers, what hangs on it.

Filters differ because they started differently and each was moved by its own gradient. None of these numbers takes part
in training; they describe the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer, number
from ..functional import cross_entropy
from ..modes import enable_grad
from ..nn import Conv2d, Module
from ..tensor import Tensor
from .checks import Array, conv_layer, module
from .observe import evaluating, gradients, in_batches, raw, watching
from .taps import patches
from .training import evaluate

FREQUENCIES = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8)
"""Of the gratings, in cycles per pixel; 1 / 2 is the finest that pixels can show."""


@dataclass(frozen=True, eq=False)
class TopPatches:
    """The K places, each in another image, where each of O filters answers most, the strongest first."""

    response: Array  # (O, K), the layer's output there
    image: NDArray[np.intp]  # (O, K)
    row: NDArray[np.intp]  # (O, K), in the layer's output; and so the next
    column: NDArray[np.intp]  # (O, K)
    patches: Array  # (O, K, C / groups, kh, kw), what the filter saw of the layer's input; 0 in the padding
    boxes: NDArray[np.intp]  # (O, K, 4), top, bottom, left, right (half-open) of the pixels on which the answer depends


@dataclass(frozen=True, eq=False)
class ClassSelectivity:
    """How much each of O filters answers to each class; an answer is the mean of the filter's map of an image.

    The index is that of Morcos et al. 2018, arXiv:1803.06959; it takes maps without negative numbers, and is nan where
    a mean is negative. `explained` takes any.
    """

    means: NDArray[np.float64]  # (O, classes); nan for a class without images
    preferred: NDArray[np.intp]  # (O,), the class of the largest mean
    explained: NDArray[np.float64]  # (O,), from 0 to 1: how much of the answers' variance is between the classes
    index: NDArray[np.float64]  # (O,), (largest - mean of the others) / (largest + mean of the others)


@dataclass(frozen=True, eq=False)
class OrientationTuning:
    """How strongly each of O filters answers to gratings of A angles and F frequencies, whatever their phase.

    Selectivity is 1 - the circular variance. (Ringach, Shapley and Hawken 2002, J. Neurosci. 22.)
    """

    angles: NDArray[np.float64]  # (A,), of the bars, in radians: 0 horizontal, pi / 4 rising to the right
    frequencies: NDArray[np.float64]  # (F,), in cycles per pixel
    responses: NDArray[np.float64]  # (O, F, A), the deviation of the map as the phase runs, root mean square
    tuning: NDArray[np.float64]  # (O, A), at the filter's best frequency
    preferred: NDArray[np.float64]  # (O,), in [0, pi]: the direction of the sum of tuning * exp(2i angle), halved
    selectivity: NDArray[np.float64]  # (O,), the length of that sum over the sum of tuning, from 0 (none) to 1


@dataclass(frozen=True, eq=False)
class Ablation:
    """What the network loses with each of O filters, over a set of images."""

    loss: float  # of the whole network
    accuracy: float
    losses: NDArray[np.float64]  # (O,), with that filter's map, bias included, set to 0
    accuracies: NDArray[np.float64]  # (O,)


@dataclass(frozen=True, eq=False)
class Distance:
    """How far each of O filters has come from where it started."""

    norm: NDArray[np.float64]  # (O,), Euclidean, of end - start
    relative: NDArray[np.float64]  # (O,), over the norm of the start; inf for a filter that started at 0
    cosine: NDArray[np.float64]  # (O,), of the angle between start and end; 0 if either is 0


def top_patches(model: Module, layer: Conv2d, images: Any, k: int = 9, batch_size: int = 500) -> TopPatches:
    """The patches that excite each filter of a layer most, one from each of k images.

    images: (N, C, H, W), as the model takes them, which runs in evaluation mode.
    The boxes are found by the engine: they hold every pixel with respect to which the answer's gradient is not 0.
    """
    layer, images = conv_layer("top_patches", layer), np.asarray(images)
    k = integer("top_patches", "k", k, least=1, most=max(len(images), 1))
    best, places, inputs = [], [], []
    for _, _, [call] in in_batches("top_patches", model, batch_size, [layer], images):
        maps = raw(call.output)
        inputs.append(raw(call.input))
        flat = maps.reshape(*maps.shape[:2], -1)
        places.append(flat.argmax(2))
        best.append(flat.max(2))
    response, place, seen = np.concatenate(best), np.concatenate(places), np.concatenate(inputs)
    image = np.argsort(-response, axis=0, kind="stable")[:k].T  # (O, k)
    filters = np.arange(layer.out_channels)[:, None]
    row, column = np.divmod(place[image, filters], maps.shape[3])
    boxes = [_boxes(model, layer, images[image[o]], o, row[o], column[o]) for o in range(layer.out_channels)]
    return TopPatches(
        response=response[image, filters],
        image=image,
        row=row,
        column=column,
        patches=np.array([patches(layer, seen, o, image[o], row[o], column[o]) for o in range(layer.out_channels)]),
        boxes=np.array(boxes),
    )


@enable_grad()
def _boxes(model: Module, layer: Conv2d, images: Array, filter: int, row: Array, column: Array) -> Array:
    """The smallest box around the pixels of each image on which the filter's answer at (row, column) depends."""
    pixels = Tensor(images, requires_grad=True)
    with evaluating(model), watching(layer) as calls:
        model(pixels)
    [[call]] = calls
    upstream = np.zeros(call.output.shape, call.output.dtype)
    upstream[np.arange(len(images)), filter, row, column] = 1
    [gradient] = gradients("top_patches", call.output, upstream, images=pixels)
    rows, columns = (np.any(gradient != 0, axis=axes) for axes in ((1, 3), (1, 2)))
    return np.array([_edges(rows[i]) + _edges(columns[i]) for i in range(len(images))])


def _edges(used: Array) -> tuple[int, int]:
    """The first and, exclusive, the last place that is used; (0, 0) if none is."""
    places = np.flatnonzero(used)
    return (int(places[0]), int(places[-1]) + 1) if places.size else (0, 0)


def class_selectivity(
    model: Module, layer: Module, images: Any, labels: Any, classes: int | None = None, batch_size: int = 500
) -> ClassSelectivity:
    """How each filter's answer depends on the class of the image.

    layer: the module whose output, (N, O, h, w), is looked at: the activation, or the convolution itself.
    labels: integers (N,). classes: how many there are, by default the largest label + 1.
    """
    layer, images, labels = module("class_selectivity", "layer", layer), np.asarray(images), np.asarray(labels)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise TypeError(f"class_selectivity: labels must be integers (N,), got {labels.dtype} of shape {labels.shape}")
    answers = []
    for _, _, [call] in in_batches("class_selectivity", model, batch_size, [layer], images, labels):
        maps = raw(call.output)
        if maps.ndim != 4:
            raise ValueError(f"class_selectivity: layer must return maps (N, O, h, w), got shape {maps.shape}")
        answers.append(maps.mean((2, 3), dtype=np.float64))
    answer = np.concatenate(answers)
    largest = int(labels.max())
    classes = integer("class_selectivity", "classes", largest + 1 if classes is None else classes, least=largest + 1)
    counts = np.bincount(labels, minlength=classes)
    sums = np.zeros((classes, answer.shape[1]))
    np.add.at(sums, labels, answer)
    with np.errstate(invalid="ignore"):
        means = (sums / counts[:, None]).T
    between = (counts * (means - answer.mean(0)[:, None]) ** 2)[:, counts > 0].sum(1)
    total = ((answer - answer.mean(0)) ** 2).sum(0)
    top = np.nanmax(means, axis=1)
    others = (np.nansum(means, axis=1) - top) / max(np.count_nonzero(counts) - 1, 1)
    usable = (np.nanmin(means, axis=1) >= 0) & (top > 0)
    return ClassSelectivity(
        means=means,
        preferred=np.nanargmax(means, axis=1),
        explained=np.divide(between, total, out=np.zeros_like(total), where=total > 0),
        index=np.divide(top - others, top + others, out=np.full(len(top), np.nan), where=usable),
    )


def orientation_tuning(
    model: Module,
    layer: Conv2d,
    image_shape: tuple[int, int, int],
    orientations: int = 16,
    frequencies: Sequence[float] = FREQUENCIES,
    phases: int = 8,
    batch_size: int = 500,
) -> OrientationTuning:
    """Shows the model gratings, cosine waves with bars of many angles, and returns how each filter of a layer answers.

    image_shape: (C, H, W) of what the model takes; a grating runs from -1 to 1, the same in all channels.
    phases: at least 3, evenly spaced, so that a filter's answer does not depend on where it stands on the wave.
    """
    layer = conv_layer("orientation_tuning", layer)
    orientations = integer("orientation_tuning", "orientations", orientations, least=2)
    phases = integer("orientation_tuning", "phases", phases, least=3)
    waves = np.array([number("orientation_tuning", "frequencies", f, least=0, most=0.5) for f in frequencies])
    if not waves.size:
        raise ValueError("orientation_tuning: frequencies must not be empty")
    if len(image_shape) != 3:
        raise ValueError(f"orientation_tuning: image_shape must be (C, H, W), got {image_shape}")
    angles = np.arange(orientations) * np.pi / orientations
    channels, height, width = image_shape
    rows, columns = np.mgrid[:height, :width]
    across = rows * np.cos(angles)[:, None, None] + columns * np.sin(angles)[:, None, None]  # (A, H, W)
    shifts = np.arange(phases) * 2 * np.pi / phases
    images = np.cos(2 * np.pi * waves[:, None, None, None, None] * across[:, None] + shifts[:, None, None])
    images = images.reshape(-1, 1, height, width).repeat(channels, axis=1).astype(layer.weight.dtype)
    maps = [raw(call.output) for _, _, [call] in in_batches("orientation_tuning", model, batch_size, [layer], images)]
    answers = np.concatenate(maps).reshape(len(waves), orientations, phases, layer.out_channels, -1)
    responses = np.sqrt(answers.var(axis=2, dtype=np.float64).mean(axis=-1)).transpose(2, 0, 1)
    best = responses.max(axis=2).argmax(axis=1)
    tuning = responses[np.arange(layer.out_channels), best]
    direction = tuning @ np.exp(2j * angles)
    total = tuning.sum(1)
    return OrientationTuning(
        angles=angles,
        frequencies=waves,
        responses=responses,
        tuning=tuning,
        preferred=np.angle(direction) / 2 % np.pi,
        selectivity=np.divide(np.abs(direction), total, out=np.zeros_like(total), where=total > 0),
    )


def filter_similarity(layer: Conv2d) -> NDArray[np.float64]:
    """The cosines of the angles between each two of a layer's filters, (O, O); 0 for a filter of zeros."""
    weight = conv_layer("filter_similarity", layer).weight.data
    unit = _unit(weight)
    return np.asarray(unit @ unit.T)


def ablation(
    model: Module,
    layer: Conv2d,
    images: Any,
    labels: Any,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    batch_size: int = 500,
) -> Ablation:
    """The loss and accuracy of the network without each filter of a layer in turn, over a set of images.

    A filter is taken away by multiplying its map, with its bias, by 0 on the way; no weight is changed.
    loss: a function of the model's output and labels, the mean over the images.
    """
    layer = conv_layer("ablation", layer)
    whole, accuracy = evaluate(model, images, labels, loss, batch_size)
    without = []
    for o in range(layer.out_channels):
        mask = np.ones((layer.out_channels, 1, 1), layer.weight.dtype)
        mask[o] = 0
        handle = layer.register_forward_hook(_multiplied(mask))
        try:
            without.append(evaluate(model, images, labels, loss, batch_size))
        finally:
            handle.remove()
    losses, accuracies = np.array(without).T
    return Ablation(whole, accuracy, losses, accuracies)


def _multiplied(mask: Array) -> Callable[..., Any]:
    return lambda layer, args, output: output * mask


def distance_from_start(start: Any, end: Any) -> Distance:
    """How far filters, (O, C, kh, kw), have come from what they were, of the same shape."""
    first, last = (np.asarray(raw(array), np.float64) for array in (start, end))
    if first.shape != last.shape or not first.ndim:
        raise ValueError(f"distance_from_start: end must have start's shape {first.shape}, got {last.shape}")
    norm = np.linalg.norm((last - first).reshape(len(first), -1), axis=1)
    size = np.linalg.norm(first.reshape(len(first), -1), axis=1)
    relative = np.divide(norm, size, out=np.full(len(norm), np.inf), where=size > 0)
    return Distance(norm, relative, (_unit(first) * _unit(last)).sum(1))


def _unit(filters: Array) -> Array:
    """The filters as flat vectors of length 1, or 0 where they are zero: (O, weights)."""
    flat = filters.reshape(len(filters), -1).astype(np.float64)
    size = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(np.divide(flat, size, out=np.zeros_like(flat), where=size > 0))
