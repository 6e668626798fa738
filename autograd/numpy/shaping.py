"""Shapes, joining, splitting and indexing: functions that move elements and compute nothing.

Each is linear, and the rule of each is its adjoint: reshape undoes reshape, a slice undoes padding, and reading by
index (`x[index]`) and adding by index (`add_at`) are each other's rule. Everything else here is composed of those.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index, normalize_axis_tuple

from ..primitive import primitive
from ..tensor import Tensor
from .elementwise import on_data, where
from .reductions import broadcast_to, sum

# fmt: off
__all__ = [
    "add_at", "append", "argwhere", "array", "array_split", "astype", "atleast_1d", "atleast_2d", "atleast_3d",
    "broadcast_arrays", "column_stack", "concatenate", "copy", "diag", "diagonal", "dsplit", "dstack",
    "expand_dims", "flatnonzero", "flip", "fliplr", "flipud", "getitem", "hsplit", "hstack", "moveaxis", "ndim",
    "nonzero", "pad", "ravel", "repeat", "reshape", "roll", "rollaxis", "rot90", "searchsorted", "shape", "size",
    "sliding_window_view", "sort", "split", "squeeze", "stack", "swapaxes", "take", "take_along_axis", "tile",
    "trace", "transpose", "tril", "triu", "unique", "vsplit", "vstack",
]
# fmt: on

Shape = int | Sequence[int]


def _raw(x: Any) -> Any:
    return x._data if isinstance(x, Tensor) else x


def _as_tensor_or_array(x: Any) -> Any:
    return x if isinstance(x, Tensor) else np.asarray(x)


# Shapes


@primitive(x=lambda g, x_shape: reshape(g, x_shape))
def _reshape(x: Any, *, shape: tuple[int, ...]) -> Any:
    return np.reshape(x, shape)


def reshape(x: Any, shape: Shape) -> Any:
    """x with its elements, in C order, in another shape; one length may be -1."""
    return _reshape(x, shape=(shape,) if isinstance(shape, int) else tuple(shape))


def ravel(x: Any) -> Any:
    """x flattened, in C order."""
    return reshape(x, -1)


def _transpose_rule(g: Any, axes: tuple[int, ...] | None) -> Any:
    return transpose(g) if axes is None else transpose(g, tuple(int(i) for i in np.argsort([a % g.ndim for a in axes])))


@primitive(x=_transpose_rule)
def _transpose(x: Any, *, axes: tuple[int, ...] | None) -> Any:
    return np.transpose(x, axes)


def transpose(x: Any, axes: Sequence[int] | None = None) -> Any:
    """x with its axes permuted, by default reversed."""
    return _transpose(x, axes=None if axes is None else tuple(axes))


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged."""
    order = list(range(ndim(x)))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return transpose(x, order)


def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """x with the source axes moved to the destination positions, the others in their order."""
    # An array whose axis i has length i tells where NumPy moves each axis, and NumPy checks the arguments.
    numbered = np.lib.stride_tricks.as_strided(np.empty(1), range(ndim(x)), (0,) * ndim(x))
    return transpose(x, np.moveaxis(numbered, source, destination).shape)


def rollaxis(x: Any, axis: int, start: int = 0) -> Any:
    """x with one axis moved to before position `start`."""
    axis, start = normalize_axis_index(axis, ndim(x)), start + ndim(x) if start < 0 else start
    return moveaxis(x, axis, start - 1 if axis < start else start)


def expand_dims(x: Any, axis: int | Sequence[int]) -> Any:
    """x with new axes of length 1 at these positions of the result."""
    return reshape(x, np.expand_dims(_raw(x), axis).shape)


