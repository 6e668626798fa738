"""The differentiable NumPy against NumPy: one table of cases drives values, dtypes, dispatch and gradients.

A case is a function of a NumPy-like module and arrays. Run with NumPy it gives the expected value; run with
`autograd.numpy`, on arrays and on tensors, and with NumPy on tensors, it must give the same. What the table cannot say
(kinks, ties, errors, operators that change their operand) has tests of its own below it.
"""

import itertools
import operator
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as onp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import autograd.numpy as np
from autograd import Primitive, Tensor, check_grads, grad, no_grad
from autograd.numpy import elementwise, products, reductions, shaping


@dataclass(frozen=True)
class Case:
    name: str
    f: Callable[..., Any]  # of a NumPy-like module and arrays
    shapes: tuple[tuple[int, ...], ...]
    low: float = -2.0
    high: float = 2.0
    constant: bool = False  # the result never requires a gradient
    expected: Callable[..., Any] | None = None  # of arrays, where NumPy has no such function
    zeros: bool = False  # some elements are exactly 0

    def arrays(self, dtype="f8"):
        """Random arrays that depend on nothing but this case."""
        rng = onp.random.default_rng(zlib.crc32(f"{self.name}{self.shapes}".encode()))
        arrays = [rng.uniform(self.low, self.high, shape) for shape in self.shapes]
        if self.zeros:
            arrays = [onp.where(rng.random(a.shape) < 0.3, 0.0, a) for a in arrays]
        return [a.astype(dtype) for a in arrays]

    def tensors(self, dtype="f8"):
        return [Tensor(a, requires_grad=True) for a in self.arrays(dtype)]

    def reference(self, arrays):
        return self.expected(*arrays) if self.expected else self.f(onp, *arrays)

    def __str__(self):
        return f"{self.name}{' of zeros' * self.zeros} {' '.join(map(str, self.shapes))}"


def cases(functions, shapes, **options):
    """A case for each function (given by name, or as name -> function) on each list of shapes."""
    if isinstance(functions, str):
        functions = {name: lambda np, *arrays, name=name: getattr(np, name)(*arrays) for name in functions.split()}
    return [Case(name, f, tuple(s), **options) for name, f in functions.items() for s in shapes]


ONE = [[(2, 3)], [()], [(0, 3)]]
TWO = [[(2, 3), (2, 3)], [(2, 3), (3,)], [(2, 1), (1, 3)], [(), (2, 3)], [(), ()], [(0, 3), (1, 3)]]
MATRIX = [[(3, 4)]]
CUBE = [[(2, 3, 4)]]

ELEMENTWISE = [
    *cases("negative positive square exp exp2 expm1 sin cos tanh sinh cosh arctan arcsinh degrees rad2deg", ONE),
    *cases("radians deg2rad cbrt absolute abs fabs sign sinc reciprocal nan_to_num", ONE),
    *cases("tan arcsin arccos arctanh", ONE, low=-0.9, high=0.9),
    *cases("log log2 log10 log1p sqrt", ONE, low=0.5, high=2.0),
    *cases("arccosh", ONE, low=1.5, high=3.0),
    *cases("floor ceil trunc fix rint round around", ONE),
    *cases("add subtract multiply maximum minimum fmax fmin logaddexp logaddexp2 arctan2 hypot copysign", TWO),
    *cases("heaviside", TWO),
    *cases("divide true_divide mod remainder fmod floor_divide", TWO, low=0.7, high=2.9),
    *cases("power", TWO, low=0.5, high=2.0),
    *cases(
        {
            "x + y": lambda np, x, y: x + y,
            "x - y": lambda np, x, y: x - y,
            "x * y": lambda np, x, y: x * y,
            "x / y": lambda np, x, y: x / y,
            "x // y": lambda np, x, y: x // y,
            "x % y": lambda np, x, y: x % y,
            "x ** y": lambda np, x, y: x**y,
            "where": lambda np, x, y: np.where(onp.array([True, False, True]), x, y),
            "where on a condition of tensors": lambda np, x, y: np.where(x < y, x, y * 2),
        },
        TWO,
        low=0.7,
        high=2.9,
    ),
    *cases(
        {
            "unary operators": lambda np, x: abs(-x) + +x,
            "numbers on the right": lambda np, x: ((x + 1) * 2 - 3.0) / 4 // 2 % 5,
            "numbers on the left": lambda np, x: 1 + 2 * (3.0 - 4 / (5 + x)) + 7 // (9.5 + x) + 7 % (9.5 + x),
            "arrays on the left": lambda np, x: onp.array([2.0], x.dtype) * (onp.array([1.0], x.dtype) - x),
            "clip": lambda np, x: np.clip(x, -1.0, 0.5),
            "clip from below": lambda np, x: np.clip(x, 0.5, None),
            "clip from above": lambda np, x: np.clip(x, None, 0.5),
            "clip method": lambda np, x: x.clip(-1.0, 0.5),
            "round to decimals": lambda np, x: np.round(x, 1),
            "round method": lambda np, x: x.round(1),
            "sinc near 0": lambda np, x: np.sinc(x * 1e-3),
            "power of 2 to x": lambda np, x: np.power(2.0, x),
            "2 ** x": lambda np, x: 2**x,
            **{f"x ** {n}": lambda np, x, n=n: x**n for n in (0, 1, 2, 3, 0.0, 1.0, 2.0)},
            "nan_to_num with arguments": lambda np, x: np.nan_to_num(x, nan=1.0, posinf=2.0),
            "astype": lambda np, x: np.astype(x, x.dtype) if hasattr(np, "astype") else x,
            "astype method": lambda np, x: x.astype(x.dtype) * x.astype("f8"),
        },
        ONE,
    ),
    *cases(
        {f"x ** {n}": lambda np, x, n=n: x**n for n in (-1.0, 0.5, -2.0, 1.5)} | {"pow": lambda np, x: pow(x, 2)},
        ONE,
        low=0.5,
        high=2.0,
    ),
    *cases({"clip by arrays": lambda np, x, a, b: np.clip(x, a - 1, b + 1)}, [[(3, 4), (4,), (3, 1)]]),
    *cases({"where of numbers": lambda np, x: np.where(x > 0, x, 0.0) + np.where(x > 0, 0, x)}, ONE),
]

