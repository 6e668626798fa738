"""Elementwise functions: NumPy's ufuncs, each with the derivative of its formula as its rule.

All broadcast; the engine sums a gradient over repeated axes, so that no rule mentions shapes. Infix operators are used
on the values, because they keep a NumPy scalar a scalar and a Python number weak. Where a derivative does not exist:
|x|' = 0 at 0, a tie of `maximum` or `minimum` is shared equally, and step functions have derivative 0 everywhere.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..primitive import Primitive, primitive
from ..tensor import Tensor

# fmt: off
__all__ = [
    "abs",
    "absolute",
    "add",
    "allclose",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "around",
    "array_equal",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "cbrt",
    "ceil",
    "clip",
    "copysign",
    "cos",
    "cosh",
    "deg2rad",
    "degrees",
    "divide",
    "empty_like",
    "equal",
    "exp",
    "exp2",
    "expm1",
    "fabs",
    "fix",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "full_like",
    "greater",
    "greater_equal",
    "heaviside",
    "hypot",
    "invert",
    "isclose",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logaddexp2",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "multiply",
    "nan_to_num",
    "negative",
    "nextafter",
    "not_equal",
    "ones_like",
    "positive",
    "power",
    "rad2deg",
    "radians",
    "reciprocal",
    "remainder",
    "rint",
    "round",
    "sign",
    "signbit",
    "sin",
    "sinc",
    "sinh",
    "spacing",
    "sqrt",
    "square",
    "subtract",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
    "where",
    "zeros_like",
]
# fmt: on


def _ufunc(function: Any, plain: Any = None, name: str = "", **rules: Any) -> Primitive:
    return Primitive(function, name=name or (plain or function).__name__, plain=plain, broadcasts=True, **rules)


# Functions whose results are truth values, integers or constants have no derivative at all.
def constant(function: Any, plain: Any = None, name: str = "") -> Primitive:
    """A primitive without rules: it takes tensors, and its result never requires a gradient."""
    return Primitive(function, plain=plain, name=name or (plain or function).__name__)


def on_data(function: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy's function on the data of tensors; the result is NumPy's: a truth value, a shape, a tuple of indices."""

    @functools.wraps(function)
    def compute(*args: Any, **options: Any) -> Any:
        return function(*[arg._data if isinstance(arg, Tensor) else arg for arg in args], **options)

    return compute


equal = constant(operator.eq, np.equal)
not_equal = constant(operator.ne, np.not_equal)
less = constant(operator.lt, np.less)
less_equal = constant(operator.le, np.less_equal)
greater = constant(operator.gt, np.greater)
greater_equal = constant(operator.ge, np.greater_equal)
logical_and = constant(np.logical_and)
logical_or = constant(np.logical_or)
logical_xor = constant(np.logical_xor)
logical_not = constant(np.logical_not)
bitwise_and = constant(operator.and_, np.bitwise_and)
bitwise_or = constant(operator.or_, np.bitwise_or)
bitwise_xor = constant(operator.xor, np.bitwise_xor)
invert = bitwise_not = constant(operator.invert, np.invert)
isnan = constant(np.isnan)
isinf = constant(np.isinf)
isfinite = constant(np.isfinite)
signbit = constant(np.signbit)
isclose = constant(np.isclose)
allclose = on_data(np.allclose)
array_equal = on_data(np.array_equal)
spacing = constant(np.spacing)
nextafter = constant(np.nextafter)
zeros_like = constant(np.zeros_like)
ones_like = constant(np.ones_like)
full_like = constant(np.full_like)
empty_like = constant(np.empty_like)


# Step functions: constant wherever they are continuous, so their derivative is 0.
def _no_slope(g: Any) -> Any:
    return zeros_like(g)


sign = _ufunc(np.sign, x=_no_slope)
floor = _ufunc(np.floor, x=_no_slope)
ceil = _ufunc(np.ceil, x=_no_slope)
trunc = fix = _ufunc(np.trunc, x=_no_slope)
rint = _ufunc(np.rint, x=_no_slope)
floor_divide = _ufunc(operator.floordiv, np.floor_divide, x=_no_slope, y=_no_slope)
heaviside = _ufunc(np.heaviside, x=_no_slope, y=_no_slope)


@primitive(x=_no_slope)
def _round(x: Any, *, decimals: int) -> Any:
    return np.round(x, decimals)


def round(x: Any, decimals: int = 0) -> Any:
    """x rounded to the nearest multiple of 10**-decimals, halves to even; its derivative is 0."""
    return _round(x, decimals=decimals)


around = round

