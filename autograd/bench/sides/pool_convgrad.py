"""Our side of `bench pool`: the kernels, on operands that are channels-last in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import __version__, kernels
from ...geometry import Pool2dGeometry
from .convgrad import fixed_work as fixed_work
from .convgrad import occupy as occupy

version = f"convgrad {__version__}"
use_threads = kernels.set_num_threads


def workload(map_name: str, geometry: dict[str, Any], operands: list[str], variant: None) -> Callable[[], Any]:
    """operands: `x`; for a gradient `y` and the `x` that was pooled."""
    fields: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in geometry.items()}
    g = Pool2dGeometry(**fields)
    first, *rest = (kernels.channels_last(np.load(path)) for path in operands)
    compute: Any = getattr(kernels, map_name)
    if map_name == "max_scatter2d":
        _, offsets = kernels.max_pool2d(rest[0], g)
        return lambda: compute(first, offsets, g)
    return lambda: compute(first, g)


def result(run: Callable[[], Any]) -> Any:
    """What a workload computes, without the positions of maxima."""
    computed = run()
    return computed[0] if isinstance(computed, tuple) else computed
