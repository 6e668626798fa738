"""`bench pool`: max and average pooling of well-known networks, forward and gradient, beside PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import Pool2dGeometry, pool2d_geometry
from .contest import Contest, Settings, saved
from .conv import Listener
from .machine import peak
from .peers import Kind
from .rows import PoolRow

TORCH = Kind("PyTorch", "pool_pytorch", "torch", {name: name for name in ("channels_last", "contiguous")})
_MAPS = {"max": ("max_pool2d", "max_scatter2d"), "average": ("avg_pool2d", "avg_pool2d_adjoint")}
# Maxima are copied; sums have a few terms, or those of one map in a network's last layer.
_ERROR_BOUNDS = {"float32": 1e-6, "float64": 1e-14}


@dataclass(frozen=True, slots=True)
class PoolCase:
    """A pooling layer of a network."""

    network: str
    layer: str
    kind: str  # "max" or "average"
    geometry: Pool2dGeometry

    @property
    def problem(self) -> str:
        """Its descriptor, in the letters of convolution's."""
        g = self.geometry
        return f"n{g.batch}c{g.channels}h{g.input[0]}w{g.input[1]} r{g.kernel[0]} s{g.stride[0]} p{g.padding[0]}"


def _case(
    network: str, layer: str, kind: str, shape: tuple[int, ...], kernel: int, stride: int, padding: int = 0
) -> PoolCase:
    return PoolCase(network, layer, kind, pool2d_geometry("bench pool", shape, kernel, stride, padding))


def cases(batch: int | None = None) -> list[PoolCase]:
    """Pooling layers of every common kind: overlapping or not, padded or not, large and small images, whole images.

    batch: the number of images instead of each network's own.
    """
    n, small, cifar = batch or 8, batch or 64, batch or 128
    return [
        _case("resnet50", "maxpool", "max", (n, 64, 112, 112), 3, 2, 1),
        _case("vgg16", "pool1", "max", (n, 64, 224, 224), 2, 2),
        _case("vgg16", "pool3", "max", (n, 256, 56, 56), 2, 2),
        _case("vgg16", "pool5", "max", (n, 512, 14, 14), 2, 2),
        _case("googlenet", "inception3a.pool", "max", (n, 192, 28, 28), 3, 1, 1),
        _case("lenet5", "pool1", "average", (small, 6, 28, 28), 2, 2),
        _case("lenet5", "pool2", "average", (small, 16, 10, 10), 2, 2),
        _case("densenet121", "transition1", "average", (n, 128, 56, 56), 2, 2),
        _case("inceptionv3", "mixed5b.pool", "average", (n, 192, 35, 35), 3, 1, 1),
        _case("resnet20", "avgpool", "average", (cifar, 64, 8, 8), 8, 8),
        _case("resnet50", "avgpool", "average", (n, 2048, 7, 7), 7, 7),
    ]


def measure(chosen: Sequence[PoolCase], settings: Settings, listener: Listener) -> tuple[list[PoolRow], dict[str, str]]:
    """A row for each case, map and number of threads, and the versions of all sides.

    Raises PeerError if our own side does not run.
    """
    rows: list[PoolRow] = []
    versions: dict[str, str] = {}
    listener.begin(sum(len(_MAPS[case.kind]) for case in chosen) * len(settings.threads))
    for threads in settings.threads:
        with Contest("pool_convgrad", [TORCH], settings, threads, listener) as contest:
            versions |= contest.versions
            for case in chosen:
                for map_name in _MAPS[case.kind]:
                    listener.step(f"{case.network} {case.layer} {map_name}, {threads} threads")
                    rows.append(_row(case, map_name, settings, threads, contest))
                    listener.row(rows[-1])
    return rows, versions


def _row(case: PoolCase, map_name: str, settings: Settings, threads: int, contest: Contest) -> PoolRow:
    g, dtype = case.geometry, settings.dtype
    rng = np.random.default_rng(0)
    shapes = {"max_scatter2d": (g.y_shape, g.x_shape), "avg_pool2d_adjoint": (g.y_shape, g.x_shape)}
    operands = [rng.standard_normal(shape).astype(dtype) for shape in shapes.get(map_name, (g.x_shape,))]
    bound = 0.0 if map_name == "max_pool2d" else _ERROR_BOUNDS[dtype]
    with saved(*operands) as paths:
        found = contest.measure((map_name, asdict(g), paths), reference(map_name, operands, g), bound)
    # One byte says where in its window a maximum was.
    positions = prod(g.y_shape) if case.kind == "max" else 0
    size = (prod(g.x_shape) + prod(g.y_shape)) * np.dtype(dtype).itemsize + positions
    return PoolRow(
        suite="pooling",
        layer=f"{case.network} {case.layer}",
        count=1,
        problem=case.problem,
        map=map_name,
        dtype=dtype,
        isa=settings.isa,
        threads=threads,
        timing=found.timing,
        error=found.error,
        error_bound=bound,
        peers=found.peers,
        notes=found.notes,
        bytes=size,
        copy_bandwidth=peak(settings.isa, threads, dtype).copy_bandwidth(size),
    )


def reference(map_name: str, operands: Sequence[NDArray[Any]], g: Pool2dGeometry) -> NDArray[Any]:
    """The result of a map in float64, by NumPy, tap after tap over all windows at once.

    operands: `x`, or for a gradient `y` and the `x` that was pooled. The divisor of averages counts padding.
    """
    outside = -np.inf if map_name.startswith("max") else 0.0
    framed = np.pad(
        operands[-1].astype(np.float64), [(0, 0), (0, 0), *((p, p) for p in g.padding)], constant_values=outside
    )
    taps = [framed[_tap(g, u, v)] for u, v in np.ndindex(*g.kernel)]
    if map_name == "max_pool2d":
        return np.asarray(np.max(taps, axis=0))
    if map_name == "avg_pool2d":
        return np.asarray(np.sum(taps, axis=0) / len(taps))
    y = operands[0].astype(np.float64)
    first = np.argmax(taps, axis=0) if map_name == "max_scatter2d" else None
    gradient = np.zeros_like(framed)
    for i, (u, v) in enumerate(np.ndindex(*g.kernel)):  # the windows of one tap do not overlap
        gradient[_tap(g, u, v)] += y / len(taps) if first is None else np.where(first == i, y, 0)
    (top, left), (height, width) = g.padding, g.input
    return gradient[:, :, top : top + height, left : left + width]


def _tap(g: Pool2dGeometry, u: int, v: int) -> tuple[slice, ...]:
    """Where in a framed array one cell of all windows is."""
    places = zip((u, v), g.output, g.stride, strict=True)
    return (slice(None), slice(None), *(slice(at, at + (size - 1) * step + 1, step) for at, size, step in places))
