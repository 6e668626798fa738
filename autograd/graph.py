"""The graph that computing leaves behind, and the sweep that differentiates it. Knows no operation and no tensor.

A node marks the place of one value: what made it (a `Plan`: a primitive and its rules), the nodes of the arguments, and
exactly those values that the rules name. A leaf has no plan. A node never refers to the tensor whose place it marks, so
there are no reference cycles, and memory is freed by reference counting alone.

Nodes are numbered in order of creation, and a node is made after its parents: that order is a topological one, and a
heap of numbers is all that a sweep needs. Nothing here is recursive.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .modes import recording
from .saved import Checks, changed_since, writes

if TYPE_CHECKING:
    from .tensor import Tensor

# Numbers count down, so that a min-heap yields the newest node first.
numbers = itertools.count(0, -1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one primitive keeps, for one choice of arguments that require gradients, and how its rules find it."""

    name: str
    broadcasts: bool  # whether rules may return gradients of the result's shape
    active: tuple[int, ...]  # positions of the arguments to differentiate
    passes_over: bool  # whether an argument requires a gradient but has no rule
    keep: Callable[[Sequence[Any]], Sequence[Any]] | None  # picks what to save out of (*arguments, residual, result)
    extras: tuple[Callable[[Sequence[Any], dict[str, Any]], Any], ...]  # each computes one thing more to save
    rules: tuple[tuple[Callable[..., Any], tuple[int, ...]], ...]  # per active argument: a rule, its places in `saved`
    origins: tuple[tuple[int, int], ...]  # (place in `saved`, which parent it is the value of; -1: the result itself)


class Node:
    """The place of one value in the graph, and of its gradient once there is one."""

    # fmt: off
    __slots__ = (
        "checks", "dtype", "grad", "hooks", "kind", "number", "parents", "plan", "retains_grad", "saved", "shape",
    )
    # fmt: on

    number: int
    plan: Plan | None
    parents: Sequence[Node]
    saved: Sequence[Any] | None  # None once it has been freed
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    grad: Tensor | None
    retains_grad: bool
    hooks: dict[int, Callable[[Any], Any]] | None  # each takes a complete gradient and returns the one to go on with
    checks: Checks | None  # in debug mode
    kind: type  # ndarray, or the type of a NumPy scalar, which implies its shape and dtype

    def __init__(self, value: Any, plan: Plan | None, parents: Sequence[Node], saved: Sequence[Any]) -> None:
        self.number = next(numbers)
        self.plan = plan
        self.parents = parents
        self.saved = saved
        self.kind = type(value)
        self.shape = value.shape
        self.dtype = value.dtype
        self.grad = None
        self.retains_grad = plan is None
        self.hooks = None
        self.checks = None

    def __repr__(self) -> str:
        made = f", made at {self.checks.line}" if self.checks else ""
        return f"{self.plan.name if self.plan else 'leaf'}(shape={self.shape}, dtype={self.dtype}{made})"


