"""Our own convolution spelled out in plain primitives (pad, windows, tensordot), and its gradients from their rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import __version__
from ...conv import conv2d_composite
from ...tensor import Tensor
from ...transforms import grad

version = f"convgrad {__version__}"


def use_threads(n: int) -> None:
    """The matrix product is NumPy's; the environment says how many threads it has."""


def workload(map_name: str, geometry: dict[str, Any], operands: list[str], variant: None) -> Callable[[], Any]:
    """A gradient is that of a recorded convolution whose other operand is a plain array; recording it is not timed."""
    first, second = (np.load(path) for path in operands)
    g = geometry
    options: Any = {name: tuple(g[name]) for name in ("stride", "dilation")}
    options |= {"padding": tuple(map(tuple, g["padding"])), "groups": g["groups"]}
    if map_name == "conv2d":
        return lambda: conv2d_composite(first, second, **options)
    if map_name == "conv2d_input":
        gradient = first
        wanted = Tensor(np.zeros((g["batch"], g["in_channels"], *g["input"]), first.dtype), requires_grad=True)
        output = conv2d_composite(wanted, second, **options)
    else:
        gradient = second
        filters = (g["out_channels"], g["in_channels"] // g["groups"], *g["kernel"])
        wanted = Tensor(np.zeros(filters, first.dtype), requires_grad=True)
        output = conv2d_composite(first, wanted, **options)

    def run() -> Any:
        (found,) = grad([output], [wanted], [gradient], retain_graph=True)
        assert found is not None
        return found.data

    return run


def result(run: Callable[[], Any]) -> Any:
    """What a workload computes."""
    return run()