CONSTANT = [
    *cases("isnan isinf isfinite signbit logical_not zeros_like ones_like spacing", ONE, constant=True),
    *cases("equal not_equal less less_equal greater greater_equal", TWO, constant=True),
    *cases("logical_and logical_or logical_xor isclose allclose nextafter", TWO, constant=True),
    *cases(
        {
            "x < y": lambda np, x, y: x < y,
            "x <= y": lambda np, x, y: x <= y,
            "x > y": lambda np, x, y: x > y,
            "x >= y": lambda np, x, y: x >= y,
            "x == y": lambda np, x, y: x == y,
            "x != y": lambda np, x, y: x != y,
            "bits": lambda np, x, y: ((x > 0) & (y > 0)) | ((x > 1) ^ ~(y > 1)),
            "bitwise functions": lambda np, x, y: np.bitwise_or(
                np.bitwise_and(x > 0, y > 0), np.bitwise_xor(np.invert(x > 1), np.bitwise_not(y > 1))
            ),
            "array_equal": lambda np, x, y: np.array_equal(x, y),
        },
        TWO,
        constant=True,
    ),
    *cases(
        {
            "full_like": lambda np, x: np.full_like(x, 3.0),
            "empty_like": lambda np, x: np.empty_like(x) * 0 == 0,
            "all": lambda np, x: np.all(x > -1, axis=0),
            "any": lambda np, x: np.any(x > 1, axis=-1, keepdims=True),
            "argmax": lambda np, x: np.argmax(x, axis=1),
            "argmin": lambda np, x: np.argmin(x),
            "argsort": lambda np, x: np.argsort(x, axis=0),
            "methods": lambda np, x: [(x > 0).all(), (x > 0).any(0), x.argmax(0), x.argmin(1), x.argsort()],
            "count_nonzero": lambda np, x: np.count_nonzero(x > 0, axis=0),
            "nonzero": lambda np, x: np.nonzero(x > 0),
            "where of a condition": lambda np, x: np.where(x > 0),
            "argwhere": lambda np, x: np.argwhere(x > 0),
            "flatnonzero": lambda np, x: np.flatnonzero(x > 0),
            "searchsorted": lambda np, x: np.searchsorted(onp.array([-1.0, 0.0, 1.0]), x),
            "unique": lambda np, x: np.unique(np.floor(x)),
            "shape, ndim and size": lambda np, x: [np.shape(x), np.ndim(x), np.size(x)],
        },
        MATRIX,
        constant=True,
    ),
]


def over_axes(name, **options):
    """The forms that every reduction takes."""
    forms = {
        "": {},
        " axis=1": {"axis": 1},
        " axis=-1": {"axis": -1},
        " axis=(0, -1)": {"axis": (0, -1)},
        " axis=() ": {"axis": ()},
        " keepdims": {"axis": (1, 2), "keepdims": True},
        " keepdims of all": {"keepdims": True},
    }
    functions = {
        name + form: lambda np, x, arguments=arguments: getattr(np, name)(x, **arguments)
        for form, arguments in forms.items()
    }
    return cases(functions, CUBE, **options) + cases(name, [[(5,)], [()]], **options)


REDUCTIONS = [
    *itertools.chain.from_iterable(over_axes(name) for name in ["sum", "mean", "prod", "max", "min", "amax", "amin"]),
    *itertools.chain.from_iterable(over_axes(name) for name in ["var", "std", "ptp"]),
    *over_axes("prod", zeros=True),
    *cases(
        {
            "sum of nothing": lambda np, x: np.sum(x, axis=0) + np.sum(x),
            "prod of nothing": lambda np, x: np.prod(x, axis=0) * np.prod(x),
            "cumsum of nothing": lambda np, x: np.cumsum(x, axis=0),
            "cumprod of nothing": lambda np, x: np.cumprod(x, axis=0),
            "sum of no rows": lambda np, x: np.sum(x, axis=1),
            "max of no rows": lambda np, x: np.max(x, axis=1),
        },
        [[(0, 3)]],
    ),
    *cases(
        {
            "sum with dtype": lambda np, x: np.sum(x, axis=0, dtype="f8"),
            "mean with dtype": lambda np, x: np.mean(x, axis=0, dtype="f8"),
            "var ddof": lambda np, x: np.var(x, axis=0, ddof=1),
            "std ddof": lambda np, x: np.std(x, axis=(0, 1), ddof=1, keepdims=True),
            "average": lambda np, x: np.average(x, axis=1),
            "average with weights": lambda np, x: np.average(x, axis=0, weights=onp.array([1, 2, 5], x.dtype)),
            "methods": lambda np, x: [x.sum(0), x.mean(1), x.prod(), x.max(0), x.min(1), x.var(), x.std(0)],
            "method arguments": lambda np, x: x.sum(axis=0, keepdims=True) * x.mean(axis=(0, 1), keepdims=True),
            "running methods": lambda np, x: x.cumsum(0) * x.cumprod(1),
            "cumsum": lambda np, x: np.cumsum(x),
            "cumsum axis": lambda np, x: np.cumsum(x, axis=-2),
            "cumprod": lambda np, x: np.cumprod(x),
            "cumprod axis": lambda np, x: np.cumprod(x, axis=0),
            "diff": lambda np, x: np.diff(x),
            "diff twice": lambda np, x: np.diff(x, n=2, axis=0),
            "diff never": lambda np, x: np.diff(x, n=0),
            "broadcast_to": lambda np, x: np.broadcast_to(x, (2, 3, 4)),
        },
        MATRIX,
    ),
    *cases(
        {
            "cumprod axis=1": lambda np, x: np.cumprod(x, axis=1),
            "cumprod": lambda np, x: np.cumprod(x),
        },
        MATRIX,
        zeros=True,
    ),
    *cases(
        {"average with weights of tensors": lambda np, x, w: np.average(x, axis=0, weights=w)},
        [[(3, 4), (3, 4)]],
        low=0.5,
    ),
    *cases({"logsumexp": lambda np, x: np.logsumexp(x)}, ONE[:2], expected=lambda x: onp.log(onp.exp(x).sum()), low=-1),
    *cases(
        {"logsumexp over axes": lambda np, x: np.logsumexp(x, axis=(0, 2), keepdims=True)},
        CUBE,
        expected=lambda x: onp.log(onp.exp(x).sum((0, 2), keepdims=True)),
    ),
]

