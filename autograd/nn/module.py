"""Module, the base of all layers and networks, and the two kinds of tensors it has: parameters and buffers.

A module is an ordinary object. What makes an attribute part of the network is its type alone: a Parameter is learned, a
Buffer is remembered, a Module is a part with its own. Nothing is registered anywhere else, so there is nothing to
forget; names come from the attributes, in the order in which they were set, joined by dots ("features.0.weight").
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from ..arguments import flag, floating_dtype
from ..modes import no_grad
from ..tensor import HookHandle, Tensor

_T = TypeVar("_T")

_hook_keys = itertools.count()


class Parameter(Tensor):
    """A tensor that a module learns: set as an attribute of a module, it is among its `parameters()`.

    data: a floating array or tensor, whose memory is shared. Raises TypeError for another dtype.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data, requires_grad)


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not learned, as the running mean of a normalisation."""

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(data.data if isinstance(data, Tensor) else data)


class MismatchedKeys(NamedTuple):
    """What `load_state_dict(..., strict=False)` passed over: names without an entry, and entries without a name."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A part of a network: subclasses set parameters, buffers and other modules as attributes, and define `forward`.

        class Scale(Module):
            def __init__(self):
                self.factor = Parameter(np.ones(1, np.float32))

            def forward(self, x):
                return x * self.factor

    `training` tells layers such as dropout whether they are being trained; `train()` and `eval()` set it.
    """

    training: bool = True
    _forward_hooks: dict[int, Callable[..., Any]] | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the output. Call the module itself, which calls this and then the hooks."""
        raise NotImplementedError(f"{type(self).__name__}: forward is not defined")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        output = self.forward(*args, **kwargs)
        for hook in list((self._forward_hooks or {}).values()):
            result = hook(self, args, output)
            output = output if result is None else result
        return output

    def register_forward_hook(self, hook: Callable[[Any, tuple[Any, ...], Any], Any]) -> HookHandle:
        """Calls `hook(module, args, output)` after every forward; unless it returns None, that is the output."""
        if not callable(hook):
            raise TypeError(f"register_forward_hook: hook must be callable, got {hook!r}")
        if self._forward_hooks is None:
            self._forward_hooks = {}
        self._forward_hooks[key := next(_hook_keys)] = hook
        return HookHandle(self._forward_hooks, key)

    def __setattr__(self, name: str, value: Any) -> None:
        replaced = vars(self).get(name)
        if isinstance(replaced, Parameter | Buffer) and not isinstance(value, Parameter | Buffer | None):
            kind = type(replaced).__name__
            raise TypeError(
                f"{type(self).__name__}.{name}: a {kind} cannot be replaced by a {type(value).__name__}; "
                f"assign a {kind}, or write into it in place"
            )
        super().__setattr__(name, value)

    # The tree

    def _attributes(self, kind: type[_T]) -> Iterator[tuple[str, _T]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, kind))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules that are attributes of this one, each with its name."""
        return self._attributes(Module)

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module, named `prefix`, and all below it, each once and before those below it."""
        return _distinct(self._paths(prefix))

    def _paths(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, module in self.named_children():
            yield from module._paths(_join(prefix, name))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """The parameters of this module and all below it; one that occurs in several places is named once."""
        return _distinct(self._tensors(prefix, Parameter))

    def parameters(self) -> Iterator[Parameter]:
        """The parameters of this module and all below it, each once: what an optimiser takes."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Buffer]]:
        """The buffers of this module and all below it; one that occurs in several places is named once."""
        return _distinct(self._tensors(prefix, Buffer))

    def buffers(self) -> Iterator[Buffer]:
        """The buffers of this module and all below it, each once."""
        return (buffer for _, buffer in self.named_buffers())

    def _tensors(self, prefix: str, kind: type[_T]) -> Iterator[tuple[str, _T]]:
        for path, module in self._paths(prefix):
            for name, tensor in module._attributes(kind):
                yield _join(path, name), tensor

    # The state

    def state_dict(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of every parameter and buffer, as an array, under its name (names that share one included).

        `numpy.savez(file, **model.state_dict())` saves it, `model.load_state_dict(numpy.load(file))` brings it back.
        """
        return {name: np.array(tensor.data, order="K") for name, tensor in self._state()}

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        for path, module in self._paths(""):
            for kind in (Parameter, Buffer):
                for name, tensor in module._attributes(kind):
                    yield _join(path, name), tensor

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> MismatchedKeys:
        """Writes arrays into the parameters and buffers of the same names, in place; all of them, or none.

        strict: if false, names without an entry and entries without a name are returned, not refused.
        Raises ValueError naming every name that is missing or unexpected or whose shape or dtype differs.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"load_state_dict: state_dict must be a mapping of names to arrays, got {state_dict!r}")
        targets = dict(self._state())
        arrays = {
            name: np.asarray(value.data if isinstance(value, Tensor) else value)
            for name, value in state_dict.items()
            if name in targets
        }
        mismatched = MismatchedKeys(
            [name for name in targets if name not in arrays], [name for name in state_dict if name not in targets]
        )
        errors = []
        if strict and mismatched.missing_keys:
            errors.append(f"missing: {', '.join(mismatched.missing_keys)}")
        if strict and mismatched.unexpected_keys:
            errors.append(f"unexpected: {', '.join(map(str, mismatched.unexpected_keys))}")
        for name, array in arrays.items():
            target = targets[name]
            if (array.shape, array.dtype) != (target.shape, target.dtype):
                errors.append(
                    f"{name} must have shape {target.shape} and dtype {target.dtype}, got {array.shape}, {array.dtype}"
                )
        if errors:
            raise ValueError(f"load_state_dict: for {type(self).__name__}: {'; '.join(errors)}")
        with no_grad():
            for name, array in arrays.items():
                targets[name][...] = array
        return mismatched

    def to(self, dtype: Any) -> Self:
        """Converts all floating parameters and buffers (and gradients) to a floating dtype.

        They remain the same objects, in new memory, so that optimisers keep them; hooks on them are dropped.
        Raises TypeError for a dtype that is not floating.
        """
        dtype = floating_dtype("Module.to", dtype)
        for tensor in {id(tensor): tensor for _, tensor in self._state()}.values():
            if tensor.dtype.kind == "f" and tensor.dtype != dtype:
                grad = tensor.grad
                Tensor.__init__(tensor, tensor.data.astype(dtype), tensor.requires_grad)
                tensor.grad = None if grad is None else grad.detach().astype(dtype)
        return self

    def float(self) -> Self:
        """Converts to float32."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Converts to float64."""
        return self.to(np.float64)

    def train(self, mode: bool = True) -> Self:
        """Sets `training` in this module and all below it."""
        training = flag("Module.train", "mode", mode)
        for module in self.modules():
            module.training = training
        return self

    def eval(self) -> Self:
        """`train(False)`: dropout passes everything, normalisation uses its running statistics."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Makes all parameters require gradients, or freezes them."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Calls `function` on every module below this one, and then on this one."""
        for module in self.children():
            module.apply(function)
        function(self)
        return self

    def extra_repr(self) -> str:
        """What a module's line in the printed tree says between the parentheses."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self.named_children()]
        inside = self.extra_repr()
        if lines:
            inside = "\n  " + "\n  ".join([inside, *lines] if inside else lines) + "\n"
        return f"{type(self).__name__}({inside})"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _distinct(named: Iterator[tuple[str, _T]]) -> Iterator[tuple[str, _T]]:
    """The pairs whose object has not occurred before."""
    seen = set()
    for name, thing in named:
        if id(thing) not in seen:
            seen.add(id(thing))
            yield name, thing
