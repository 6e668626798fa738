"""Our side of `bench train`: steps of stochastic gradient descent with momentum."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ... import __version__, kernels, nn, optim
from ...functional import cross_entropy
from ...modes import no_grad
from .convgrad import fixed_work as fixed_work
from .convgrad import occupy as occupy

version = f"convgrad {__version__}"
use_threads = kernels.set_num_threads

Run = Callable[[], None]
_gradients: WeakKeyDictionary[Run, Callable[[], Any]] = WeakKeyDictionary()


def workload(program: str, network: str, parameters: str, images: str, labels: str, variant: None) -> Run:
    """One step of a network, always on the same batch. program: the file `networks.py`; the rest but the network's name
    are files of `numpy.save`.
    """
    networks = runpy.run_path(program)
    model = networks["network"](network, nn)
    x, classes = np.load(images), np.load(labels)
    model.to(x.dtype)
    with no_grad():
        networks["set_parameters"](model, np.load(parameters))
    optimizer = optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), classes).backward()
        optimizer.step()

    _gradients[step] = lambda: networks["gradients"](model)
    return step


def result(step: Run) -> Any:
    """The gradients of a step."""
    step()
    return _gradients[step]()[None]


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    with open("/proc/self/status") as lines:  # getrusage also counts what this process was before it became Python
        fields = dict(line.split(":") for line in lines)
    return int(fields["VmHWM"].split()[0]) * 1024
