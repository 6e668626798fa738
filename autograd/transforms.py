"""Functions of functions: the gradient, Jacobian and Hessian of a function as functions, and `grad` of tensors.

The functions returned take the same arguments as the given one and differentiate with respect to positional argument
`argnum`, which may also be a nest of lists, tuples and dicts of arrays: its gradient is such a nest. Given arrays they
return arrays; given tensors that require gradients, tensors that can be differentiated again: `grad(grad(f))` works.
Signatures follow HIPS/autograd (Maclaurin, Duvenaud, Adams 2015), and `grad(outputs, inputs)` follows PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np

from .arguments import integer
from .graph import leaves
from .modes import enable_grad
from .numpy import copy, reshape, stack, sum
from .tensor import Tensor, gradients

__all__ = ["elementwise_grad", "grad", "hessian", "jacobian", "make_vjp", "value_and_grad"]

Function = Callable[..., Any]
ArgNum = int | Sequence[int]


@overload
def grad(outputs: Function, inputs: ArgNum = 0, *, argnum: ArgNum | None = None) -> Function: ...
@overload
def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]: ...
def grad(
    outputs: Any,
    inputs: Any = 0,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
    *,
    argnum: ArgNum | None = None,
) -> Any:
    """`grad(f, argnum=0)`: the function that computes the gradient of the scalar-valued function f.

    `grad(outputs, inputs, ...)`: the gradients of `sum(<grad_outputs, outputs>)` with respect to the input tensors, as
    a tuple; the inputs may be leaves or not, and no `grad` attribute is touched. `grad_outputs` may be left out for
    outputs of one element. `retain_graph` and `create_graph` are as in `Tensor.backward`. With `allow_unused`, the
    gradient of an input on which no output depends is None; without it that raises ValueError.
    """
    if isinstance(outputs, Tensor):
        outputs, grad_outputs = [outputs], None if grad_outputs is None else [grad_outputs]
    if not callable(outputs):
        wanted = [inputs] if isinstance(inputs, Tensor) else inputs
        if not isinstance(grad_outputs, list | tuple | None):
            raise TypeError(f"grad: grad_outputs must be a sequence, one for each of the outputs, got {grad_outputs!r}")
        for argument, tensors in (("outputs", outputs), ("inputs", wanted)):
            if not isinstance(tensors, list | tuple) or not all(isinstance(tensor, Tensor) for tensor in tensors):
                raise TypeError(f"grad: {argument} must be a tensor or a sequence of tensors, got {tensors!r}")
        return gradients(outputs, wanted, grad_outputs, retain_graph, create_graph, allow_unused)

    def gradient(*args: Any, **options: Any) -> Any:
        return value_and_grad(outputs, inputs if argnum is None else argnum)(*args, **options)[1]

    return gradient


def value_and_grad(f: Function, argnum: ArgNum = 0) -> Function:
    """The function that computes (f(...), its gradient). With several argnums the gradient is a tuple.

    Raises ValueError if f's value is not a scalar.
    """

    def both(*args: Any, **options: Any) -> tuple[Any, Any]:
        vjp, value = make_vjp(f, argnum)(*args, **options)
        if np.size(value) != 1:
            raise ValueError(f"grad: the function must return a scalar, got a value of shape {np.shape(value)}")
        return value, vjp(np.ones(value.shape, value.dtype)[()])

    return both


def elementwise_grad(f: Function, argnum: ArgNum = 0) -> Function:
    """The function that computes the gradient of sum(f): for an elementwise f, its derivative at every element."""
    return grad(lambda *args, **options: sum(f(*args, **options)), argnum)


def jacobian(f: Function, argnum: int = 0) -> Function:
    """The function that computes df/dx, of shape (*shape of f's value, *shape of x). One sweep per element of f."""

    def matrix(*args: Any, **options: Any) -> Any:
        vjp, value = make_vjp(f, argnum)(*args, **options)
        basis = np.eye(np.size(value), dtype=value.dtype).reshape((-1, *value.shape))
        rows = [vjp(direction[()]) for direction in basis]
        return reshape(stack(rows), (*value.shape, *np.shape(rows[0]))) if rows else np.zeros((0,))

    return matrix


def hessian(f: Function, argnum: int = 0) -> Function:
    """The function that computes the matrix of second derivatives, of shape (*shape of x, *shape of x)."""
    return jacobian(jacobian(f, argnum), argnum)


def make_vjp(f: Function, argnum: ArgNum = 0) -> Function:
    """The function that computes (vjp, f(...)), where vjp(g) is the product of g and the Jacobian of f.

    vjp can be called any number of times. Raises TypeError for an argument that is not floating.
    """
    positions = [integer("make_vjp", "argnum", i) for i in ([argnum] if isinstance(argnum, int) else argnum)]

    def linearised(*args: Any, **options: Any) -> tuple[Callable[[Any], Any], Any]:
        values = list(args)
        inputs: list[Tensor] = []

        def place(value: Any) -> Tensor:
            # A copy is a place of its own in the graph that still leads to what its original came from.
            traced = isinstance(value, Tensor) and value.requires_grad
            inputs.append(copy(value) if traced else _leaf(value))
            return inputs[-1]

        with enable_grad():
            for i in positions:
                if not -len(args) <= i < len(args):
                    raise TypeError(f"argnum {argnum}: there are {len(args)} positional arguments")
                values[i] = _map(place, args[i])
            output = f(*values, **options)
        if not isinstance(output, Tensor):
            output = Tensor(output)
        if output._node is None:  # its value does not depend on the argument: the gradient is zero

            def zero(g: Any) -> Any:
                shaped = tuple(_map(lambda value: _zeros(_leaf(value)), args[i]) for i in positions)
                return shaped[0] if isinstance(argnum, int) else shaped

            return zero, output.data
        # If it depends on other tensors, too, it is part of a larger graph, and so are its gradients.
        nested = not leaves(output._node) <= {tensor._node for tensor in inputs}

        def vjp(g: Any) -> Any:
            found = gradients([output], inputs, [g], retain_graph=True, create_graph=nested, allow_unused=True)
            results = iter(
                _zeros(x) if dx is None else dx if nested else dx.data for x, dx in zip(inputs, found, strict=True)
            )
            shaped = tuple(_map(lambda _: next(results), args[i]) for i in positions)
            return shaped[0] if isinstance(argnum, int) else shaped

        return vjp, output if nested else output.data

    return linearised


def _map(function: Callable[[Any], Any], tree: Any) -> Any:
    """The same nest of lists, tuples and dicts with `function` applied to what it holds."""
    if isinstance(tree, dict):
        return {key: _map(function, value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_map(function, value) for value in tree]
    if isinstance(tree, tuple):
        items = [_map(function, value) for value in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    return function(tree)


def _zeros(x: Tensor) -> Any:
    return np.zeros(x.shape, x.dtype)[()]


def _leaf(value: Any) -> Tensor:
    array = value.data if isinstance(value, Tensor) else value
    return Tensor(float(array) if type(array) is int else array, requires_grad=True)
