"""Reductions over axes (sum, mean, max, ...), and the running ones (cumsum, cumprod, diff).

`axis` is None, an int or a tuple; a reduced axis is put back with length 1 before a gradient is spread over it.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..primitive import Primitive, primitive
from ..tensor import Tensor
from . import elementwise as e
from .elementwise import constant, where

# fmt: off
__all__ = [
    "all", "amax", "amin", "any", "argmax", "argmin", "argsort", "average", "broadcast_to", "count_nonzero",
    "cumprod", "cumsum", "diff", "logsumexp", "max", "mean", "min", "prod", "ptp", "std", "sum", "var",
]
# fmt: on

Axis = int | tuple[int, ...] | None


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return normalize_axis_tuple(axis, ndim)


def _restore(reduced: Any, shape: tuple[int, ...], axis: Axis) -> Any:
    """What a reduction over `axis` of an array of this shape has returned, with length 1 for every axis it dropped."""
    axes = _axes(axis, len(shape))
    return reduced.reshape(tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _count(x: Any, axis: Axis) -> int:
    shape = np.shape(x._data if isinstance(x, Tensor) else x)
    return math.prod(shape[a] for a in _axes(axis, len(shape)))


@primitive(broadcasts=True, x=lambda g: g)
def _broadcast_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    return np.broadcast_to(x, shape)


def broadcast_to(x: Any, shape: int | tuple[int, ...]) -> Any:
    """x repeated along axes until it has this shape (a read-only view)."""
    return _broadcast_to(x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


@primitive(x=lambda g, x_shape, axis: broadcast_to(_restore(g, x_shape, axis), x_shape))
def _sum(x: Any, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Any:
    return np.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


def sum(x: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The sum over the axes; 0 for an empty one."""
    return _sum(x, axis=axis, dtype=dtype, keepdims=keepdims)


