"""Primitives: functions on arrays with the rules by which they are differentiated.

Calling a primitive on tensors computes the result and, when an argument requires a gradient, leaves a node in the
graph. A rule is the chain rule's local step, one per array argument, written with differentiable functions:

    multiply = Primitive(operator.mul, x=lambda g, y: g * y, y=lambda g, x: g * x)

`g` is the gradient of the final result with respect to this primitive's result. A rule's other parameters say what has
to be kept for it, and nothing else is: an argument or a keyword by its name, `x_shape` (the shape of argument `x`),
`ans` (the result), `residual` (a by-product of the forward computation), `position` (which of `*args` it is for).

`backward` hands arrays to the rules, so that no tape code runs; with `create_graph=True` it hands them tensors, so that
the gradient is itself a graph. One rule text serves every order.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from .graph import Node, Plan
from .modes import debugging, recording
from .saved import Checks
from .tensor import Tensor, wrap

# Plans are made once for every choice of arguments, but not kept for a function of very many.
_MOST_REMEMBERED = 16

_COMPLEX = frozenset([np.complex64, np.complex128, np.clongdouble])


class Primitive:
    """A function on arrays with one rule per differentiable argument; without rules, its results are constants.

    function: computes on arrays. What a call passes by position are the arrays, what it passes by keyword is metadata.
    For a function whose parameters Python cannot see, such as a ufunc, the rules, in order, name the arrays.
    plain: what to call when no argument is a tensor, if not `function` itself.
    broadcasts: the result has the arguments' broadcast shape, and a rule may return a gradient of that shape: the
    engine sums it over the axes along which the argument was repeated.
    has_residual: the function returns (result, by-product), and rules may name the `residual`.
    """

    registry: ClassVar[dict[str, Primitive]] = {}

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str = "",
        plain: Callable[..., Any] | None = None,
        broadcasts: bool = False,
        has_residual: bool = False,
        **rules: Callable[..., Any],
    ) -> None:
        self.function = function
        self.plain = plain or function
        self.name = self.__name__ = name or function.__name__.strip("_")
        self.__doc__ = self.plain.__doc__
        self.broadcasts = broadcasts
        self.has_residual = has_residual
        self.rules = rules
        self.parameters: tuple[str, ...] = tuple(rules)
        self.variadic = ""  # the name of *args
        self.defaults: dict[str, Any] = {}
        if (code := getattr(function, "__code__", None)) is not None:
            named = code.co_argcount + code.co_kwonlyargcount
            self.parameters = code.co_varnames[: code.co_argcount]
            self.variadic = code.co_varnames[named] if code.co_flags & inspect.CO_VARARGS else ""
            optional = getattr(function, "__defaults__", None) or ()
            self.defaults = dict.fromkeys(code.co_varnames[:named])
            self.defaults |= dict(zip(self.parameters[code.co_argcount - len(optional) :], optional, strict=True))
            self.defaults |= getattr(function, "__kwdefaults__", None) or {}
            if unknown := rules.keys() - {*self.parameters, self.variadic}:
                raise TypeError(f"{self.name}: there is a rule for {', '.join(unknown)}, but no such argument")
        self._plans: dict[tuple[int, ...], Plan] = {}
        self.registry[self.name] = self

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *args: Any, **metadata: Any) -> Any:
        values: list[Any] = []
        parents: list[Node] = []
        key = [len(args)]
        traced = False
        for arg in args:
            if isinstance(arg, Tensor):
                traced = True
                if (node := arg._node) is not None:
                    parents.append(node)
                    key.append(len(values))
                arg = arg._data
            values.append(arg)
        for name, value in metadata.items():
            if isinstance(value, Tensor):
                raise TypeError(f"{self.name}: the tensor {name} must be passed by position")
        if not traced:
            result = self.plain(*args, **metadata)
            return result[0] if self.has_residual else result
        result = self.function(*values, **metadata)
        if self.has_residual:
            result, residual = result
            values.append(residual)
        return self._recorded(result, values, parents, tuple(key), metadata)

    def infix(self) -> Callable[[Any, Any], Any]:
        """The function behind an operator: a call with two operands of which one is a tensor, at the least cost."""
        function, recorded = self.function, self._recorded

        def operate(x: Any, y: Any) -> Any:
            x_node = y_node = None
            if isinstance(x, Tensor):
                x_node = x._node
                x = x._data
            if isinstance(y, Tensor):
                y_node = y._node
                y = y._data
            if x_node is None:
                if y_node is None:
                    return recorded(function(x, y), [], (), (), {})
                return recorded(function(x, y), [x, y], (y_node,), (2, 1), {})
            if y_node is None:
                return recorded(function(x, y), [x, y], (x_node,), (2, 0), {})
            return recorded(function(x, y), [x, y], (x_node, y_node), (2, 0, 1), {})

        return operate

    def _recorded(
        self, result: Any, values: list[Any], parents: Sequence[Node], key: tuple[int, ...], metadata: dict[str, Any]
    ) -> Tensor:
        """The result as a tensor, with a node if there are parents.

        values: the arguments, and the residual if there is one. key: the number of arguments, and the positions of
        those that the parents belong to.
        """
        kind = type(result)
        if kind is np.ndarray:
            if not result.ndim:
                result = result[()]
            kind = result.dtype.type
        if kind in _COMPLEX:
            raise TypeError(f"{self.name}: complex numbers are not supported, and the result is {result.dtype}")
        if not parents or not recording.get():
            return wrap(result, None)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(*key)
            if len(key) < _MOST_REMEMBERED:
                self._plans[key] = plan
        if plan.passes_over:
            if not plan.rules:
                return wrap(result, None)
            parents = [node for node, i in zip(parents, key[1:], strict=True) if i in plan.active]
        saved: Sequence[Any] = ()
        if plan.keep:
            values.append(result)
            saved = plan.keep(values)
        if plan.extras:
            saved = [*saved, *[extra(values, metadata) for extra in plan.extras]]
        node = Node(result, plan, parents, saved)
        if debugging.get():
            node.checks = Checks.of(saved)
        return wrap(result, node)

    def _plan(self, count: int, *positions: int) -> Plan:
        """Works out what to keep of a call with `count` arguments, of which those at `positions` require gradients."""
        names = [*self.parameters[:count], *[self.variadic] * (count - len(self.parameters))]
        active = [i for i in positions if names[i] in self.rules]
        named = [list(self._named_by_rule(i, names)) for i in active]
        values = list(dict.fromkeys(source for sources in named for source in sources if isinstance(source, int)))
        extras = list(dict.fromkeys(source for sources in named for source in sources if isinstance(source, tuple)))
        place = {source: k for k, source in enumerate([*values, *extras])}
        return Plan(
            name=self.name,
            broadcasts=self.broadcasts,
            active=tuple(active),
            passes_over=len(active) < len(positions),
            keep=_picker(values),
            extras=tuple(self._extra(parameter, i) for parameter, i in extras),
            rules=tuple(
                (self.rules[names[i]], tuple(place[source] for source in sources))
                for i, sources in zip(active, named, strict=True)
            ),
            origins=tuple(
                (k, active.index(i) if i in active else i) for k, i in enumerate(values) if i in (-1, *active)
            ),
        )

    def _named_by_rule(self, i: int, names: list[str]) -> Iterator[int | tuple[str, int]]:
        """What the rule of argument i names: positions in (*arguments, residual, result), and pairs for `_extra`."""
        code = self.rules[names[i]].__code__
        for parameter in code.co_varnames[1 : code.co_argcount]:
            if parameter == "ans":
                yield -1
            elif parameter == "residual" and self.has_residual:
                yield -2
            elif parameter in self.parameters[: len(names)]:
                yield self.parameters.index(parameter)
            elif parameter in self.defaults:
                yield parameter, -1
            elif parameter == "position" or parameter == f"{names[i]}_shape":
                yield parameter, i
            else:
                raise TypeError(f"{self.name}: the rule for {names[i]} names {parameter!r}, which cannot be kept")
        if code.co_flags & inspect.CO_VARARGS:
            yield from range(len(self.parameters), len(names))

    def _extra(self, parameter: str, i: int) -> Callable[[Sequence[Any], dict[str, Any]], Any]:
        """How to get at metadata, or at the position or the shape of argument i."""
        if i < 0:
            default = self.defaults[parameter]
            return lambda values, metadata: metadata.get(parameter, default)
        if parameter == "position":
            return lambda values, metadata: i - len(self.parameters)
        return lambda values, metadata: np.shape(values[i])


def primitive(**options: Any) -> Callable[[Callable[..., Any]], Primitive]:
    """Decorates a function on arrays: `Primitive(function, **options)`, for functions written in Python."""
    return functools.partial(Primitive, **options)


def _picker(places: list[int]) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
    """A function that picks the items at these places out of a list; a single item comes in a list."""
    if len(places) > 1:
        return operator.itemgetter(*places)
    return operator.itemgetter(slice(places[0], places[0] + 1 or None)) if places else None
