"""Plain training, alike for every experiment: the same batches in the same order for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer, number
from ..data import batches
from ..functional import cross_entropy
from ..nn import Module
from ..optim import SGD
from .observe import in_batches, raw


def fit(
    model: Module,
    images: Any,
    labels: Any,
    steps: int,
    batch_size: int = 32,
    lr: float = 0.06,
    seed: int = 0,
    on_step: Callable[[int], Any] = lambda step: None,
) -> NDArray[np.float64]:
    """Trains a classifier by plain SGD on its parameters that require a gradient, and returns the loss of every batch.

    images: (N, C, H, W), as the model takes them; labels: (N,). seed: fixes the order of the images, drawn anew for
    every pass over them. on_step: called with the number of steps made, from 0 (before the first) to `steps`.

    Raises ValueError if the loss is no longer finite.
    """
    steps = integer("fit", "steps", steps, least=0)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], number("fit", "lr", lr, least=0))
    feed = batches(np.asarray(images), np.asarray(labels), batch_size=batch_size, rng=seed)
    if not len(feed):
        raise ValueError("fit: images must not be empty")
    losses: list[float] = []
    on_step(0)
    while len(losses) < steps:
        for x, y in feed:
            optimizer.zero_grad()
            with np.errstate(over="ignore", invalid="ignore"):  # what has overflowed shows in the loss
                loss = cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise ValueError(f"fit: the loss is {losses[-1]} in step {len(losses)}; try a smaller lr than {lr}")
            on_step(len(losses))
            if len(losses) == steps:
                break
    optimizer.zero_grad()
    return np.array(losses)


def evaluate(
    model: Module,
    images: Any,
    labels: Any,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    batch_size: int = 500,
) -> tuple[float, float]:
    """The mean loss and the share of right answers over a set of images; the model runs in evaluation mode.

    loss: a function of the model's output and labels, the mean over the images.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    total, right = 0.0, 0
    for (_, y), output, _ in in_batches("evaluate", model, batch_size, [], images, labels):
        total += len(y) * float(raw(loss(output, y)))
        right += int(np.sum(np.argmax(raw(output), axis=1) == y))
    return total / len(images), right / len(images)
