"""Modules made of modules in a row: a chain that is applied in order, and a plain list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, overload

from .module import Module


class _Row(Module):
    """Modules in a row, found by position or name."""

    def __init__(self, modules: Mapping[str, Any]) -> None:
        for name, module in modules.items():
            self._set(name, module)

    def _set(self, name: str, module: Any) -> None:
        row = type(self).__name__
        if not isinstance(module, Module):
            raise TypeError(f"{row}: {name!r} must be a Module, got {module!r}")
        if not isinstance(name, str) or not name or "." in name or hasattr(self, name):
            raise ValueError(f"{row}: a name must be a new one without dots, and no method's, got {name!r}")
        setattr(self, name, module)

    def append(self, module: Module) -> None:
        """Adds a module at the end, named by its position."""
        self._set(str(len(self)), module)

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, index: int) -> Module: ...
    @overload
    def __getitem__(self, index: slice) -> _Row: ...
    def __getitem__(self, index: int | slice) -> Module:
        items = list(self.named_children())
        if isinstance(index, slice):
            part = type(self).__new__(type(self))
            _Row.__init__(part, dict(items[index]))
            return part
        if not -len(items) <= index < len(items):
            raise IndexError(f"{type(self).__name__}: index {index} is out of range for {len(items)} modules")
        return items[index][1]


class Sequential(_Row):
    """A chain of modules: each is applied to the output of the one before it.

        Sequential(Conv2d(1, 8, 5), ReLU(), MaxPool2d(2))
        Sequential({"conv": Conv2d(1, 8, 5), "act": ReLU()})

    Indexing by position gives a module, by a slice a chain of the same modules; named ones are attributes.
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            super().__init__(modules[0])
        else:
            super().__init__({str(i): module for i, module in enumerate(modules)})

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


class ModuleList(_Row):
    """A list of modules, which are thereby part of the module whose attribute it is. It has no forward of its own."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        if not isinstance(modules, Iterable):
            raise TypeError(f"ModuleList: modules must be an iterable of modules, got {modules!r}")
        super().__init__({str(i): module for i, module in enumerate(modules)})
