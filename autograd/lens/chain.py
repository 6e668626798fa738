"""The chain rule, node by node: how the gradient of the loss gets to a filter.

Computing the loss has left a graph, in which every node knows the rule of its operation and nothing of its neighbours.
Backwards, each rule takes the gradient with respect to its result, and multiplies it by what it knows into the gradient
with respect to an argument: that is one factor of the chain rule. Where a value was used several times, the terms of
all users are added up.
"""

from __future__ import annotations

import ast
import functools
import textwrap
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

from ..conv import conv2d, conv2d_composite
from ..graph import Node, leading_to, sweep
from ..modes import enable_grad
from ..nn import Conv2d
from ..primitive import Primitive
from ..tensor import Tensor
from .checks import Array, conv_layer, learned_tensor
from .observe import Loss, gradients, run


class Kept(NamedTuple):
    """Something that a rule needs, and that the node has therefore kept."""

    name: str  # as the rule's text calls it
    shape: tuple[int, ...] | None  # None for what is no array, such as an axis
    norm: float | None  # Euclidean; likewise


@dataclass(frozen=True, eq=False)
class Link:
    """One value on the way from the loss to a parameter: what made it, and its gradient.

    The rule, with `g` the gradient here and the names in `kept` what they stand for, gives the next link's gradient, or
    one of the terms whose sum that is.
    """

    operation: str  # what made this value; "leaf" for the parameter
    argument: str  # which of the operation's arguments the way goes on through; "" for the parameter
    rule: str  # the source text of the rule for that argument; "" for the parameter
    kept: tuple[Kept, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    gradient: Array  # d loss / d this value
    norm: float  # Euclidean, of the gradient
    sample: Array  # the gradient's first values, at most 8
    paths: int  # how many uses of the value lead to the loss, each of which adds a term to the gradient; 0 for the loss
    exact: bool  # whether the rule alone, run again, gives every bit of the next gradient; False where terms are summed


@dataclass(frozen=True, eq=False)
class Comparison:
    """One array of sums, computed by the C kernel and by the composition of plain operations.

    Where large terms cancel to a small sum, their rounding stays: it is many units in the last place of the sum, and
    still few of what its terms amount to.
    """

    kernel: Array
    composite: Array
    ulps: Array  # the distance of each two elements, in units in the last place of the larger one
    ulps_of_terms: Array  # in units in the last place of the sum of the terms' absolute values


@dataclass(frozen=True, eq=False)
class CompositeDifference:
    """A convolution and both of its gradients, by C kernel and by composition: the same but for rounding."""

    output: Comparison
    input_gradient: Comparison
    filter_gradient: Comparison


def chain_path(loss: Loss, parameter: Tensor) -> tuple[Link, ...]:
    """The links from the loss that `loss()` computes to a parameter, on the shortest way through the graph.

    Raises ValueError or TypeError for arguments that make no sense, such as a parameter that the loss does not use.
    """
    parameter = learned_tensor("chain_path", "parameter", parameter)
    value, _ = run("chain_path", loss)
    root, goal = value._node, parameter._node
    assert root is not None
    assert goal is not None
    needed = leading_to({goal}, [root])
    if root not in needed:
        raise ValueError("chain_path: the loss does not depend on parameter")
    paths = Counter(parent for node in needed for parent in node.parents if parent in needed)
    path = _shortest(root, goal, needed)
    found = sweep([(root, np.ones(root.shape, root.dtype)[()])], set(path), retain_graph=True)
    return tuple(
        _link(node, following, found, paths[node]) for node, following in zip(path, [*path[1:], None], strict=True)
    )


def _shortest(root: Node, goal: Node, needed: set[Node]) -> list[Node]:
    """The nodes of a shortest way between two, both included (breadth-first search)."""
    reached_from: dict[Node, Node | None] = {root: None}
    queue = deque([root])
    while goal not in reached_from:
        node = queue.popleft()
        for parent in node.parents:
            if parent in needed and parent not in reached_from:
                reached_from[parent] = node
                queue.append(parent)
    path: list[Node] = []
    step: Node | None = goal
    while step is not None:
        path.append(step)
        step = reached_from[step]
    return path[::-1]


def _link(node: Node, following: Node | None, found: dict[Node, Any], paths: int) -> Link:
    g = found[node]
    argument, text, exact = "", "", False
    kept: tuple[Kept, ...] = ()
    if following is not None and node.plan is not None and node.saved is not None:
        place = list(node.parents).index(following)
        rule, places = node.plan.rules[place]
        values = [node.saved[i] for i in places]
        primitive = Primitive.registry[node.plan.name]
        position = node.plan.active[place]
        argument = primitive.parameters[position] if position < len(primitive.parameters) else primitive.variadic
        text = rule_text(rule)
        kept = tuple(map(_kept, rule.__code__.co_varnames[1:], values))
        exact = np.array_equal(rule(g, *values), found[following])
    g = np.asarray(g)
    return Link(
        operation=node.plan.name if node.plan else "leaf",
        argument=argument,
        rule=text,
        kept=kept,
        shape=node.shape,
        dtype=node.dtype,
        gradient=g,
        norm=float(np.sqrt(np.sum(g.astype(np.float64) ** 2))),
        sample=g.ravel()[:8].copy(),
        paths=paths,
        exact=exact,
    )


def _kept(name: str, value: Any) -> Kept:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub":
        return Kept(name, value.shape, float(np.sqrt(np.sum(np.asarray(value, np.float64) ** 2))))
    return Kept(name, None, None)


def rule_text(rule: Callable[..., Any]) -> str:
    """The source of a rule: of a lambda what stands after the colon, of a function all of it.

    Where there is no source, as for code typed at a prompt, the function's name.
    """
    code = rule.__code__
    try:
        text, functions = _functions(code.co_filename)
    except (OSError, SyntaxError):
        return rule.__qualname__
    for node in functions.get(code.co_firstlineno, ()):
        if isinstance(node, ast.FunctionDef):
            return textwrap.dedent(ast.get_source_segment(text, node, padded=True) or rule.__qualname__)
        if _lies_in(code, node.body):
            return " ".join((ast.get_source_segment(text, node.body) or rule.__qualname__).split())
    return rule.__qualname__


@functools.cache
def _functions(filename: str) -> tuple[str, dict[int, list[ast.FunctionDef | ast.Lambda]]]:
    """The text of a source file, and the functions in it by the line in which they begin."""
    text = Path(filename).read_text(encoding="utf-8")
    functions: dict[int, list[ast.FunctionDef | ast.Lambda]] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            functions.setdefault(node.lineno, []).append(node)
    return text, functions


def _lies_in(code: CodeType, body: ast.expr) -> bool:
    """Whether an instruction of the code was made of exactly this expression: several lambdas may share a line."""
    span = (body.lineno, body.end_lineno, body.col_offset, body.end_col_offset)
    return span in code.co_positions()


@enable_grad()
def composite_difference(layer: Conv2d, images: Any, upstream: Any = None) -> CompositeDifference:
    """The layer's convolution of images (N, C, H, W) by the C kernels and by plain operations, with both gradients.

    upstream: the gradient with respect to the output, of its shape; drawn at random, with seed 0, if None.
    Raises ValueError for a padding mode other than 'zeros', which both forms would continue in the same way.
    """
    layer = conv_layer("composite_difference", layer)
    if layer.padding_mode != "zeros":
        raise ValueError(f"composite_difference: padding_mode must be 'zeros', got {layer.padding_mode!r}")
    dtype = layer.weight.dtype
    x, weight = np.asarray(images, dtype), layer.weight.data
    bias = None if layer.bias is None else layer.bias.data
    shape = layer.forward(x).shape
    g = np.asarray(np.random.default_rng(0).normal(size=shape) if upstream is None else upstream, dtype)
    if g.shape != shape:
        raise ValueError(f"composite_difference: upstream must have shape {shape}, got {g.shape}")

    def computed(form: Callable[..., Tensor], x: Array, weight: Array, bias: Array | None, g: Array) -> list[Array]:
        """Output, input gradient and filter gradient."""
        images, filters = Tensor(x, requires_grad=True), Tensor(weight, requires_grad=True)
        y = form(images, filters, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        return [y.data, *gradients("composite_difference", y, g, images=images, filters=filters)]

    kernel, composite = (computed(form, x, weight, bias, g) for form in (conv2d, conv2d_composite))
    terms = computed(conv2d, np.abs(x), np.abs(weight), None if bias is None else np.abs(bias), np.abs(g))
    return CompositeDifference(*map(_compare, kernel, composite, terms))


def _compare(kernel: Array, composite: Array, terms: Array) -> Comparison:
    """terms: what both would be if no term were negative."""
    distance = np.abs(kernel - composite)
    larger = np.maximum(np.abs(kernel), np.abs(composite))
    return Comparison(kernel, composite, distance / np.spacing(larger), distance / np.spacing(terms))
