"""The main job: trains a small convolutional network on real images, and draws what its filters were and became.

Training is plain stochastic gradient descent, so that the numbers add up: every weight ends where it began, minus the
sum over all steps of learning rate times gradient. The picture shows the three for every filter of the first layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import nn
from .data import ImageDataset, batches, normalise
from .functional import cross_entropy
from .modes import no_grad
from .optim import SGD, CosineAnnealingLR

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


class Epoch(NamedTuple):
    """What one pass over the training images gave."""

    loss: float  # mean over the training images, as they were met
    accuracy: float  # on the held-out images, after the pass
    seconds: float  # for the pass, without the test


@dataclass
class Learned:
    """A trained network and how it came about."""

    model: nn.Sequential
    epochs: list[Epoch] = field(default_factory=list)
    before: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)  # parameters at the start
    moves: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)  # sum over the steps of -rate * gradient

    def discrepancy(self) -> float:
        """The largest |after - (before + sum of -rate * gradient)| of any weight: rounding, and nothing else."""
        return max(
            float(np.max(np.abs(p.data - (self.before[name] + self.moves[name]))))
            for name, p in self.model.named_parameters()
        )


def network(activation: str = "relu", seed: int = 0) -> nn.Sequential:
    """Two stages of convolution, activation and pooling, and two dense layers: (N, 1, 28, 28) -> (N, 10)."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"network: activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    rng = np.random.default_rng(seed)
    act = ACTIVATIONS[activation]
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(1, 16, 7, padding="same", rng=rng),
            "act1": act(),
            "pool1": nn.MaxPool2d(2),
            "conv2": nn.Conv2d(16, 32, 5, padding="same", rng=rng),
            "act2": act(),
            "pool2": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "dense1": nn.Linear(32 * 7 * 7, 64, rng=rng),
            "act3": act(),
            "dense2": nn.Linear(64, 10, rng=rng),
        }
    )


def train(
    data: ImageDataset,
    activation: str = "relu",
    epochs: int = 20,
    batch_size: int = 32,
    learning_rate: float = 0.06,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda epoch, loss: None,
    on_epoch: Callable[[int, Epoch], None] = lambda epoch, result: None,
) -> Learned:
    """Trains the network; the learning rate falls along half a cosine. The seed fixes every bit of the result.

    on_step, on_epoch: called with the epoch's number, from 0, and the batch's loss or the epoch's result.
    """
    images, test_images = normalise(data.train_images), normalise(data.test_images)
    model = network(activation, seed)
    optimizer = SGD(model.parameters(), lr=learning_rate)
    schedule = CosineAnnealingLR(optimizer, epochs)
    moves = {name: np.zeros(p.shape) for name, p in model.named_parameters()}
    learned = Learned(model, before=model.state_dict(), moves=moves)
    loader = batches(images, data.train_labels, batch_size=batch_size, rng=seed)
    for epoch in range(epochs):
        start = time.perf_counter()
        total = 0.0
        rate = optimizer.param_groups[0]["lr"]
        for x, labels in loader:
            optimizer.zero_grad()
            with np.errstate(over="ignore", invalid="ignore"):  # reported below, in terms of what was asked for
                loss = cross_entropy(model(x), labels)
            if not np.isfinite(loss.item()):
                where = f"{loss.item()} in epoch {epoch + 1}"
                raise ValueError(f"train: the loss is {where}; try a smaller learning rate than {learning_rate}")
            loss.backward()
            optimizer.step()
            for name, p in model.named_parameters():
                assert p.grad is not None
                moves[name] -= rate * p.grad.data
            total += loss.item() * len(x)
            on_step(epoch, loss.item())
        schedule.step()
        seconds = time.perf_counter() - start
        learned.epochs.append(Epoch(total / len(images), accuracy(model, test_images, data.test_labels), seconds))
        on_epoch(epoch, learned.epochs[-1])
    return learned


@no_grad()
def accuracy(model: nn.Module, images: Any, labels: Any, batch_size: int = 500) -> float:
    """The share of the images (normalised, (N, 1, 28, 28)) to which the model gives the right label."""
    model.eval()
    right = 0
    for x, y in batches(images, labels, batch_size=batch_size, shuffle=False):
        right += int(np.sum(np.argmax(model(x).data, axis=1) == y))
    model.train()
    return right / len(images)


def check_picture(path: Path) -> None:
    """Raises ValueError or OSError if no picture can be written to this path; makes its folder."""
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.removeprefix(".") not in kinds:
        raise ValueError(f"the picture's name must end in one of .{', .'.join(kinds)}, got {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"the picture needs the name of a file, and {str(path)!r} is a folder")
    path.parent.mkdir(parents=True, exist_ok=True)


def draw(learned: Learned, path: Path) -> None:
    """Writes a picture: every filter of the first layer as it was, what its gradients added, and what it became."""
    check_picture(path)
    from matplotlib.figure import Figure

    after = dict(learned.model.named_parameters())["conv1.weight"].data
    rows = {
        "was\n(random)": learned.before["conv1.weight"],
        "+ the sum of\n\N{MINUS SIGN}rate \N{MULTIPLICATION SIGN} gradient": learned.moves["conv1.weight"],
        "= became": after,
    }
    filters = len(after)
    limit = max(float(np.abs(values).max()) for values in rows.values())
    figure = Figure(figsize=(0.72 * filters + 2.4, 3.5), layout="constrained", dpi=110)
    axes = figure.subplots(len(rows), filters)
    for (label, values), line in zip(rows.items(), axes, strict=True):
        for i, axis in enumerate(line):
            image = axis.imshow(values[i, 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
    for i, axis in enumerate(axes[0]):
        axis.set_title(str(i), fontsize=9, color="0.4")
    figure.colorbar(image, ax=axes, shrink=0.9, pad=0.01, label="weight")
    figure.suptitle(
        f"The {filters} filters of the first convolution, before and after {len(learned.epochs)} epochs "
        f"(held-out accuracy {learned.epochs[-1].accuracy:.1%})",
        fontsize=13,
    )
    figure.savefig(path)