SHAPING = [
    *cases(
        {
            "reshape": lambda np, x: np.reshape(x, (4, -1)),
            "reshape to 1-d": lambda np, x: np.reshape(x, -1),
            "reshape method": lambda np, x: x.reshape(2, 12) + x.reshape((2, 12)),
            "ravel": lambda np, x: np.ravel(x) + x.ravel() + x.flatten(),
            "transpose": lambda np, x: np.transpose(x),
            "transpose axes": lambda np, x: np.transpose(x, (1, -1, 0)),
            "transpose method": lambda np, x: x.transpose(2, 0, 1) * x.transpose((2, 0, 1)) * x.T.transpose(0, 2, 1),
            "transpose method without axes": lambda np, x: x.transpose() + x.T,
            "swapaxes": lambda np, x: np.swapaxes(x, 0, -1) + x.swapaxes(0, -1),
            "moveaxis": lambda np, x: np.moveaxis(x, 0, -1),
            "moveaxis of several": lambda np, x: np.moveaxis(x, (0, 1), (-1, 0)),
            "rollaxis": lambda np, x: np.rollaxis(x, 2),
            "rollaxis to the end": lambda np, x: np.rollaxis(x, 0, 3),
            "rollaxis to the middle": lambda np, x: np.rollaxis(x, -1, 1),
            "expand_dims": lambda np, x: np.expand_dims(x, 1),
            "expand_dims of several": lambda np, x: np.expand_dims(x, (0, -1)),
            "copy": lambda np, x: np.copy(x) * x.copy(),
            "flip": lambda np, x: np.flip(x),
            "flip axes": lambda np, x: np.flip(x, (0, -1)),
            "flip axis": lambda np, x: np.flip(x, 1),
            "flipud": lambda np, x: np.flipud(x),
            "fliplr": lambda np, x: np.fliplr(x),
            "rot90": lambda np, x: [np.rot90(x, k) for k in (-1, 0, 1, 2, 3)],
            "rot90 axes": lambda np, x: np.rot90(x, axes=(2, 0)),
            "roll": lambda np, x: np.roll(x, 5),
            "roll axis": lambda np, x: np.roll(x, -1, axis=1),
            "roll axes": lambda np, x: np.roll(x, (1, -3), axis=(0, 2)),
            "repeat": lambda np, x: np.repeat(x, 2),
            "repeat axis": lambda np, x: np.repeat(x, [1, 0, 2], axis=1),
            "repeat method": lambda np, x: x.repeat(2, axis=0),
            "tile": lambda np, x: np.tile(x, 2),
            "tile axes": lambda np, x: np.tile(x, (2, 1, 2)),
            "tile more axes": lambda np, x: np.tile(x, (2, 1, 1, 3)),
            "tile to nothing": lambda np, x: np.tile(x, (0, 1, 1)),
            "sort": lambda np, x: np.sort(x),
            "sort axis": lambda np, x: np.sort(x, axis=0),
            "sort flat": lambda np, x: np.sort(x, axis=None),
            "take": lambda np, x: np.take(x, [3, 0, 3, -1]),
            "take axis": lambda np, x: np.take(x, onp.array([[0, 2], [2, 2]]), axis=1),
            "take one": lambda np, x: np.take(x, 1, axis=-1),
            "take method": lambda np, x: x.take([1, 1], axis=0),
            "take_along_axis": lambda np, x: np.take_along_axis(x, onp.argsort(onp.arange(24).reshape(2, 3, 4)), 2),
            "take_along_axis flat": lambda np, x: np.take_along_axis(x, onp.array([5, 5, 0]), None),
            "diagonal": lambda np, x: np.diagonal(x) * 1,
            "diagonal axes": lambda np, x: np.diagonal(x, 1, 2, 0) * x.diagonal(1, 2, 0),
            "diagonal below": lambda np, x: np.diagonal(x, -1, 1, 2) * 1,
            "diagonal outside": lambda np, x: np.diagonal(x, 9) * 1,
            "trace": lambda np, x: np.trace(x) + x.trace(),
            "trace axes": lambda np, x: np.trace(x, -1, 2, 1),
            "triu": lambda np, x: np.triu(x) + np.triu(x, 1) + np.triu(x, -1),
            "tril": lambda np, x: np.tril(x) + np.tril(x, 1) + np.tril(x, -1),
            "split": lambda np, x: np.split(x, 3, axis=1),
            "split at": lambda np, x: np.split(x, [1, 3], axis=-1),
            "array_split": lambda np, x: np.array_split(x, 3, axis=2),
            "array_split at": lambda np, x: np.array_split(x, [1, -1, 9], axis=2),
            "hsplit": lambda np, x: np.hsplit(x, 3),
            "vsplit": lambda np, x: np.vsplit(x, 2),
            "dsplit": lambda np, x: np.dsplit(x, [1]),
            "pad": lambda np, x: np.pad(x, 1),
            "pad pair": lambda np, x: np.pad(x, (1, 2), constant_values=3.0),
            "pad pairs": lambda np, x: np.pad(x, ((1, 0), (0, 2), (0, 0))),
            "pad edge": lambda np, x: np.pad(x, ((0, 0), (1, 2), (2, 1)), mode="edge"),
            "pad reflect": lambda np, x: np.pad(x, ((0, 0), (1, 2), (3, 1)), mode="reflect"),
            "pad symmetric": lambda np, x: np.pad(x, ((2, 0), (1, 2), (4, 1)), mode="symmetric"),
            "pad wrap": lambda np, x: np.pad(x, ((1, 1), (1, 3), (5, 1)), mode="wrap"),
            "windows": lambda np, x: np.lib.stride_tricks.sliding_window_view(x, (2, 3), (1, 2)) * 1,
            "windows of all axes": lambda np, x: np.lib.stride_tricks.sliding_window_view(x, (1, 2, 2)) * 1,
            "windows of one axis": lambda np, x: np.lib.stride_tricks.sliding_window_view(x, 2, -1) * 1,
        },
        CUBE,
    ),
    *cases(
        {
            "sliding_window_view": lambda np, x: np.sliding_window_view(x, (2, 2)),
        },
        MATRIX,
        expected=lambda x: onp.lib.stride_tricks.sliding_window_view(x, (2, 2)),
    ),
    *cases(
        {
            "squeeze": lambda np, x: np.squeeze(x),
            "squeeze axis": lambda np, x: np.squeeze(x, 0) + x.squeeze(0),
            "squeeze axes": lambda np, x: np.squeeze(x, (0, -1)),
        },
        [[(1, 3, 1)]],
    ),
    *cases("atleast_1d atleast_2d atleast_3d", [[()], [(3,)], [(2, 3)], [(2, 3, 4)]]),
    *cases("diag", [[(3,)], [(3, 4)]]),
    *cases({"diag offset": lambda np, x: [np.diag(x, 1), np.diag(x, -2)]}, [[(3,)], [(3, 4)]]),
    *cases(
        {
            "concatenate": lambda np, x, y: np.concatenate([x, y]),
            "concatenate axis": lambda np, x, y: np.concatenate((x, y, x), axis=-1),
            "concatenate flat": lambda np, x, y: np.concatenate([x, y], axis=None),
            "concatenate with arrays": lambda np, x, y: np.concatenate([x, onp.ones((1, 3), x.dtype), y]),
            "stack": lambda np, x, y: np.stack([x, y]),
            "stack axis": lambda np, x, y: np.stack([x, y], axis=-1),
            "vstack": lambda np, x, y: np.vstack([x, y]),
            "hstack": lambda np, x, y: np.hstack([x, y]),
            "dstack": lambda np, x, y: np.dstack([x, y]),
            "column_stack": lambda np, x, y: np.column_stack([x, y[:, 0], y]),
            "append": lambda np, x, y: np.append(x, y),
            "append axis": lambda np, x, y: np.append(x, y, axis=1),
        },
        [[(2, 3), (2, 3)], [(0, 3), (0, 3)]],
    ),
    *cases(
        {
            "stack of 1-d": lambda np, x, y: [np.vstack([x, y]), np.hstack([x, y]), np.dstack([x, y])],
            "broadcast_arrays": lambda np, x, y: np.broadcast_arrays(x, y[:1], x[0], y[:, None]),
            "columns of 1-d": lambda np, x, y: np.column_stack([x, y]),
            "split of 1-d": lambda np, x, y: [*np.hsplit(x, 3), *np.split(y, 3)],
        },
        [[(3,), (3,)]],
    ),
    *cases(
        {"array of nested lists": lambda np, x, y: np.array([[x, y], [y * y, 1.0]])},
        [[(), ()]],
        expected=lambda x, y: onp.array([[x, y], [y * y, 1.0]]),
    ),
]

