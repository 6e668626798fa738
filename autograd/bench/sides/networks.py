"""The networks of `bench train`, written once for both sides: `nn` is `autograd.nn` or `torch.nn`.

`INPUTS` has the channels, height and width of the images. All networks tell ten classes apart.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

INPUTS = {"lenet5": (1, 28, 28), "resnet20": (3, 32, 32), "vgg8": (3, 32, 32)}


def network(name: str, nn: Any) -> Any:
    """A network with fresh weights."""
    return {"lenet5": _lenet5, "resnet20": _resnet20, "vgg8": _vgg8}[name](nn)


def set_parameters(model: Any, values: Any) -> None:
    """Gives all parameters their values from one row of numbers, where nothing is recorded (`no_grad`)."""
    end = 0
    for parameter in model.parameters():
        shape = tuple(parameter.shape)
        begin, end = end, end + math.prod(shape)
        parameter[...] = values[begin:end].reshape(shape)


def gradients(model: Any) -> Any:
    """The gradients of all parameters as one row of numbers."""
    return np.concatenate([np.asarray(parameter.grad).ravel() for parameter in model.parameters()])


def _lenet5(nn: Any) -> Any:
    """LeCun et al. 1998, with dense connections between the feature maps and plain average pooling."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


def _vgg8(nn: Any) -> Any:
    """In the manner of Simonyan and Zisserman 2014 (arXiv:1409.1556), for small images: pairs of 3x3 convolutions."""
    layers = []
    for before, width in ((3, 32), (32, 64), (64, 128)):
        for inputs in (before, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10))


def _resnet20(nn: Any) -> Any:
    """He et al. 2015 (arXiv:1512.03385), for CIFAR-10, with projections where the size changes."""

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *(nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
                *(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)),
            )
            self.shortcut = nn.Identity()
            if inputs != width:
                self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            self.activation = nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.activation(self.body(x) + self.shortcut(x))

    widths = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
    blocks = [Block(before, width, 1 + (before != width)) for before, width in pairwise(widths)]
    stem = (nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AvgPool2d(8), nn.Flatten(), nn.Linear(64, 10))
