"""Our side: the kernels, called as the primitives call them, on operands that are channels-last in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ... import __version__, kernels
from ...geometry import Conv2dGeometry

version = f"convgrad {__version__}"
use_threads = kernels.set_num_threads

Run = Callable[[], Any]
_choices: WeakKeyDictionary[Run, tuple[str, str]] = WeakKeyDictionary()
_chosen = ExitStack()


def explain(map_name: str, geometry: dict[str, Any], dtype: str, precision: str, algorithm: str) -> dict[str, Any]:
    """What would run, as a dict of `ConvExplanation`'s fields; `algorithm` is '' for the automatic choice."""
    with _choice(precision, algorithm):
        return kernels.explain(map_name, _geometry(geometry), dtype)._asdict()


def fixed_work() -> float:
    """Seconds that a fixed number of multiply-adds takes on one thread, without memory; the best of three."""
    threads = kernels.get_num_threads()
    kernels.set_num_threads(1)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        kernels.multiply_adds("float32", 20_000)
        times.append(time.perf_counter() - begin)
    kernels.set_num_threads(threads)
    return min(times)


def occupy(seconds: float) -> None:
    """Lets every thread multiply and add for about so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        kernels.multiply_adds("float32", 100_000)


def workload(map_name: str, geometry: dict[str, Any], operands: list[str], variant: dict[str, Any]) -> Run:
    """variant: 'precision', 'algorithm' as above; 'denormals', whether the first operand is made of them; 'product',
    the rows of a square matrix that NumPy multiplies by itself, or 0; 'alone', whether nothing but that is done.
    """
    first, second = (np.load(path) for path in operands)
    if variant["denormals"]:
        first *= np.finfo(first.dtype).tiny / 16
    first = kernels.channels_last(first)
    if map_name == "conv2d_weight":
        second = kernels.channels_last(second)
    compute: Any = getattr(kernels, map_name)
    arguments = (first, second, *([None] if map_name == "conv2d" else []), _geometry(geometry))

    matrix = np.ones((variant["product"], variant["product"]), first.dtype)

    def convolve() -> Any:
        return compute(*arguments)

    def multiply() -> Any:
        return matrix @ matrix

    def both() -> Any:
        return convolve(), multiply()

    run = convolve if not variant["product"] else multiply if variant["alone"] else both
    _choices[run] = variant["precision"], variant["algorithm"]
    return run


def ready(run: Run) -> None:
    """Lets a workload's precision and algorithm hold until another one is made ready."""
    _chosen.close()
    _chosen.enter_context(_choice(*_choices[run]))


def result(run: Run) -> Any:
    """What a workload computes."""
    return run()


@contextmanager
def _choice(precision: str, algorithm: str) -> Iterator[None]:
    names = [algorithm] if algorithm else []  # without a name the choice is automatic, whatever was chosen before
    with kernels.set_float32_precision(precision), kernels.use_algorithm(*names):
        yield


def _geometry(fields: dict[str, Any]) -> Conv2dGeometry:
    return Conv2dGeometry(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