# Arithmetic
add = _ufunc(operator.add, np.add, x=lambda g: g, y=lambda g: g)
subtract = _ufunc(operator.sub, np.subtract, x=lambda g: g, y=lambda g: -g)
multiply = _ufunc(operator.mul, np.multiply, x=lambda g, y: g * y, y=lambda g, x: g * x)
true_divide = divide = _ufunc(operator.truediv, np.divide, x=lambda g, y: g / y, y=lambda g, y, ans: -g * ans / y)
negative = _ufunc(operator.neg, np.negative, x=lambda g: -g)
positive = _ufunc(np.positive, x=lambda g: g)
reciprocal = _ufunc(np.reciprocal, x=lambda g, ans: -g * ans * ans)
square = _ufunc(np.square, x=lambda g, x: g * (2 * x))
sqrt = _ufunc(np.sqrt, x=lambda g, ans: g / (2 * ans))
cbrt = _ufunc(np.cbrt, x=lambda g, ans: g / (3 * ans * ans))
mod = remainder = _ufunc(operator.mod, np.remainder, x=lambda g: g, y=lambda g, x, y: -g * floor(x / y))
fmod = _ufunc(np.fmod, x=lambda g: g, y=lambda g, x, y: -g * trunc(x / y))


def _power_rule_x(g: Any, x: Any, y: Any) -> Any:
    return g * (y * _power(x, where(equal(y, 0), 1, y - 1)))


def _power_rule_y(g: Any, x: Any, ans: Any) -> Any:
    return g * (ans * log(where(equal(x, 0), 1, x)))


_power = _ufunc(operator.pow, np.power, x=_power_rule_x, y=_power_rule_y)


def _number_power_rule(g: Any, x: Any, exponent: float) -> Any:
    if exponent == 0:
        return zeros_like(x) * g
    return g * exponent if exponent == 1 else g * (exponent * power(x, exponent - 1))


@primitive(x=_number_power_rule)
def _number_power(x: Any, *, exponent: float) -> Any:
    return x**exponent


def power(x: Any, y: Any) -> Any:
    """`x**y`. The derivative with respect to x is 0 where y is 0, and with respect to y is 0 where x is 0."""
    return _number_power(x, exponent=y) if type(y) in (int, float) else _power(x, y)


# Exponentials and logarithms
exp = _ufunc(np.exp, x=lambda g, ans: g * ans)
exp2 = _ufunc(np.exp2, x=lambda g, ans: g * (ans * math.log(2)))
expm1 = _ufunc(np.expm1, x=lambda g, ans: g * (ans + 1))
log = _ufunc(np.log, x=lambda g, x: g / x)
log2 = _ufunc(np.log2, x=lambda g, x: g / (x * math.log(2)))
log10 = _ufunc(np.log10, x=lambda g, x: g / (x * math.log(10)))
log1p = _ufunc(np.log1p, x=lambda g, x: g / (x + 1))
logaddexp = _ufunc(np.logaddexp, x=lambda g, x, ans: g * exp(x - ans), y=lambda g, y, ans: g * exp(y - ans))
logaddexp2 = _ufunc(np.logaddexp2, x=lambda g, x, ans: g * exp2(x - ans), y=lambda g, y, ans: g * exp2(y - ans))

# Trigonometric and hyperbolic functions
sin = _ufunc(np.sin, x=lambda g, x: g * cos(x))
cos: Primitive = _ufunc(np.cos, x=lambda g, x: -g * sin(x))
tan = _ufunc(np.tan, x=lambda g, ans: g * (1 + ans * ans))
arcsin = _ufunc(np.arcsin, x=lambda g, x: g / sqrt(1 - x * x))
arccos = _ufunc(np.arccos, x=lambda g, x: -g / sqrt(1 - x * x))
arctan = _ufunc(np.arctan, x=lambda g, x: g / (1 + x * x))
arctan2 = _ufunc(np.arctan2, x=lambda g, x, y: g * y / (x * x + y * y), y=lambda g, x, y: -g * x / (x * x + y * y))
sinh = _ufunc(np.sinh, x=lambda g, x: g * cosh(x))
cosh: Primitive = _ufunc(np.cosh, x=lambda g, x: g * sinh(x))
tanh = _ufunc(np.tanh, x=lambda g, ans: g * (1 - ans * ans))
arcsinh = _ufunc(np.arcsinh, x=lambda g, x: g / sqrt(x * x + 1))
arccosh = _ufunc(np.arccosh, x=lambda g, x: g / sqrt(x * x - 1))
arctanh = _ufunc(np.arctanh, x=lambda g, x: g / (1 - x * x))
degrees = _ufunc(np.degrees, x=lambda g: g * (180 / math.pi))
rad2deg = _ufunc(np.rad2deg, x=lambda g: g * (180 / math.pi))
radians = _ufunc(np.radians, x=lambda g: g * (math.pi / 180))
deg2rad = _ufunc(np.deg2rad, x=lambda g: g * (math.pi / 180))
hypot = _ufunc(np.hypot, x=lambda g, x, ans: _slope_of_norm(g, x, ans), y=lambda g, y, ans: _slope_of_norm(g, y, ans))


def _slope_of_norm(g: Any, x: Any, norm: Any) -> Any:
    """g * x / norm, and 0 where the norm is 0."""
    return g * x / where(equal(norm, 0), 1, norm)