INDEXING = cases(
    {
        repr(index): lambda np, x, index=index: x[index] * 1
        for index in [
            0,
            -1,
            (1, 2),
            (1, 2, 3),
            (slice(None), 0),
            (slice(None, None, -1), slice(1, None)),
            (slice(0, 0),),
            (slice(None, None, 2), Ellipsis, 1),
            (Ellipsis, slice(-3, -1)),
            None,
            (None, 0, Ellipsis, None),
            Ellipsis,
            (),
            [0, 1, 1],
            ([0, 1, 1], [2, 0, 0]),
            (slice(None), [2, 0, 2]),
            ([0, 1], slice(None), [3, 3]),
            (0, slice(None), [3, 3, 0]),
            (onp.array([[0], [1]]), onp.array([0, 2])),
            (None, onp.array([1, 1]), Ellipsis, 0),
            onp.arange(24).reshape(2, 3, 4) % 5 == 0,
            onp.array([True, False]),
            (onp.array([True, False]), slice(None), [0, 0]),
            (0, onp.array([True, False, True])),
            onp.array([], int),
            onp.True_,
            True,
            False,
        ]
    },
    CUBE,
) + cases(
    {
        "integer tensor": lambda np, x: x[np.argmax(x, axis=0)],
        "integer tensors": lambda np, x: x[np.argmax(x, axis=0), [0, 1, 2, 3]],
        "boolean tensor": lambda np, x: x[x > 0],
        "iteration": lambda np, x: [row * row for row in x],
        "unpacking": lambda np, x: (lambda a, b, c: a * b - c)(*x),
        "written out": lambda np, x: np.stack([x[i, i] for i in range(3)]),
    },
    MATRIX,
)

PRODUCTS = [
    *cases(
        "matmul",
        [
            [(3, 4), (4, 2)],
            [(4,), (4,)],
            [(4,), (4, 2)],
            [(3, 4), (4,)],
            [(5, 3, 4), (4, 2)],
            [(5, 3, 4), (5, 4, 2)],
            [(2, 1, 3, 4), (5, 4, 2)],
            [(4,), (5, 4, 2)],
            [(5, 3, 4), (4,)],
            [(0, 4), (4, 2)],
            [(3, 0), (0, 2)],
        ],
    ),
    *cases("dot", [[(), (3,)], [(4,), (4,)], [(3, 4), (4,)], [(4,), (4, 2)], [(3, 4), (4, 2)], [(2, 3, 4), (5, 4, 2)]]),
    *cases("inner", [[(), (3,)], [(4,), (4,)], [(2, 4), (3, 4)], [(2, 3, 4), (4,)]]),
    *cases("outer", [[(3,), (4,)], [(2, 3), (2,)], [(), (3,)]]),
    *cases("vdot", [[(3,), (3,)], [(2, 3), (2, 3)]]),
    *cases("kron", [[(3,), (2,)], [(2, 3), (2, 2)], [(2, 3), (2,)], [(2,), (2, 1, 3)], [(), (2, 3)]]),
    *cases(
        {"x @ y": lambda np, x, y: x @ y + onp.ones((3, 4), x.dtype) @ y, "method": lambda np, x, y: x.dot(y)},
        [[(3, 4), (4, 2)]],
    ),
    *cases(
        {
            "tensordot": lambda np, x, y: np.tensordot(x, y),
            "tensordot one axis": lambda np, x, y: np.tensordot(x, y, axes=((2,), (1,))),
            "tensordot axes": lambda np, x, y: np.tensordot(x, y, axes=((0, -1), (-1, 1))),
            "tensordot ints": lambda np, x, y: np.tensordot(x, y, axes=(1, 0)),
            "tensordot outer": lambda np, x, y: np.tensordot(x, y[0, 0], axes=0),
        },
        [[(2, 3, 4), (3, 4, 2)]],
    ),
    *cases(
        {
            subscripts: lambda np, *arrays, subscripts=subscripts: np.einsum(subscripts, *arrays)
            for subscripts in ["ij,jk->ik", "ij,jk", "ij,jk->ki", "ij,jk->", "ij,jk->j", "ij , jk -> i k", "ij,kj->ik"]
        },
        [[(3, 3), (3, 3)]],
    ),
    *cases(
        {
            subscripts: lambda np, *arrays, subscripts=subscripts: np.einsum(subscripts, *arrays)
            for subscripts in [
                "ii",
                "ii->i",
                "ij->ji",
                "ij->",
                "ij->i",
                "ji",
                "...->...",
                "i...->...",
                "...i->i...",
                "...ii",
            ]
        },
        [[(3, 3)]],
    ),
    *cases(
        {"iii->i": lambda np, x: np.einsum("iii->i", x), "iij->j": lambda np, x: np.einsum("iij->j", x)}, [[(3, 3, 3)]]
    ),
    *cases(
        {"batched": lambda np, x, y: np.einsum("...ij,...jk->...ik", x, y)},
        [[(5, 2, 3), (3, 4)], [(1, 2, 3), (5, 3, 2)]],
    ),
    *cases({"broadcast letter": lambda np, x, y: np.einsum("ij,ij->ij", x, y)}, [[(1, 3), (2, 3)]]),
    *cases({"diagonal and sum": lambda np, x, y: np.einsum("iij,jk->i", x, y)}, [[(2, 2, 3), (3, 4)]]),
    *cases({"three": lambda np, x, y, z: np.einsum("ij,jk,kl->il", x, y, z)}, [[(2, 3), (3, 4), (4, 2)]]),
    *cases({"nothing": lambda np, x, y: np.einsum("ij,jk->ik", x, y)}, [[(2, 0), (0, 3)]]),
]

