"""Watching a model compute: what its layers took and gave, and the gradients that arrived there.

Everything comes from the engine itself: a forward hook notes a module's input and output, and `grad` asks the graph
that was recorded for the gradient with respect to any of them. No parameter's `grad` is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..arguments import integer
from ..data import batches
from ..modes import enable_grad, no_grad
from ..nn import Conv2d, Module
from ..tensor import Tensor
from ..transforms import grad
from .checks import Array

Loss = Callable[[], Tensor]


class Call(NamedTuple):
    """One call of a module: what it was given first, and what it returned, tensors or arrays."""

    input: Any
    output: Any


def convolutions(model: Module) -> dict[str, Conv2d]:
    """The model's convolutional layers by name, in the order of its attributes.

    Raises ValueError for a model that has none, TypeError for what is no model.
    """
    if not isinstance(model, Module):
        raise TypeError(f"convolutions: model must be a Module, got a {type(model).__name__}")
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, Conv2d)}
    if not found:
        raise ValueError(f"convolutions: the model has no Conv2d, got {model!r}")
    return found


def part(function: str, model: Module, name: str) -> Module:
    """The module of this name in a model. Raises ValueError naming those that there are."""
    if not isinstance(model, Module):
        raise TypeError(f"{function}: a model must be a Module, got a {type(model).__name__}")
    parts = dict(model.named_modules())
    if name not in parts:
        raise ValueError(f"{function}: the model has no module {name!r}, its modules are {', '.join(parts)[2:]}")
    return parts[name]


@contextmanager
def watching(*modules: Module) -> Iterator[list[list[Call]]]:
    """Within it the calls of each module are noted, in a list of its own."""
    calls: list[list[Call]] = [[] for _ in modules]
    handles = [module.register_forward_hook(_into(seen)) for module, seen in zip(modules, calls, strict=True)]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _into(seen: list[Call]) -> Callable[[Any, tuple[Any, ...], Any], None]:
    return lambda module, args, output: seen.append(Call(args[0], output))


def run(function: str, loss: Loss, *modules: Module) -> tuple[Tensor, list[Call]]:
    """Computes the loss, recorded, and the one call that it makes of each module.

    Raises ValueError if it calls one of them not exactly once, or is no scalar that requires a gradient.
    """
    with enable_grad(), watching(*modules) as calls:
        value = loss()
    single = _single(function, "loss()", modules, calls)
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: loss() must return a tensor, got a {type(value).__name__}")
    if value.size != 1 or not value.requires_grad:
        raise ValueError(f"{function}: loss() must return one number that requires a gradient, got {value!r}")
    return value, single


def gradients(function: str, value: Any, upstream: Any = None, /, **tensors: Any) -> list[Array]:
    """The gradients of a scalar, or of <upstream, value>, with respect to named tensors of its graph, as arrays.

    Raises ValueError naming the tensor on which it does not depend.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.requires_grad:
            raise ValueError(f"{function}: {name} does not require a gradient; is it frozen?")
    results = grad(value, list(tensors.values()), upstream, allow_unused=True)
    for name, result in zip(tensors, results, strict=True):
        if result is None:
            raise ValueError(f"{function}: the loss does not depend on {name}")
    return [result.data for result in results if result is not None]


def raw(x: Any) -> Array:
    """The array of a tensor, or an array itself."""
    return np.asarray(x.data if isinstance(x, Tensor) else x)


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Within it the model is in evaluation mode, every module of which then gets back the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def in_batches(
    function: str, model: Module, batch_size: int, modules: list[Module], *arrays: Array, record: bool = False
) -> Iterator[tuple[tuple[Array, ...], Any, list[Call]]]:
    """Runs the model in evaluation mode on images, the first of the arrays, and yields what each batch gave.

    Yields (the batch of every array, the model's output, one call for each module). record: whether the outputs can be
    differentiated. Raises ValueError if there are no images, their number is not that of the other arrays, or a module
    is not called exactly once.
    """
    if not len(arrays[0]):
        raise ValueError(f"{function}: images must not be empty, got shape {arrays[0].shape}")
    if any(len(array) != len(arrays[0]) for array in arrays):
        counts = " and ".join(str(len(array)) for array in arrays)
        raise ValueError(f"{function}: there must be as many labels as images, got {counts}")
    integer(function, "batch_size", batch_size, least=1)
    for batch in batches(*arrays, batch_size=batch_size, shuffle=False):
        with enable_grad() if record else no_grad(), evaluating(model), watching(*modules) as calls:
            output = model(batch[0])
        yield batch, output, _single(function, "the model", modules, calls)


def _single(function: str, runner: str, modules: Iterable[Module], calls: list[list[Call]]) -> list[Call]:
    """The one call that each module got. Raises ValueError if it was not one."""
    for module, seen in zip(modules, calls, strict=True):
        if len(seen) != 1:
            name = f"{type(module).__name__}({module.extra_repr()})"
            raise ValueError(f"{function}: {runner} must run {name} once, it ran it {len(seen)} times")
    return [seen[0] for seen in calls]