def mean(x: Any, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Any:
    """The mean over the axes; NaN for an empty one. Integers are averaged as float64."""
    if not isinstance(x, Tensor):
        return np.mean(x, axis=axis, dtype=dtype, keepdims=keepdims)
    if dtype is None and x.dtype.kind != "f":
        dtype = np.float64
    return sum(x, axis, dtype, keepdims) / np.float64(_count(x, axis)).astype(dtype or x.dtype)


def var(x: Any, axis: Axis = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """The variance over the axes: the mean square of the deviations, with n - ddof as the divisor."""
    if not isinstance(x, Tensor):
        return np.var(x, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)
    deviations = x - mean(x, axis, dtype, keepdims=True)
    divisor = np.float64(builtins.max(_count(x, axis) - ddof, 0)).astype(deviations.dtype)
    return sum(e.square(deviations), axis, keepdims=keepdims) / divisor


def std(x: Any, axis: Axis = None, dtype: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """The standard deviation, the square root of `var`; its derivative is 0 where it is 0."""
    if not isinstance(x, Tensor):
        return np.std(x, axis=axis, dtype=dtype, ddof=ddof, keepdims=keepdims)
    return e._root(var(x, axis, dtype, ddof, keepdims))


def _extremum(function: Callable[..., Any]) -> Primitive:
    """max or min: the gradient goes to the extremal elements, in equal parts where several tie."""

    def reduce(x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
        return function(x, axis=axis, keepdims=keepdims)

    def rule(g: Any, x: Any, ans: Any, x_shape: tuple[int, ...], axis: Axis) -> Any:
        winners = e.equal(x, _restore(ans, x_shape, axis))
        share = _restore(g, x_shape, axis) / sum(winners, axis, g.dtype, keepdims=True)
        return where(winners, share, 0)

    return Primitive(reduce, name=function.__name__, x=rule)


_max = _extremum(np.max)
_min = _extremum(np.min)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The maximum over the axes; ties share the gradient equally. Raises ValueError for an empty axis."""
    return _max(x, axis=axis, keepdims=keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The minimum over the axes; ties share the gradient equally. Raises ValueError for an empty axis."""
    return _min(x, axis=axis, keepdims=keepdims)


amax = max
amin = min


def ptp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The range, max - min, over the axes."""
    return max(x, axis, keepdims) - min(x, axis, keepdims)


def _products_of_others(x: Any, cumulate: Callable[..., Any]) -> Any:
    """P[..., i, :] = cumulate over k of (1 if k == i else x[..., k]).

    What differentiating a product needs where a factor is 0, so that the product cannot be divided by it.
    """
    n = x.shape[-1]
    return cumulate(where(np.eye(n, dtype=bool), 1, x.reshape((*x.shape[:-1], 1, n))), axis=-1)


def _prod_rule(g: Any, x: Any, ans: Any, x_shape: tuple[int, ...], axis: Axis) -> Any:
    g = _restore(g, x_shape, axis)
    if all(x):
        return g * _restore(ans, x_shape, axis) / x
    axes = _axes(axis, len(x_shape))
    order = (*[a for a in range(len(x_shape)) if a not in axes], *axes)
    moved = x.transpose(order)
    flat = moved.reshape((*moved.shape[: len(x_shape) - len(axes)], -1))
    others = _products_of_others(flat, prod).reshape(moved.shape)
    return g * others.transpose(tuple(np.argsort(order).tolist()))


@primitive(x=_prod_rule)
def _prod(x: Any, *, axis: Axis = None, keepdims: bool = False) -> Any:
    return np.prod(x, axis=axis, keepdims=keepdims)


def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The product over the axes; 1 for an empty one. Exact where factors are 0, to every order."""
    return _prod(x, axis=axis, keepdims=keepdims)


@primitive(x=lambda g, axis: _reversed_cumsum(g, axis))
def _cumsum(x: Any, *, axis: int) -> Any:
    return np.cumsum(x, axis=axis)


def _reversed_cumsum(g: Any, axis: int) -> Any:
    backwards = (slice(None),) * (normalize_axis_index(axis, g.ndim)) + (slice(None, None, -1),)
    return _cumsum(g[backwards], axis=axis)[backwards]


def _cumprod_rule(g: Any, x: Any, ans: Any, axis: int) -> Any:
    if all(x):
        return _reversed_cumsum(g * ans, axis) / x
    order = list(range(x.ndim))
    order[axis], order[-1] = order[-1], order[axis]
    slopes = _products_of_others(x.transpose(order), cumprod)  # slopes[..., i, j] = d ans_j / d x_i where j >= i
    terms = where(np.tri(x.shape[axis], dtype=bool).T, slopes, 0) * g.transpose(order)[..., None, :]
    return sum(terms, axis=-1).transpose(order)


@primitive(x=_cumprod_rule)
def _cumprod(x: Any, *, axis: int) -> Any:
    return np.cumprod(x, axis=axis)


def cumsum(x: Any, axis: int | None = None) -> Any:
    """The running sum along an axis, or of the flattened array."""
    return _running(_cumsum, x, axis)


def cumprod(x: Any, axis: int | None = None) -> Any:
    """The running product along an axis, or of the flattened array. Exact where factors are 0."""
    return _running(_cumprod, x, axis)


def _running(primitive: Primitive, x: Any, axis: int | None) -> Any:
    x = x if isinstance(x, Tensor) else np.asarray(x)
    return primitive(x.reshape(-1), axis=0) if axis is None else primitive(x, axis=axis)


def diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    """The n-th discrete difference along an axis."""
    if n < 0:
        raise ValueError(f"diff: n must not be negative, got {n}")
    x = x if isinstance(x, Tensor) else np.asarray(x)
    before = (slice(None),) * (normalize_axis_index(axis, x.ndim))
    for _ in range(n):
        x = x[(*before, slice(1, None))] - x[(*before, slice(None, -1))]
    return x


def average(x: Any, axis: Axis = None, weights: Any = None, keepdims: bool = False) -> Any:
    """The mean over the axes, weighted by `weights`, which broadcasts against x."""
    if weights is None:
        return mean(x, axis, keepdims=keepdims)
    shape_x, shape_w = np.shape(x), np.shape(weights)
    if shape_w != shape_x and axis is not None:
        axes = _axes(axis, len(shape_x))
        if shape_w != tuple(shape_x[a] for a in axes):
            raise ValueError(f"average: weights must have shape {shape_x}, or that of axis {axis} of it, got {shape_w}")
        across = tuple(a for a in range(len(shape_x)) if a not in axes)
        weights = _restore(weights if isinstance(weights, Tensor) else np.asarray(weights), shape_x, across)
    total = sum(e.multiply(e.ones_like(x), weights), axis, keepdims=keepdims)
    return sum(e.multiply(x, weights), axis, keepdims=keepdims) / total


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) over the axes, without overflow: the largest element is taken out first, as a constant.

    (Not in NumPy; the name is SciPy's.)
    """
    values = x._data if isinstance(x, Tensor) else np.asarray(x)
    largest = np.max(values, axis=axis, keepdims=True)
    largest = np.where(np.isfinite(largest), largest, values.dtype.type(0))
    result = e.log(sum(e.exp(e.subtract(x, largest)), axis, keepdims=keepdims))
    return result + (largest if keepdims else largest.reshape(result.shape))


all = constant(np.all)
any = constant(np.any)
argmax = constant(np.argmax)
argmin = constant(np.argmin)
argsort = constant(np.argsort)
count_nonzero = constant(np.count_nonzero)
