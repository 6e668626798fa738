"""Gives `Tensor` its operators and NumPy's methods, and makes NumPy's own functions record when they meet a tensor.

`np.exp(tensor)` and `np.concatenate([tensor, array])` arrive here through NumPy's `__array_ufunc__` and
`__array_function__` protocols, and run the function of the same name of this package. A function that has none raises
a TypeError that names it: nothing leaves the graph silently.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..graph import numbers
from ..modes import is_grad_enabled
from ..primitive import Primitive
from ..saved import note_write
from ..tensor import Tensor
from . import elementwise, products, reductions, shaping


def _differentiable() -> dict[Any, Callable[..., Any]]:
    """NumPy's functions -> ours, by name."""
    found: dict[Any, Callable[..., Any]] = {np.lib.stride_tricks.sliding_window_view: shaping.sliding_window_view}
    for module in (elementwise, reductions, shaping, products):
        for name, function in vars(module).items():
            theirs = getattr(np, name, None)
            if not name.startswith("_") and callable(function) and callable(theirs) and function is not theirs:
                found[theirs] = function
    return found


_OURS: dict[Any, Callable[..., Any]] = {}


def _ours(function: Any) -> Callable[..., Any]:
    if not _OURS:
        _OURS.update(_differentiable())
    try:
        return _OURS[function]
    except (KeyError, TypeError):
        module = (getattr(function, "__module__", None) or "numpy").removesuffix("._core")
        name = f"{module}.{getattr(function, '__name__', function)}"
        raise TypeError(f"{name}: not differentiable here; call it on tensor.data to go without") from None


def _array_ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    if method != "__call__":
        raise TypeError(f"numpy.{ufunc.__name__}.{method}: not differentiable here")
    if options:
        raise TypeError(f"numpy.{ufunc.__name__}: {', '.join(options)} cannot be given when an operand is a tensor")
    return _ours(ufunc)(*inputs)


def _array_function(self: Tensor, function: Any, types: Any, args: Any, options: Any) -> Any:
    return _ours(function)(*args, **options)


def _in_place(out_of_place: Callable[..., Any], in_place: Callable[..., Any]) -> Callable[[Tensor, Any], Tensor]:
    """`t += x`: a write into t's memory where nothing is recorded, else a new tensor, to which the name t is bound."""

    def method(self: Tensor, other: Any) -> Tensor:
        if is_grad_enabled() and (self.requires_grad or (isinstance(other, Tensor) and other.requires_grad)):
            _refuse_leaf(self, in_place.__name__)
            result: Tensor = out_of_place(self, other)
            return result
        value = other._data if isinstance(other, Tensor) else other
        if isinstance(self._data, np.ndarray):
            note_write(self._data, next(numbers))
            in_place(self._data, value)
        else:  # a NumPy scalar cannot change, so nothing that was kept of it can either
            self._data = self.dtype.type(in_place(self._data, value))
        return self

    return method


def _refuse_leaf(tensor: Tensor, operation: str) -> None:
    if tensor.requires_grad and tensor.is_leaf:
        raise RuntimeError(
            f"{operation}: a leaf that requires a gradient cannot be changed in place while recording; use no_grad()"
        )


def _setitem(self: Tensor, index: Any, value: Any) -> None:
    if is_grad_enabled() and (self.requires_grad or (isinstance(value, Tensor) and value.requires_grad)):
        _refuse_leaf(self, "Tensor.__setitem__")
        raise RuntimeError(
            "Tensor.__setitem__: an assignment cannot be recorded; use where(), concatenate() or add_at()"
        )
    index = tuple(i._data if isinstance(i, Tensor) else i for i in index) if isinstance(index, tuple) else index
    index = index._data if isinstance(index, Tensor) else index
    value = value._data if isinstance(value, Tensor) else value
    if isinstance(self._data, np.ndarray):
        note_write(self._data, next(numbers))
        self._data[index] = value
    else:
        array = np.array(self._data)
        array[index] = value
        self._data = array[()]


def _iterate(self: Tensor) -> Iterator[Tensor]:
    return (self[i] for i in range(len(self)))


def _reshape(self: Tensor, *shape: Any) -> Any:
    return shaping.reshape(self, shape[0] if len(shape) == 1 else shape)


def _transpose(self: Tensor, *axes: Any) -> Any:
    return shaping.transpose(self, axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **options: function(self, *args, **options)


_BINARY: dict[str, Callable[..., Any]] = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.mod,
    "pow": elementwise.power,
    "matmul": products.matmul,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
}
_OTHER: dict[str, Callable[..., Any]] = {
    "__lt__": elementwise.less,
    "__le__": elementwise.less_equal,
    "__gt__": elementwise.greater,
    "__ge__": elementwise.greater_equal,
    "__eq__": elementwise.equal,
    "__ne__": elementwise.not_equal,
    "__neg__": elementwise.negative,
    "__pos__": elementwise.positive,
    "__abs__": elementwise.absolute,
    "__invert__": elementwise.invert,
    "__getitem__": shaping.getitem,
    "__round__": elementwise.round,
    "copy": shaping.copy,
    "flatten": shaping.ravel,
}
_METHODS = {
    elementwise: "clip round",
    reductions: "sum mean prod max min var std argmax argmin argsort all any cumsum cumprod",
    shaping: "ravel swapaxes squeeze astype take repeat diagonal trace nonzero searchsorted",
    products: "dot",
}


def attach() -> None:
    """Sets the attributes. Called once, when the package is imported."""
    for name, function in _BINARY.items():
        infix = function.infix() if isinstance(function, Primitive) else _method(function)
        setattr(Tensor, f"__{name}__", infix)
        setattr(Tensor, f"__r{name}__", (lambda f: lambda self, other: f(other, self))(infix))
        setattr(Tensor, f"__i{name}__", _in_place(function, getattr(operator, f"i{name}")))
    for name, function in _OTHER.items():
        setattr(Tensor, name, _method(function))
    for module, names in _METHODS.items():
        for name in names.split():
            setattr(Tensor, name, _method(getattr(module, name)))
    special = {
        "__array_ufunc__": _array_ufunc,
        "__array_function__": _array_function,
        "__setitem__": _setitem,
        "__iter__": _iterate,
        "reshape": _reshape,
        "transpose": _transpose,
        "T": property(shaping.transpose),
    }
    for name, attribute in special.items():
        setattr(Tensor, name, attribute)