def squeeze(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """x without its axes of length 1, or without those named, which must have length 1."""
    return reshape(x, np.squeeze(_raw(x), axis).shape)


def atleast_1d(x: Any) -> Any:
    """x, as an array of at least one dimension."""
    return reshape(x, np.atleast_1d(_raw(x)).shape)


def atleast_2d(x: Any) -> Any:
    """x, as an array of at least two dimensions."""
    return reshape(x, np.atleast_2d(_raw(x)).shape)


def atleast_3d(x: Any) -> Any:
    """x, as an array of at least three dimensions."""
    return reshape(x, np.atleast_3d(_raw(x)).shape)


def broadcast_arrays(*arrays: Any) -> tuple[Any, ...]:
    """All arrays in the shape that they broadcast to together."""
    common = np.broadcast_shapes(*[shape(a) for a in arrays])
    return tuple(broadcast_to(a, common) for a in arrays)


@primitive(x=lambda g: g)
def _astype(x: Any, *, dtype: Any) -> Any:
    return x.astype(dtype)


def astype(x: Any, dtype: Any) -> Any:
    """x in another dtype. A result that is not floating does not require a gradient."""
    if isinstance(x, Tensor) and np.dtype(dtype).kind != "f":
        x = x.detach()
    return _astype(_as_tensor_or_array(x), dtype=np.dtype(dtype))


@primitive(plain=np.copy, x=lambda g: g)
def copy(x: Any) -> Any:
    return np.copy(x, order="K")


# Indexing


def _getitem_rule(g: Any, x_shape: tuple[int, ...], index: Any) -> Any:
    return _add_at(g, index=index, shape=x_shape)


@primitive(x=_getitem_rule)
def _getitem(x: Any, *, index: Any) -> Any:
    return x[index]


@primitive(g=lambda g, index: _getitem(g, index=index))
def _add_at(g: Any, *, index: Any, shape: tuple[int, ...]) -> Any:
    result = np.zeros(shape, g.dtype)
    parts = index if isinstance(index, tuple) else (index,)
    if any(isinstance(part, np.ndarray | list) and np.asarray(part).dtype != np.bool_ for part in parts):
        np.add.at(result, index, g)  # integers may name an element twice
    else:
        result[index] = g
    return result


def getitem(x: Any, index: Any) -> Any:
    """`x[index]`: basic, advanced and boolean indexing, with NumPy's meaning; an index may be an integer tensor."""
    index = tuple(_raw(part) for part in index) if isinstance(index, tuple) else _raw(index)
    return _getitem(x, index=index)


def add_at(index: Any, values: Any, shape: tuple[int, ...]) -> Any:
    """Zeros of this shape with `values` added at `index`, repeatedly where an element is named twice."""
    index = tuple(_raw(part) for part in index) if isinstance(index, tuple) else _raw(index)
    return _add_at(_as_tensor_or_array(values), index=index, shape=tuple(shape))


def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Elements along an axis (or of the flattened array) by integer index."""
    if axis is None:
        return getitem(ravel(x), np.asarray(_raw(indices)))
    x = _as_tensor_or_array(x)
    return getitem(x, (slice(None),) * normalize_axis_index(axis, x.ndim) + (np.asarray(_raw(indices)),))


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """Elements matched to an index array along an axis, as `argsort` and `argmax` return them."""
    indices = np.asarray(_raw(indices))
    if axis is None:
        return getitem(ravel(x), indices)
    x = _as_tensor_or_array(x)
    axis = normalize_axis_index(axis, x.ndim)
    shape = [1] * x.ndim
    grid = []
    for a, n in enumerate(x.shape):
        shape[a] = n
        grid.append(indices if a == axis else np.arange(n).reshape(shape))
        shape[a] = 1
    return getitem(x, tuple(grid))


def sort(x: Any, axis: int | None = -1) -> Any:
    """x sorted along an axis (stable), or flattened and sorted."""
    if axis is None:
        x, axis = ravel(x), -1
    return take_along_axis(x, np.argsort(_raw(x), axis=axis, kind="stable"), axis)


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonals of the planes of two axes, along a new last axis."""
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    rows, columns = x.shape[-2:]
    length = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    steps = np.arange(length)
    return getitem(x, (..., steps - min(offset, 0), steps + max(offset, 0)))


def diag(x: Any, k: int = 0) -> Any:
    """The k-th diagonal of a matrix, or a matrix with this k-th diagonal."""
    x = _as_tensor_or_array(x)
    if x.ndim != 1:
        return diagonal(x, k)
    n = x.shape[0] + abs(k)
    steps = np.arange(x.shape[0])
    return add_at((steps - min(k, 0), steps + max(k, 0)), x, (n, n))


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum along the diagonals of the planes of two axes."""
    return sum(diagonal(x, offset, axis1, axis2), axis=-1)


def triu(x: Any, k: int = 0) -> Any:
    """x with the elements below the k-th diagonal set to 0."""
    x = _as_tensor_or_array(x)
    return where(np.tri(x.shape[-2], x.shape[-1], k - 1, dtype=bool), 0, x)


def tril(x: Any, k: int = 0) -> Any:
    """x with the elements above the k-th diagonal set to 0."""
    x = _as_tensor_or_array(x)
    return where(np.tri(x.shape[-2], x.shape[-1], k, dtype=bool), x, 0)


def flip(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """x with the order along the axes reversed."""
    x = _as_tensor_or_array(x)
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    index = [slice(None)] * x.ndim
    for a in axes:
        index[operator.index(a)] = slice(None, None, -1)
    return getitem(x, tuple(index))


def flipud(x: Any) -> Any:
    """x with the order along its first axis reversed."""
    return flip(x, 0)


def fliplr(x: Any) -> Any:
    """x with the order along its second axis reversed."""
    return flip(x, 1)


def rot90(x: Any, k: int = 1, axes: tuple[int, int] = (0, 1)) -> Any:
    """x rotated by k quarter turns in the plane of two axes, from the first towards the second."""
    first, second = normalize_axis_tuple(axes, ndim(x))
    k %= 4
    if k == 0:
        return copy(x)
    if k == 2:
        return flip(x, (first, second))
    return swapaxes(flip(x, second), first, second) if k == 1 else flip(swapaxes(x, first, second), second)


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Any:
    """x with elements shifted along the axes (or of the flattened array), those pushed out coming in again."""
    x = _as_tensor_or_array(x)
    positions = np.arange(x.size).reshape(x.shape)
    return reshape(getitem(ravel(x), np.roll(positions, shift, axis)), x.shape)


def repeat(x: Any, repeats: int | Sequence[int], axis: int | None = None) -> Any:
    """x with every element repeated along an axis (or of the flattened array)."""
    x = _as_tensor_or_array(x)
    n = x.size if axis is None else x.shape[axis]
    return take(x, np.repeat(np.arange(n), repeats), axis)


def tile(x: Any, reps: int | Sequence[int]) -> Any:
    """x repeated as a block `reps` times along each axis."""
    x = _as_tensor_or_array(x)
    counts = (reps,) if isinstance(reps, int) else tuple(reps)
    counts = (1,) * (x.ndim - len(counts)) + counts
    shape = (1,) * (len(counts) - x.ndim) + x.shape
    pairs = tuple(length for n, count in zip(shape, counts, strict=True) for length in (count, n))
    spread = broadcast_to(reshape(x, tuple(n for length in shape for n in (1, length))), pairs)
    return reshape(spread, tuple(n * count for n, count in zip(shape, counts, strict=True)))


# Joining and splitting


def _concatenate_rule(g: Any, position: int, axis: int, edges: tuple[int, ...]) -> Any:
    return getitem(
        g, (slice(None),) * normalize_axis_index(axis, g.ndim) + (slice(edges[position], edges[position + 1]),)
    )


@primitive(arrays=_concatenate_rule)
def _concatenate(*arrays: Any, axis: int, edges: tuple[int, ...]) -> Any:
    return np.concatenate(arrays, axis=axis)


def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """The arrays joined along an existing axis, or all flattened and joined."""
    arrays = [_as_tensor_or_array(a) for a in arrays]
    if axis is None:
        arrays, axis = [ravel(a) for a in arrays], 0
    edges = (0, *np.cumsum([a.shape[axis] if a.ndim else 1 for a in arrays]).tolist())
    return _concatenate(*arrays, axis=axis, edges=edges)


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """The arrays, all of one shape, joined along a new axis of the result."""
    arrays = [_as_tensor_or_array(a) for a in arrays]
    if len({a.shape for a in arrays}) != 1:
        raise ValueError(f"stack: all arrays must have one shape, got {[a.shape for a in arrays]}")
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


def vstack(arrays: Sequence[Any]) -> Any:
    """The arrays, 1-d ones as rows, joined along the first axis."""
    return concatenate([atleast_2d(a) for a in arrays], 0)


def hstack(arrays: Sequence[Any]) -> Any:
    """The arrays joined along the second axis, or along the first if 1-d."""
    arrays = [atleast_1d(a) for a in arrays]
    return concatenate(arrays, 0 if arrays and arrays[0].ndim == 1 else 1)


def dstack(arrays: Sequence[Any]) -> Any:
    """The arrays joined along the third axis."""
    return concatenate([atleast_3d(a) for a in arrays], 2)


def column_stack(arrays: Sequence[Any]) -> Any:
    """1-d arrays as columns, and 2-d arrays, joined along the second axis."""
    return concatenate([a if ndim(a) > 1 else reshape(a, (-1, 1)) for a in arrays], 1)


def append(x: Any, values: Any, axis: int | None = None) -> Any:
    """`concatenate((x, values), axis)`."""
    return concatenate((x, values), axis)


def array_split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """x cut along an axis, into so many parts (the first ones larger by 1 if need be) or at these positions."""
    x = _as_tensor_or_array(x)
    n = x.shape[axis]
    if isinstance(sections, int):
        if sections < 1:
            raise ValueError(f"split: sections must be positive, got {sections}")
        small, larger = divmod(n, sections)
        cuts = [i * small + min(i, larger) for i in range(sections + 1)]
    else:
        cuts = [0, *[min(c + n if c < 0 else c, n) for c in sections], n]
    before = (slice(None),) * normalize_axis_index(axis, x.ndim)
    return [getitem(x, (*before, slice(a, b))) for a, b in pairwise(cuts)]


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """As `array_split`; a number of parts must divide the length."""
    n = shape(x)[axis]
    if isinstance(sections, int) and (sections < 1 or n % sections):
        raise ValueError(f"split: sections must divide the length {n} of axis {axis}, got {sections}")
    return array_split(x, sections, axis)


def hsplit(x: Any, sections: int | Sequence[int]) -> list[Any]:
    """x cut along its second axis, or its first if 1-d."""
    return split(x, sections, 0 if ndim(x) == 1 else 1)


def vsplit(x: Any, sections: int | Sequence[int]) -> list[Any]:
    """x cut along its first axis."""
    return split(x, sections, 0)


def dsplit(x: Any, sections: int | Sequence[int]) -> list[Any]:
    """x cut along its third axis."""
    return split(x, sections, 2)


def array(data: Any, dtype: Any = None) -> Any:
    """An array of the data, or, where nested lists hold tensors, those tensors stacked."""
    if isinstance(data, list | tuple) and _holds_tensor(data):
        stacked = stack([array(item) for item in data])
        return stacked if dtype is None else astype(stacked, dtype)
    if isinstance(data, Tensor):
        return copy(data) if dtype is None else astype(data, dtype)
    return np.array(data, dtype=dtype)


def _holds_tensor(data: Any) -> bool:
    return isinstance(data, Tensor) or (isinstance(data, list | tuple) and any(_holds_tensor(item) for item in data))


# Padding and windows


def _pad_rule(g: Any, widths: tuple[tuple[int, int], ...]) -> Any:
    return getitem(g, tuple(slice(before, n - after) for (before, after), n in zip(widths, g.shape, strict=True)))


@primitive(x=_pad_rule)
def _pad(x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    return np.pad(x, widths, constant_values=value)


def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Any:
    """x with a border, whose widths are (before, after) pairs as NumPy broadcasts them.

    mode: 'constant' (a border of `constant_values`), 'edge', 'reflect', 'symmetric' or 'wrap', as in NumPy.
    """
    x = _as_tensor_or_array(x)
    widths = tuple((int(a), int(b)) for a, b in np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist())
    if mode == "constant":
        return _pad(x, widths=widths, value=constant_values)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise ValueError(f"pad: mode must be constant, edge, reflect, symmetric or wrap, got {mode!r}")
    for axis, width in enumerate(widths):
        if width != (0, 0):
            x = take(x, np.pad(np.arange(x.shape[axis]), width, mode=mode), axis)  # type: ignore[call-overload]
    return x


def _windows_rule(g: Any, x_shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    return _fold(g, shape=x_shape, axes=axes)


def _fold_rule(g: Any, g_shape: tuple[int, ...], shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    return _windows(g, window=g_shape[len(shape) :], axes=axes)


@primitive(name="sliding_window_view", x=_windows_rule)
def _windows(x: Any, *, window: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    return np.lib.stride_tricks.sliding_window_view(x, window, axes)


@primitive(name="sliding_window_sum", g=_fold_rule)
def _fold(g: Any, *, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    result = np.zeros(shape, g.dtype)
    for offset in np.ndindex(g.shape[len(shape) :]):
        target = [slice(None)] * len(shape)
        for axis, start in zip(axes, offset, strict=True):
            target[axis] = slice(start, start + g.shape[axis])
        result[tuple(target)] += g[(..., *offset)]
    return result


def sliding_window_view(x: Any, window_shape: Shape, axis: int | Sequence[int] | None = None) -> Any:
    """All windows of this shape, at every position along the axes; the windows' own axes come last.

    As `numpy.lib.stride_tricks.sliding_window_view`; the adjoint adds every window up where it lay.
    """
    x = _as_tensor_or_array(x)
    window = (window_shape,) if isinstance(window_shape, int) else tuple(window_shape)
    axes = tuple(range(x.ndim)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    if len(window) != len(axes) or len({a % x.ndim for a in axes}) != len(axes):
        raise ValueError(f"sliding_window_view: window_shape {window} must name the same, distinct axes as axis {axes}")
    return _windows(x, window=window, axes=normalize_axis_tuple(axes, x.ndim))


shape = on_data(np.shape)
ndim = on_data(np.ndim)
size = on_data(np.size)
nonzero = on_data(np.nonzero)
argwhere = on_data(np.argwhere)
flatnonzero = on_data(np.flatnonzero)
searchsorted = on_data(np.searchsorted)
unique = on_data(np.unique)