OURS_ONLY = [
    *cases(
        {"add_at": lambda np, x: np.add_at((onp.array([2, 0, 2]), slice(1, 5)), x, (4, 6))},
        MATRIX,
        expected=lambda x: onp.stack([onp.pad(row, (1, 1)) for row in (x[1], x[1] * 0, x[0] + x[2], x[1] * 0)]),
    ),
    *cases({"getitem": lambda np, x: np.getitem(x, (slice(None), [0, 0]))}, MATRIX, expected=lambda x: x[:, [0, 0]]),
    *cases(
        {"array of a tensor": lambda np, x: np.array(x) * np.array(x, dtype="f8")},
        MATRIX,
        expected=lambda x: x * x.astype("f8"),
    ),
]

CASES = ELEMENTWISE + CONSTANT + REDUCTIONS + SHAPING + INDEXING + PRODUCTS + OURS_ONLY


def assert_same(found, expected, dtype=None):
    """Equal structure, shape, dtype and, up to the rounding of another order of summation, values."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            assert_same(f, e)
        return
    found = found.data if isinstance(found, Tensor) else found
    expected = onp.asarray(expected)
    assert onp.shape(found) == expected.shape
    assert onp.asarray(found).dtype == expected.dtype
    tolerance = 1e-5 if expected.dtype == onp.float32 else 1e-13
    onp.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def flat(results):
    """All results of a case, in one list."""
    if isinstance(results, list | tuple):
        return [y for result in results for y in flat(result)]
    return [results]


every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_function = pytest.mark.parametrize("case", [case for case in CASES if not case.constant], ids=str)
both_precisions = pytest.mark.parametrize("dtype", ["f4", "f8"])

# NumPy warns of these on purpose; the values (NaN) are what is compared.
pytestmark = pytest.mark.filterwarnings("ignore:Degrees of freedom", "ignore:Mean of empty slice")


@every_case
@both_precisions
class TestValues:
    def test_on_arrays(self, case, dtype):
        arrays = case.arrays(dtype)
        found = case.f(np, *arrays)
        assert_same(found, case.reference(arrays))
        assert not any(isinstance(y, Tensor) for y in flat(found)), "arrays in, arrays out"

    def test_on_tensors(self, case, dtype):
        found = case.f(np, *case.tensors(dtype))
        assert_same(found, case.reference(case.arrays(dtype)))
        if case.constant:
            assert not any(isinstance(y, Tensor) and y.requires_grad for y in flat(found))
        else:
            assert any(y.requires_grad for y in flat(found))

    def test_on_tensors_that_require_no_gradient(self, case, dtype):
        found = case.f(np, *map(Tensor, case.arrays(dtype)))
        assert_same(found, case.reference(case.arrays(dtype)))
        assert not any(isinstance(y, Tensor) and y.requires_grad for y in flat(found))

    def test_by_numpy_s_own_functions(self, case, dtype):
        if case.expected:
            return  # NumPy has no such function
        found = case.f(onp, *case.tensors(dtype))
        assert_same(found, case.reference(case.arrays(dtype)))
        if not case.constant:
            assert all(isinstance(y, Tensor) for y in flat(found)), "nothing leaves the graph"


@every_function
def test_gradients_to_second_order(case):
    check_grads(lambda *arrays: flat(case.f(np, *arrays)), case.arrays(), order=2)


@every_function
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_float32_are_float32(case, create_graph):
    tensors = case.tensors("f4")
    results = [y for y in flat(case.f(np, *tensors)) if isinstance(y, Tensor) and y.requires_grad]
    weights = [onp.ones(y.shape, y.dtype) for y in results]
    for x, g in zip(tensors, grad(results, tensors, weights, create_graph=create_graph), strict=True):
        assert g.dtype == onp.float32
        assert g.shape == x.shape


class TestCompleteness:
    """Whoever adds a function or a rule adds a case, or these fail."""

    def test_every_public_function_has_a_case(self):
        used = set()

        class Recorder:
            def __getattr__(self, name):
                used.add(name)
                return getattr(np, name)

        for case in CASES:
            case.f(Recorder(), *case.tensors())
        public = {name for module in (elementwise, reductions, shaping, products) for name in module.__all__}
        assert public <= used
        assert used - public <= {"lib"}, "a case of something that is not ours"

    def test_every_rule_is_used(self):
        used = set()

        def visit(tensors):
            nodes = [t._node for t in tensors if isinstance(t, Tensor) and t._node is not None]
            while nodes:
                node = nodes.pop()
                nodes += node.parents
                if node.plan is not None:
                    used.update(rule for rule, *_ in node.plan.rules)

        for case in CASES:
            if not case.constant:
                tensors = case.tensors()
                results = [y for y in flat(case.f(np, *tensors)) if isinstance(y, Tensor) and y.requires_grad]
                weights = [Tensor(onp.ones(y.shape), requires_grad=True) for y in results]
                visit(results)
                visit(grad(results, tensors, weights, create_graph=True))
        unused = [
            f"{primitive.name}, argument {argument}"
            for primitive in Primitive.registry.values()
            for argument, rule in primitive.rules.items()
            if rule.__module__.startswith("autograd.numpy") and rule not in used
        ]
        assert not unused

    def test_public_names_are_listed(self):
        """A public function of our own that no `__all__` has would be hidden behind NumPy's."""
        modules = (elementwise, reductions, shaping, products)
        defined = {
            name
            for module in modules
            for name, thing in vars(module).items()
            if isinstance(thing, Primitive) or getattr(thing, "__module__", "") == module.__name__
            if hasattr(onp, name) and not name.startswith("_")
        }
        assert defined <= {name for module in modules for name in module.__all__}

    def test_every_public_function_is_documented(self):
        for module in (elementwise, reductions, shaping, products):
            for name in module.__all__:
                assert getattr(module, name).__doc__, name


def derivative(f, *values):
    """The gradients of a function's sum at these values, as nested lists; one alone comes without a list around."""
    tensors = [Tensor(onp.asarray(value, float), requires_grad=True) for value in values]
    found = [g.tolist() for g in grad([np.sum(f(*tensors))], tensors)]
    return found[0] if len(found) == 1 else found


