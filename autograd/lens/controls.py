"""Two experiments that say what learning owes to where it starts.

Filters that are equal, and whose maps are used equally, get equal gradients, and stay equal for ever: what makes
filters different is that they started different. And a layer whose filters stay random still serves: what the others
learn on top of it shows how much the learning of its filters adds.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..modes import no_grad
from ..nn import Conv2d, Linear, Module
from .checks import Array, LensError, conv_layer, element
from .observe import part
from .training import evaluate, fit


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Two filters that started equal, after each of S steps; a distance is the largest difference of their weights."""

    pair: tuple[int, int]
    distance: NDArray[np.float64]  # (S + 1,), where the next layer uses both maps equally, too: twins
    moved: float  # the largest change of the first twin's weights
    filters: Array  # (2, C, kh, kw), the twins at the end
    control: NDArray[np.float64]  # (S + 1,), the distance where the next layer uses the two maps differently


@dataclass(frozen=True, eq=False)
class FrozenFilters:
    """One network trained twice, with a layer's filters left as they were drawn, and with all that it has."""

    start_accuracy: float  # on the held-out images, before any step
    frozen_accuracy: float  # after training all but the layer
    learned_accuracy: float  # after training everything
    frozen_losses: NDArray[np.float64]  # (steps,), of every batch
    learned_losses: NDArray[np.float64]  # (steps,)
    start: Array  # (O, C, kh, kw)
    frozen: Array  # (O, C, kh, kw), every bit as at the start
    learned: Array  # (O, C, kh, kw)


@no_grad()
def make_twins(layer: Conv2d, consumer: Module, pair: tuple[int, int] = (0, 1)) -> None:
    """Makes the second filter equal to the first, and the consumer use both maps equally; in place.

    consumer: the next Conv2d, or the Linear that takes the flattened maps. What lies between must treat all maps alike,
    as activations and pooling do, and a normalisation whose parameters have not been trained.
    """
    _equal_filters(layer, pair)
    first, second = pair
    if isinstance(consumer, Conv2d) and consumer.in_channels == layer.out_channels and consumer.groups == 1:
        consumer.weight[:, second] = consumer.weight.data[:, first]
    elif isinstance(consumer, Linear) and consumer.in_features % layer.out_channels == 0:
        by_map = consumer.weight.data.reshape(consumer.out_features, layer.out_channels, -1).copy()
        by_map[:, second] = by_map[:, first]
        consumer.weight[...] = by_map.reshape(consumer.weight.shape)
    else:
        raise ValueError(
            f"make_twins: consumer must be a Conv2d without groups, or a Linear, that takes {layer.out_channels} maps, "
            f"got {consumer!r}"
        )


def _equal_filters(layer: Conv2d, pair: tuple[int, int]) -> None:
    conv_layer("make_twins", layer)
    first, second = element("make_twins", "pair", pair, (layer.out_channels, layer.out_channels))
    per_group = layer.out_channels // layer.groups
    if first == second or first // per_group != second // per_group:
        raise ValueError(f"make_twins: pair must be two different filters of one group, got {pair}")
    for parameter in (layer.weight, layer.bias):
        if parameter is not None:
            parameter[second] = parameter.data[first]


def symmetry(
    model: Module,
    layer: str,
    consumer: str,
    images: Any,
    labels: Any,
    pair: tuple[int, int] = (0, 1),
    steps: int = 200,
    batch_size: int = 32,
    lr: float = 0.06,
    seed: int = 0,
) -> Symmetry:
    """Trains a copy of the model in which two filters are twins, and one in which only the filters are equal.

    layer, consumer: names of modules, of the kinds that `make_twins` takes. The rest is as in `fit`.
    """
    twins, control = copy.deepcopy(model), copy.deepcopy(model)
    layers = [conv_layer("symmetry", part("symmetry", each, layer)) for each in (twins, control)]
    make_twins(layers[0], part("symmetry", twins, consumer), pair)
    with no_grad():
        _equal_filters(layers[1], pair)
    first, second = pair
    start = layers[0].weight.data[first].copy()
    distances: list[list[float]] = [[], []]

    def measure(which: int) -> None:
        weight = layers[which].weight.data
        distances[which].append(float(np.abs(weight[first] - weight[second]).max()))

    fit(twins, images, labels, steps, batch_size, lr, seed, lambda step: measure(0))
    fit(control, images, labels, steps, batch_size, lr, seed, lambda step: measure(1))
    end = layers[0].weight.data[[first, second]]
    return Symmetry(
        pair=(first, second),
        distance=np.array(distances[0]),
        moved=float(np.abs(end[0] - start).max()),
        filters=end,
        control=np.array(distances[1]),
    )


def frozen_filters(
    model: Module,
    layer: str,
    images: Any,
    labels: Any,
    test_images: Any,
    test_labels: Any,
    steps: int = 200,
    batch_size: int = 32,
    lr: float = 0.06,
    seed: int = 0,
) -> FrozenFilters:
    """Trains two copies of the model on the same batches, one of them with a layer frozen.

    layer: the name of the layer whose filters and bias are left as they are. The rest is as in `fit`.
    Raises LensError if a frozen filter has changed.
    """
    frozen, learned = copy.deepcopy(model), copy.deepcopy(model)
    start = conv_layer("frozen_filters", part("frozen_filters", model, layer)).weight.data.copy()
    still, moving = (conv_layer("frozen_filters", part("frozen_filters", each, layer)) for each in (frozen, learned))
    still.requires_grad_(False)
    losses = [fit(each, images, labels, steps, batch_size, lr, seed) for each in (frozen, learned)]
    if not np.array_equal(still.weight.data, start):
        raise LensError("frozen_filters: the frozen filters have changed")
    _, start_accuracy = evaluate(model, test_images, test_labels)
    _, frozen_accuracy = evaluate(frozen, test_images, test_labels)
    _, learned_accuracy = evaluate(learned, test_images, test_labels)
    return FrozenFilters(
        start_accuracy=start_accuracy,
        frozen_accuracy=frozen_accuracy,
        learned_accuracy=learned_accuracy,
        frozen_losses=losses[0],
        learned_losses=losses[1],
        start=start,
        frozen=still.weight.data,
        learned=moving.weight.data,
    )
