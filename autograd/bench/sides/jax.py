"""JAX, in either layout; a gradient is the compiled transpose of the convolution in that operand alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import jax
import numpy as np

version = f"JAX {jax.__version__}"
jax.config.update("jax_enable_x64", True)

_axes: WeakKeyDictionary[Callable[[], Any], Any] = WeakKeyDictionary()


def use_threads(n: int) -> None:
    """JAX has a thread for every processor that the process may use."""


def workload(map_name: str, geometry: dict[str, Any], operands: list[str], variant: str) -> Callable[[], Any]:
    """variant: 'NCHW' (filters 'OIHW') or 'NHWC' ('HWIO')."""
    images, filters = ((0, 1, 2, 3), (0, 1, 2, 3)) if variant == "NCHW" else ((0, 2, 3, 1), (2, 3, 1, 0))
    axes = {"conv2d_weight": (images, images, filters)}.get(map_name, (images, filters, images))
    first, second = (jax.numpy.asarray(np.load(path).transpose(to)) for path, to in zip(operands, axes, strict=False))
    compute = _compiled(map_name, json.dumps(geometry), variant, images, filters, first.dtype)

    def run() -> Any:
        return compute(first, second).block_until_ready()

    _axes[run] = np.argsort(axes[2])
    return run


@lru_cache(maxsize=8)
def _compiled(
    map_name: str, geometry: str, layout: str, images: tuple[int, ...], filters: tuple[int, ...], dtype: Any
) -> Any:
    """A map as a function of its two operands, compiled when it is first called."""
    g = json.loads(geometry)

    def convolve(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x,
            weight,
            g["stride"],
            g["padding"],
            rhs_dilation=g["dilation"],
            dimension_numbers=(layout, "OIHW" if layout == "NCHW" else "HWIO", layout),
            feature_group_count=g["groups"],
        )

    if map_name == "conv2d":
        return jax.jit(convolve)
    if map_name == "conv2d_input":
        x = _like((g["batch"], g["in_channels"], *g["input"]), images, dtype)
        return jax.jit(lambda y, weight: jax.linear_transpose(lambda x: convolve(x, weight), x)(y)[0])
    weight = _like((g["out_channels"], g["in_channels"] // g["groups"], *g["kernel"]), filters, dtype)
    return jax.jit(lambda x, y: jax.linear_transpose(lambda weight: convolve(x, weight), weight)(y)[0])


def result(run: Callable[[], Any]) -> Any:
    """What a workload computes."""
    return np.asarray(run()).transpose(_axes[run])


def _like(shape: tuple[int, ...], axes: tuple[int, ...], dtype: Any) -> Any:
    return jax.ShapeDtypeStruct(tuple(shape[axis] for axis in axes), dtype)