class TestKinks:
    def test_maximum_and_minimum_share_a_tie(self):
        for f in (np.maximum, np.minimum, np.fmax, np.fmin):
            assert derivative(f, 1.0, 1.0) == [0.5, 0.5]
            assert derivative(lambda x, f=f: f(x, 0.0), 0.0) == 0.5
        assert derivative(np.maximum, [1.0, 2.0, 3.0], 2.0) == [[0.0, 0.5, 1.0], 1.5]

    def test_max_and_min_share_ties_evenly(self):
        for f in (np.max, np.min):
            assert derivative(f, [1.0, 1.0, 1.0, 1.0]) == [0.25] * 4
            assert derivative(lambda x, f=f: f(x, axis=1), [[0.0, 0.0], [0.0, 0.0]]) == [[0.5, 0.5]] * 2
        assert derivative(np.max, [3.0, 1.0, 3.0]) == [0.5, 0.0, 0.5]
        assert derivative(np.min, [3.0, 1.0, 3.0]) == [0.0, 1.0, 0.0]

    def test_absolute_values_at_zero(self):
        for f in (np.abs, np.absolute, np.fabs, abs):
            assert derivative(f, [-2.0, 0.0, 2.0]) == [-1.0, 0.0, 1.0]

    def test_norms_at_zero(self):
        assert derivative(np.hypot, 0.0, 0.0) == [0.0, 0.0]
        assert derivative(np.hypot, 3.0, 4.0) == [0.6, 0.8]
        assert derivative(np.std, [2.0, 2.0, 2.0]) == [0.0] * 3
        assert derivative(lambda x: np.std(x, axis=0), [[2.0, 1.0], [2.0, 3.0]]) == [[0.0, -0.5], [0.0, 0.5]]

    def test_a_bound_of_clip_belongs_to_the_inside(self):
        assert derivative(lambda x: np.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [0.0, 1.0, 1.0, 1.0, 0.0]
        assert derivative(lambda x, a: np.clip(x, a, 5.0), [0.0, 1.0, 2.0], 1.0) == [[0.0, 1.0, 1.0], 1.0]

    def test_steps_are_flat(self):
        for f in (np.floor, np.ceil, np.rint, np.trunc, np.sign, np.round):
            assert derivative(f, [-1.5, 0.0, 2.0]) == [0.0, 0.0, 0.0]

    def test_powers_at_zero(self):
        assert derivative(lambda x: x**2, 0.0) == 0.0
        assert derivative(lambda x: x**1, 0.0) == 1.0
        assert derivative(lambda x: x**0, 0.0) == 0.0
        assert derivative(np.power, 0.0, 2.0) == [0.0, 0.0]
        assert derivative(np.power, 0.0, 0.0) == [0.0, 0.0]
        assert derivative(np.power, 3.0, 0.0) == [0.0, pytest.approx(onp.log(3))]
        check_grads(lambda x: x**3, [0.0], order=3)
        check_grads(lambda x: x**2, [onp.array([0.0, -1.0])], order=3)

    def test_powers_of_negative_numbers(self):
        assert derivative(lambda x: x**3, -2.0) == 12.0
        assert derivative(lambda x: np.power(x, onp.array([2.0, 3.0])), [-2.0, -2.0]) == [-4.0, 12.0]

    def test_products_with_one_two_and_three_zeros(self):
        assert derivative(np.prod, [2.0, 0.0, 3.0]) == [0.0, 6.0, 0.0]
        assert derivative(np.prod, [0.0, 0.0, 3.0]) == [0.0, 0.0, 0.0]
        assert derivative(np.cumprod, [2.0, 0.0, 3.0]) == [1.0, 8.0, 0.0]
        for zeros in (1, 2, 3):
            x = onp.array([0.0] * zeros + [2.0, 3.0])
            check_grads(np.prod, [x], order=3)
            check_grads(np.cumprod, [x], order=3)

    def test_sinc_is_smooth_at_zero(self):
        x = onp.array([0.0, 1e-9, 1e-3, 3.1e-3, 3.2e-3, -1.0, 0.5])
        onp.testing.assert_allclose(np.sinc(Tensor(x)).data, onp.sinc(x), rtol=1e-15)
        check_grads(np.sinc, [x], order=3)

    def test_mod_and_fmod_between_their_jumps(self):
        check_grads(np.mod, [onp.array([5.3, -5.3]), onp.array([2.0, 2.0])], order=2)
        check_grads(np.fmod, [onp.array([5.3, -5.3]), onp.array([2.0, 2.0])], order=2)

    def test_where_does_not_let_a_nan_through_from_the_branch_not_taken(self):
        x = Tensor([0.0, 4.0], requires_grad=True)
        safe = np.where(x > 0, x, 1.0)
        np.where(x > 0, np.sqrt(safe), 0.0).sum().backward()
        assert x.grad.tolist() == [0.0, 0.25]

    def test_nan_to_num_is_flat_where_it_replaced(self):
        assert derivative(np.nan_to_num, [onp.nan, onp.inf, -onp.inf, 2.0]) == [0.0, 0.0, 0.0, 1.0]

    def test_a_number_wins_over_nan(self):
        assert derivative(np.fmax, [onp.nan, 1.0], [1.0, onp.nan]) == [[0.0, 1.0], [1.0, 0.0]]
        assert derivative(np.fmin, [onp.nan, 1.0], [1.0, onp.nan]) == [[0.0, 1.0], [1.0, 0.0]]


class TestRange:
    """Values at the edge of what floats hold."""

    def test_logsumexp_neither_overflows_nor_underflows(self):
        x = Tensor([1000.0, 1000.0], requires_grad=True)
        y = np.logsumexp(x)
        y.backward()
        assert y.item() == pytest.approx(1000 + onp.log(2), rel=1e-15)
        assert x.grad.tolist() == [0.5, 0.5]
        assert np.logsumexp(onp.array([-1000.0, -1000.0])) == pytest.approx(-1000 + onp.log(2), rel=1e-15)

    def test_logsumexp_of_infinities(self):
        assert np.logsumexp(onp.array([-onp.inf, 0.0])) == 0.0
        assert np.logsumexp(onp.array([onp.inf, 0.0])) == onp.inf
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            assert np.logsumexp(onp.array([-onp.inf, -onp.inf])) == -onp.inf

    def test_logaddexp_of_large_numbers(self):
        assert derivative(np.logaddexp, 1000.0, 0.0) == [1.0, 0.0]

    def test_tanh_saturates(self):
        assert derivative(np.tanh, [-500.0, 500.0]) == [0.0, 0.0]

    def test_the_mean_of_nothing_is_nan_and_the_maximum_refused(self):
        with pytest.warns(RuntimeWarning, match="invalid value"):
            assert onp.isnan(np.mean(Tensor(onp.zeros(0))).item())
        for f in (np.max, np.min):
            with pytest.raises(ValueError, match="zero-size array"):
                f(Tensor(onp.zeros(0)))


class TestPromotion:
    """NEP 50: Python's numbers are weak, everything else has its dtype."""

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
    @pytest.mark.parametrize("operation", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
    @pytest.mark.parametrize("number", [2, 2.5])
    @pytest.mark.parametrize("shape", [(), (3,)])
    def test_python_s_numbers_are_weak(self, dtype, operation, number, shape):
        x = Tensor(onp.full(shape, 1.5, dtype), requires_grad=True)
        for f in (lambda: operation(x, number), lambda: operation(number, x)):
            y = f()
            assert y.dtype == onp.dtype(dtype)
            x.grad = None
            y.backward(onp.ones(shape, dtype))
            assert x.grad.dtype == onp.dtype(dtype)

    @pytest.mark.parametrize(("one", "other"), list(itertools.product(["i4", "i8", "?", "f4", "f8"], repeat=2)))
    @pytest.mark.parametrize("operation", [np.add, np.multiply, np.divide, np.maximum, np.where])
    def test_arrays_promote_as_in_numpy(self, one, other, operation):
        arrays = [onp.ones(2, one), onp.ones(2, other)]
        if operation is np.where:
            arrays.insert(0, onp.array([True, False]))
        theirs = getattr(onp, operation.__name__)(*arrays)
        assert operation(*map(Tensor, arrays)).dtype == theirs.dtype
        assert operation(Tensor(arrays[0]), *arrays[1:]).dtype == theirs.dtype

    def test_a_numpy_scalar_is_strong(self):
        x = Tensor(onp.ones(2, "f4"))
        assert (x * onp.float64(2)).dtype == onp.float64
        assert (onp.float64(2) * x).dtype == onp.float64
        assert (x * onp.float32(2)).dtype == onp.float32

    @pytest.mark.parametrize("f", [np.mean, np.sum, np.var, np.std, np.prod, np.cumsum, np.average, np.exp, np.sqrt])
    @pytest.mark.parametrize("dtype", ["i4", "?", "u1", "f4"])
    def test_integers_and_truth_values_become_what_numpy_makes_of_them(self, f, dtype):
        x = onp.array([1, 0, 1]).astype(dtype)
        assert_same(f(Tensor(x)), f(x))

    def test_clip_and_where_keep_float32_with_numbers(self):
        x = Tensor(onp.ones(2, "f4"), requires_grad=True)
        for y in (np.clip(x, 0, 1.5), np.where(x > 0, x, 0.0), np.maximum(x, 0.0), x**2.0, 1 / x):
            assert y.dtype == onp.float32


class TestInterception:
    """What NumPy's own functions do when they meet a tensor."""

    def test_functions_and_ufuncs_record(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = onp.exp(x) + onp.concatenate([x, onp.ones(1)])[:2] + onp.float64(2) * x + onp.ones(2) * x
        y.sum().backward()
        onp.testing.assert_allclose(x.grad.data, onp.exp(x.data) + 4)

    def test_an_array_on_the_left_defers_to_the_tensor(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        for operation in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul):
            result = operation(onp.array([3.0, 4.0]), x)
            assert isinstance(result, Tensor)
            assert result.requires_grad
        for comparison in (operator.lt, operator.eq, operator.ge):
            assert isinstance(comparison(onp.array([3.0, 4.0]), x), Tensor)

    @pytest.mark.parametrize(
        ("call", "name"),
        [
            (lambda x: onp.fft.fft(x), "fft"),
            (lambda x: onp.linalg.svd(x), "svd"),
            (lambda x: onp.median(x), "median"),
            (lambda x: onp.frexp(x), "frexp"),
            (lambda x: onp.convolve(x, x), "convolve"),
            (lambda x: onp.add.reduce(x), r"add\.reduce"),
            (lambda x: onp.multiply.outer(x, x), r"multiply\.outer"),
            (lambda x: np.fft.fft(x), "fft"),
        ],
    )
    def test_what_is_not_differentiable_here_is_refused_by_name(self, call, name):
        for x in (Tensor([1.0, 2.0], requires_grad=True), Tensor([1.0, 2.0])):
            with pytest.raises(TypeError, match=rf"numpy\.(\w+\.)?{name}: not differentiable here"):
                call(x)

    def test_options_of_ufuncs_are_refused_by_name(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(TypeError, match=r"numpy\.exp: where cannot be given"):
            onp.exp(x, where=onp.array([True, False]))
        with pytest.raises(TypeError, match=r"numpy\.add: out cannot be given"):
            onp.add(x, x, out=onp.zeros(2))

    def test_an_array_does_not_swallow_a_tensor(self):
        array = onp.ones(2)
        with pytest.raises(TypeError, match="out cannot be given"):
            array += Tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(TypeError, match="leave the graph"):
            array[:] = Tensor([1.0, 2.0], requires_grad=True)


class TestInPlace:
    OPERATORS = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow, operator.imod)

    @pytest.mark.parametrize("operation", OPERATORS)
    def test_without_recording_the_memory_is_written(self, operation):
        x = Tensor([5.0, 7.0])
        memory, expected = x.data, operation(onp.array([5.0, 7.0]), 2.0)
        assert operation(x, 2.0) is x
        assert x.data is memory
        assert x.tolist() == expected.tolist()

    @pytest.mark.parametrize("operation", OPERATORS)
    def test_while_recording_a_new_tensor_is_made(self, operation):
        x = Tensor([5.0, 7.0], requires_grad=True)
        y = x * 1
        z = operation(y, Tensor([2.0, 3.0]))
        assert z is not y
        assert y.tolist() == [5.0, 7.0]
        assert z.tolist() == operation(onp.array([5.0, 7.0]), onp.array([2.0, 3.0])).tolist()
        assert z.requires_grad

    def test_assignment(self):
        x = Tensor(onp.zeros((2, 3)))
        x[0] = 1.0
        x[Tensor(1), :2] = Tensor([2.0, 3.0])
        x[x == 0] = 9
        assert x.tolist() == [[1.0, 1.0, 1.0], [2.0, 3.0, 9.0]]
        scalar = Tensor(1.0)
        scalar[...] = 2.0
        assert scalar.item() == 2.0

    def test_precision_is_kept(self):
        x = Tensor(onp.ones(2, "f4"))
        x += 1.5
        x *= Tensor(onp.ones(2, "f8"))
        assert x.dtype == onp.float32
        scalar = Tensor(onp.float32(1))
        scalar += onp.float64(1.5)
        assert (scalar.item(), scalar.dtype) == (2.5, onp.float32)

    def test_an_integer_does_not_silently_become_a_float_or_the_reverse(self):
        x = Tensor([1, 2])
        with pytest.raises(TypeError, match="Cannot cast"):
            x += 0.5
        assert x.tolist() == [1, 2]


class TestErrors:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda x: np.stack([x, x[0]]), r"stack: all arrays must have one shape, got \[\(2, 3\), \(3,\)\]"),
            (lambda x: np.split(x, 2, axis=1), "split: sections must divide the length 3 of axis 1, got 2"),
            (lambda x: np.array_split(x, 0), "split: sections must be positive, got 0"),
            (lambda x: np.pad(x, 1, mode="middle"), "pad: mode must be .*, got 'middle'"),
            (lambda x: np.diff(x, n=-1), "diff: n must not be negative, got -1"),
            (lambda x: np.matmul(x, 2.0), "matmul: scalars are not allowed"),
            (lambda x: np.tensordot(x, x, axes=1), "tensordot: axes 1 do not match shapes"),
            (lambda x: np.einsum("ij,jk", x), "einsum: 'ij,jk' names 2 operands, but there are 1"),
            (lambda x: np.sliding_window_view(x, (2, 2), 0), "sliding_window_view: window_shape .* must name the same"),
            (lambda x: np.sliding_window_view(x, (2, 2), (1, 1)), "sliding_window_view: .* distinct axes"),
        ],
    )
    def test_wrong_values_are_named(self, call, message):
        with pytest.raises(ValueError, match=message):
            call(Tensor(onp.ones((2, 3)), requires_grad=True))

    @pytest.mark.parametrize(
        "expression",
        [
            "np.sum(x, axis=2)",
            "np.max(x, axis=-3)",
            "np.mean(x, axis=5)",
            "np.var(x, axis=2)",
            "np.prod(x, axis=2)",
            "np.cumsum(x, axis=2)",
            "np.diff(x, axis=2)",
            "np.swapaxes(x, 0, 2)",
            "np.moveaxis(x, 0, 2)",
            "np.rollaxis(x, 2)",
            "np.expand_dims(x, 4)",
            "np.squeeze(x, 0)",
            "np.take(x, [0], axis=2)",
            "np.sort(x, axis=2)",
            "np.flip(x, 2)",
            "np.concatenate([x, x], axis=2)",
            "np.concatenate([x, x.T])",
            "np.stack([x, x], axis=4)",
            "np.reshape(x, (4, 2))",
            "np.transpose(x, (0, 0))",
            "np.split(x, 1, axis=2)",
            "np.repeat(x, 2, axis=2)",
            "np.repeat(x, -1)",
            "np.diagonal(x, 0, 0, 0)",
            "np.diagonal(x, 0, 0, 2)",
            "np.roll(x, 1, axis=2)",
            "np.rot90(x, 1, (0, 0))",
            "np.take_along_axis(x, onp.zeros((1, 1), int), 2)",
            "np.broadcast_to(x, (3, 2))",
            "x[2]",
            "x[0, 0, 0]",
            "x[[0, 9]]",
            "x[1.5]",
            "x[onp.ones(5, bool)]",
            "np.take(x, 99)",
            "x @ x",
            "np.dot(x, x)",
            "np.inner(x, x.T)",
            "np.vdot(x, x[0])",
            'np.einsum("ij,jk", x, x)',
            'np.einsum("ijk", x)',
            "np.tensordot(x, x, axes=5)",
            "np.tensordot(x, x, axes=((0, 1), (0,)))",
            "np.tile(x, -1)",
            "np.pad(x, -1)",
            "np.pad(x, ((1, 2), (3, 4), (5, 6)))",
            "np.average(x, axis=0, weights=onp.ones(5))",
            "np.trace(x[0])",
        ],
    )
    def test_what_numpy_refuses_is_refused_alike(self, expression):
        """Same kind of error; a wrong axis or index is IndexError in NumPy and may be NumPy's AxisError here."""
        with pytest.raises((ValueError, TypeError, IndexError)) as theirs:
            eval(expression, {"np": onp, "onp": onp, "x": onp.ones((2, 3))})
        kind = (ValueError, IndexError) if isinstance(theirs.value, ValueError | IndexError) else TypeError
        with pytest.raises(kind):
            eval(expression, {"np": np, "onp": onp, "x": Tensor(onp.ones((2, 3)), requires_grad=True)})


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, max_side=3, min_side=0)