# The square root whose derivative at 0 is 0: what norms and standard deviations are made with.
_root = _ufunc(np.sqrt, name="root", x=lambda g, ans: where(equal(ans, 0), 0, g / (2 * where(equal(ans, 0), 1, ans))))

# Choices
absolute = abs = _ufunc(operator.abs, np.absolute, x=lambda g, x: g * sign(x))
fabs = _ufunc(np.fabs, x=lambda g, x: g * sign(x))
copysign = _ufunc(np.copysign, x=lambda g, x, ans: where(signbit(x) == signbit(ans), g, -g), y=_no_slope)


def _winner_takes(g: Any, loses: Any, ties: Any) -> Any:
    return where(loses, 0, where(ties, g * 0.5, g))


maximum = _ufunc(
    np.maximum,
    x=lambda g, x, y: _winner_takes(g, less(x, y), equal(x, y)),
    y=lambda g, x, y: _winner_takes(g, less(y, x), equal(x, y)),
)
minimum = _ufunc(
    np.minimum,
    x=lambda g, x, y: _winner_takes(g, less(y, x), equal(x, y)),
    y=lambda g, x, y: _winner_takes(g, less(x, y), equal(x, y)),
)
# fmax and fmin prefer a number to a NaN, so that the operand that is NaN loses.
fmax = _ufunc(
    np.fmax,
    x=lambda g, x, y: _winner_takes(g, less(x, y) | isnan(x), equal(x, y)),
    y=lambda g, x, y: _winner_takes(g, less(y, x) | isnan(y), equal(x, y)),
)
fmin = _ufunc(
    np.fmin,
    x=lambda g, x, y: _winner_takes(g, less(y, x) | isnan(x), equal(x, y)),
    y=lambda g, x, y: _winner_takes(g, less(x, y) | isnan(y), equal(x, y)),
)


def _select(condition: Any, x: Any, y: Any) -> Any:
    """`numpy.where` by arithmetic on the bits where it can be: a branch per element is slow with irregular masks."""
    arrays = [a for a in (x, y) if not (type(a) in (int, float) and a == 0 and math.copysign(1, a) > 0)]
    if not arrays or not all(
        type(a) is np.ndarray and a.dtype.char in "fd" and a.shape == condition.shape and a.dtype == arrays[0].dtype
        for a in arrays
    ):
        return np.where(condition, x, y)
    bits = [a.view(np.int32 if a.dtype.char == "f" else np.int64) for a in arrays]
    if len(arrays) == 2:
        result = bits[0] - bits[1]  # wraps around, and back again in the sum
        result *= condition
        result += bits[1]
    else:
        result = bits[0] * (condition if arrays[0] is x else ~condition)
    return result.view(arrays[0].dtype)


@primitive(
    broadcasts=True, x=lambda g, condition: where(condition, g, 0), y=lambda g, condition: where(condition, 0, g)
)
def _where(condition: Any, x: Any, y: Any) -> Any:
    if type(condition) is np.ndarray and condition.dtype == np.bool_ and condition.ndim:
        return _select(condition, x, y)
    return np.where(condition, x, y)


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """x where the condition holds, else y; with the condition alone, the indices where it holds, as arrays."""
    if x is None and y is None:
        return np.nonzero(condition._data if isinstance(condition, Tensor) else condition)
    return _where(condition, x, y)


_clip_below = _ufunc(
    np.maximum,
    name="clip_below",
    x=lambda g, x, y: where(less(x, y), 0, g),
    y=lambda g, x, y: where(less(x, y), g, 0),
)
_clip_above = _ufunc(
    np.minimum,
    name="clip_above",
    x=lambda g, x, y: where(greater(x, y), 0, g),
    y=lambda g, x, y: where(greater(x, y), g, 0),
)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """x limited to [a_min, a_max], also called min and max; None does not limit. At a bound the gradient is x's."""
    low, high = a_min if min is None else min, a_max if max is None else max
    if low is not None:
        x = _clip_below(x, low)
    return x if high is None else _clip_above(x, high)


def nan_to_num(
    x: Any, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Any:
    """x with NaN and infinities replaced; the gradient is 0 where something was replaced."""
    value = x._data if isinstance(x, Tensor) else x
    replaced = np.nan_to_num(value, copy=copy, nan=nan, posinf=posinf, neginf=neginf)
    return where(isfinite(x), x, replaced) if isinstance(x, Tensor) else replaced


def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x), and 1 at 0, where it is smooth: its Taylor series serves a neighbourhood of 0."""
    y = multiply(x, math.pi)
    small = less(absolute(y), 0.5)
    t = where(small, square(y), 0)
    series = 1.0
    for n in (210, 156, 110, 72, 42, 20, 6):  # 15 * 14, 13 * 12, ..., 3 * 2
        series = 1 - t / n * series
    safe = where(small, 1, y)
    return where(small, series, sin(safe) / safe)
