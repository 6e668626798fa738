"""The main job: trains a small convolutional network on real images, and records how its filters came about.

Training is plain stochastic gradient descent, so that the numbers add up: every weight ends where it began, minus the
sum over all steps of learning rate times gradient. The recorder checks that of every filter, at every step.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import nn
from .data import CLASS_NAMES, ImageDataset, batches, normalise
from .functional import cross_entropy
from .lens import Film, convolutions, evaluate
from .optim import SGD, CosineAnnealingLR

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}

Images = NDArray[np.float32]


class Epoch(NamedTuple):
    """What one pass over the training images gave."""

    loss: float  # mean over the training images, as they were met
    accuracy: float  # on the held-out images, after the pass
    seconds: float  # for the pass, without the test


@dataclass
class Learned:
    """A trained network, what it was trained with, and how it came about."""

    model: nn.Sequential
    images: Images  # normalised, as the network was trained on them
    test_images: Images
    classes: int
    activation: str
    learning_rate: float
    batch_size: int
    seed: int
    film: Film  # of the filters of both convolutions
    epochs: list[Epoch] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # of each batch, before its step
    recording: float = 0.0  # the share of the training time that the optimiser's steps and their recording took

    @property
    def layer(self) -> nn.Conv2d:
        """The first convolution."""
        return convolutions(self.model)["conv1"]

    def module(self, name: str) -> nn.Module:
        """A part of the network."""
        return dict(self.model.named_modules())[name]

    def fresh(self, activation: str | None = None) -> nn.Sequential:
        """The network as it was before the training, or the same numbers with another activation."""
        return network(activation or self.activation, self.seed, self.images.shape[1:], self.classes)


def network(
    activation: str = "relu", seed: int = 0, shape: tuple[int, ...] = (1, 28, 28), classes: int = 10
) -> nn.Sequential:
    """Two stages of convolution, activation and pooling, and two dense layers: (N, *shape) -> (N, classes)."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"network: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    rng = np.random.default_rng(seed)
    act = ACTIVATIONS[activation]
    channels, height, width = shape
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(channels, 16, 7, padding="same", rng=rng),
            "act1": act(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(16, 32, 5, padding="same", rng=rng),
            "act2": act(),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "dense1": nn.Linear(32 * (height // 4) * (width // 4), 64, rng=rng),
            "act3": act(),
            "dense2": nn.Linear(64, classes, rng=rng),
        }
    )


def train(
    data: ImageDataset,
    activation: str = "relu",
    epochs: int = 20,
    batch_size: int = 32,
    learning_rate: float = 0.06,
    seed: int = 0,
    steps: int | None = None,
    on_step: Callable[[int, float], None] = lambda epoch, loss: None,
    on_epoch: Callable[[int, Epoch], None] = lambda epoch, result: None,
) -> Learned:
    """Trains the network; the learning rate falls along half a cosine. The seed fixes every bit of the result.

    Images are normalised with the mean and standard deviation of the training images, or, if they are Fashion-MNIST,
    of its full set. steps: train for so many steps instead of epochs. on_step, on_epoch: called with the epoch's
    number, from 0, and the batch's loss or the epoch's result.
    """
    own = data.class_names != CLASS_NAMES
    mean, std = (data.train_images.mean() / 255, max(data.train_images.std() / 255, 1e-3)) if own else (None, None)
    images, test_images = (normalise(part, mean, std) for part in (data.train_images, data.test_images))
    classes = len(data.class_names)
    model = network(activation, seed, images.shape[1:], classes)
    optimizer = SGD(model.parameters(), lr=learning_rate)
    film = Film(optimizer, {f"{name}.weight": layer.weight for name, layer in convolutions(model).items()}, limit=128)
    learned = Learned(
        model, images, test_images, classes, activation, learning_rate, batch_size, seed, film,
    )  # fmt: skip
    loader = batches(images, data.train_labels, batch_size=batch_size, rng=seed)
    left = epochs * len(loader) if steps is None else steps
    epochs = -(-left // len(loader))
    schedule = CosineAnnealingLR(optimizer, epochs)
    stepping = 0.0
    for epoch in range(epochs):
        start = time.perf_counter()
        total = seen = 0.0
        for x, labels in itertools.islice(loader, left):
            optimizer.zero_grad()
            with np.errstate(over="ignore", invalid="ignore"):  # reported below, in terms of what was asked for
                loss = cross_entropy(model(x), labels)
            if not np.isfinite(loss.item()):
                where = f"{loss.item()} in epoch {epoch + 1}"
                raise ValueError(f"train: the loss is {where}; try a smaller learning rate than {learning_rate}")
            loss.backward()
            before = time.perf_counter()
            film.step()
            stepping += time.perf_counter() - before
            learned.losses.append(loss.item())
            total += loss.item() * len(x)
            seen += len(x)
            on_step(epoch, loss.item())
        left -= len(loader)
        schedule.step()
        seconds = time.perf_counter() - start
        learned.epochs.append(Epoch(total / seen, evaluate(model, test_images, data.test_labels)[1], seconds))
        on_epoch(epoch, learned.epochs[-1])
    learned.recording = stepping / sum(epoch.seconds for epoch in learned.epochs)
    return learned