class TestProperties:
    """For shapes and indices that nobody would think of."""

    @settings(deadline=None, max_examples=40)
    @given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0))
    def test_gradients_are_summed_over_whatever_was_broadcast(self, shapes):
        rng = onp.random.default_rng(0)
        x, y, z = (rng.uniform(0.5, 1.5, shape) for shape in shapes.input_shapes)
        check_grads(lambda x, y, z: np.where(onp.True_, x * y, z) / (y + z), [x, y, z], order=2)

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_every_index_reads_and_adds_as_in_numpy(self, data):
        x = onp.random.default_rng(0).normal(size=data.draw(SHAPES))
        index = data.draw(
            hnp.basic_indices(x.shape, allow_newaxis=True, allow_ellipsis=True)
            | (hnp.integer_array_indices(x.shape) if x.ndim and x.size else st.just(()))
            | hnp.arrays(bool, x.shape)
        )
        assert_same(np.getitem(Tensor(x), index), x[index])
        check_grads(lambda x: x[index], [x], order=2)

    @settings(deadline=None, max_examples=40)
    @given(st.data())
    def test_reductions_over_any_axes(self, data):
        shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=3))
        axes = data.draw(st.none() | st.lists(st.integers(0, max(len(shape) - 1, 0)), unique=True).map(tuple))
        assume(axes is None or len(axes) <= len(shape))
        name = data.draw(st.sampled_from(["sum", "mean", "max", "prod", "var"]))
        keepdims = data.draw(st.booleans())
        x = onp.random.default_rng(0).uniform(0.5, 2, shape)
        assert_same(
            getattr(np, name)(Tensor(x), axis=axes, keepdims=keepdims),
            getattr(onp, name)(x, axis=axes, keepdims=keepdims),
        )
        check_grads(lambda x: getattr(np, name)(x, axis=axes, keepdims=keepdims), [x], order=2)

    @settings(deadline=None, max_examples=60)
    @given(st.data())
    def test_einsum_of_any_subscripts(self, data):
        letters = "abcd"
        terms = data.draw(st.lists(st.text(letters, min_size=0, max_size=3), min_size=1, max_size=3))
        present = sorted(set("".join(terms)))
        output = "".join(data.draw(st.permutations(present)))[: data.draw(st.integers(0, 3))]
        sizes = dict(zip(letters, (2, 3, 1, 2), strict=True))
        rng = onp.random.default_rng(0)
        operands = [rng.normal(size=[sizes[letter] for letter in term]) for term in terms]
        subscripts = ",".join(terms) + "->" + output
        assert_same(np.einsum(subscripts, *map(Tensor, operands)), onp.einsum(subscripts, *operands))
        check_grads(lambda *operands: np.einsum(subscripts, *operands), operands, order=2)


def test_the_sum_of_a_recorded_result_and_of_its_detached_twin_are_the_same(rng):
    x = Tensor(rng.normal(size=(3, 4)), requires_grad=True)
    with no_grad():
        detached = np.tanh(x @ x.T).sum()
    assert np.tanh(x @ x.T).sum().item() == detached.item()
