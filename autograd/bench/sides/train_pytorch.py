"""PyTorch's side of `bench train`, in either memory format: the same steps of the same network."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

version = f"PyTorch {torch.__version__}"

Run = Callable[[], None]
_gradients: WeakKeyDictionary[Run, Callable[[], Any]] = WeakKeyDictionary()


def use_threads(n: int) -> None:
    """For the work inside of an operation; there is only one at a time."""
    torch.set_num_threads(n)


def workload(program: str, network: str, parameters: str, images: str, labels: str, variant: str) -> Run:
    """As our side's; variant: 'contiguous' or 'channels_last', for the network and the images."""
    layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[variant]
    networks = runpy.run_path(program)
    x, classes = (torch.from_numpy(np.load(path)) for path in (images, labels))
    x = x.to(memory_format=layout)
    model = networks["network"](network, torch.nn).to(x.dtype).to(memory_format=layout)
    with torch.no_grad():
        networks["set_parameters"](model, torch.from_numpy(np.load(parameters)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), classes).backward()
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