def sweep(
    seeds: Iterable[tuple[Node, Any]],
    wanted: set[Node] | None = None,
    retain_graph: bool = False,
    wrap: Callable[[Any, Node], Any] | None = None,
) -> dict[Node, Any]:
    """Walks from the newest node to the oldest, and returns the gradients of the wanted nodes.

    seeds: where to start, and the gradients to start from.
    wanted: the nodes whose gradients are asked for; only what leads to them is visited. None: all leaves, and whatever
    retains its gradient.
    wrap: makes a tensor of a kept value and its node; with it the rules compute with tensors, and are recorded.
    """
    needed = None if wanted is None else leading_to(wanted, [node for node, _ in seeds])
    found: dict[Node, Any] = {}
    nodes: dict[int, Node] = {}
    pending: dict[int, Any] = {}  # a node's number -> its gradient, as far as it has been summed
    heap: list[int] = []

    for node, g in seeds:
        if node.number in pending:
            pending[node.number] = pending[node.number] + g
        elif needed is None or node in needed:
            nodes[node.number] = node
            pending[node.number] = g
            heapq.heappush(heap, node.number)

    # `set` stands inside the try so that an interrupt cannot leave recording off; and first in it, because CPython 3.11
    # looks up the handler of an interrupt at the end of a loop's pass one instruction before the loop.
    before = recording.get()
    try:
        recording.set(wrap is not None)
        while heap:
            number = heapq.heappop(heap)
            node = nodes.pop(number)
            g = pending.pop(number)
            if node.hooks:
                for hook in list(node.hooks.values()):
                    g = hook(g)
            if node.retains_grad if wanted is None else node in wanted:
                found[node] = g
            plan = node.plan
            if plan is None:
                continue
            saved = node.saved
            if saved is None:
                if wanted is not None and node in wanted:
                    continue
                raise RuntimeError(
                    f"backward: what {node!r} kept was freed by an earlier backward; pass retain_graph=True to that one"
                )
            if number > writes.last or node.checks:
                _check_unchanged(node, saved)
            if wrap:
                tensors = list(saved)
                for place, origin in plan.origins:
                    tensors[place] = wrap(saved[place], node if origin < 0 else node.parents[origin])
                saved = tensors
            for parent, (rule, places) in zip(node.parents, plan.rules):  # noqa: B905 (`strict=` costs as much as a rule)
                if needed is not None and parent not in needed:
                    continue
                try:
                    if len(places) == 1:  # the common case, and a starred call costs as much as a rule
                        term = rule(g, saved[places[0]])
                    else:
                        term = rule(g, *[saved[place] for place in places]) if places else rule(g)
                    kind = type(term)
                    if kind is not parent.kind or kind is ndarray:
                        term = _fitted(term, parent, plan)
                except Exception as error:
                    error.add_note(f"in the gradient of {node!r} with respect to {parent!r}")
                    raise
                number = parent.number
                if number in pending:
                    pending[number] = pending[number] + term
                else:
                    nodes[number] = parent
                    pending[number] = term
                    heapq.heappush(heap, number)
            if not retain_graph:
                node.saved = None
                node.parents = ()
    finally:
        recording.set(before)
    return found


def _check_unchanged(node: Node, saved: Sequence[Any]) -> None:
    if change := changed_since(node.number, saved, node.checks):
        hint = "" if node.checks else "; run it within autograd.debug() to see which line made that"
        raise RuntimeError(f"backward: an array that {node!r} kept was changed in place {change}{hint}")


def leaves(root: Node) -> set[Node]:
    """The leaves on which a node depends."""
    return {node for node in _reachable([root]) if node.plan is None}


def leading_to(wanted: set[Node], roots: Sequence[Node]) -> set[Node]:
    """The nodes, at or below the roots, from which a wanted node can be reached, or could be before they were freed."""
    needed: set[Node] = set()
    for node in sorted(_reachable(roots), key=_by_age):
        if node in wanted or node.saved is None or not needed.isdisjoint(node.parents):
            needed.add(node)
    return needed


def _reachable(roots: Sequence[Node]) -> set[Node]:
    """The roots and all nodes below them."""
    reached = set(roots)
    stack = list(roots)
    while stack:
        for parent in stack.pop().parents:
            if parent not in reached:
                reached.add(parent)
                stack.append(parent)
    return reached


def _by_age(node: Node) -> int:
    """A sort key that puts parents first."""
    return -node.number


def _fitted(term: Any, parent: Node, plan: Plan) -> Any:
    """The term summed over the axes along which its operand was repeated, and in its operand's dtype."""
    if term.shape != parent.shape:
        if not plan.broadcasts:
            raise ValueError(
                f"{plan.name}: a rule returned shape {term.shape} for {parent!r}; "
                "say broadcasts=True if this primitive repeats its arguments to a common shape"
            )
        lead = term.ndim - len(parent.shape)
        repeated = [lead + i for i, n in enumerate(parent.shape) if n != term.shape[lead + i]]
        term = term.sum(axis=(*range(lead), *repeated)).reshape(parent.shape)
    return term if term.dtype == parent.dtype else term.astype(parent.dtype)
