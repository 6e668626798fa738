"""Products of matrices and tensors: matmul and einsum with their rules, the others composed of them."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from string import ascii_letters
from typing import Any

import numpy as np

from ..primitive import Primitive, primitive
from ..tensor import Tensor
from .elementwise import multiply
from .shaping import expand_dims, ndim, ravel, reshape, swapaxes, transpose

# fmt: off
__all__ = [
    "dot", "einsum", "inner", "kron", "matmul", "outer", "tensordot", "vdot",
]
# fmt: on

_matmul: Primitive = Primitive(
    operator.matmul,
    name="matmul",
    broadcasts=True,
    x=lambda g, y: _matmul(g, swapaxes(y, -1, -2)),
    y=lambda g, x: _matmul(swapaxes(x, -1, -2), g),
)


def matmul(x: Any, y: Any) -> Any:
    """`x @ y`: the matrix product over the last two axes, the others broadcast; a vector is a row or a column."""
    if not isinstance(x, Tensor) and not isinstance(y, Tensor):
        return np.matmul(x, y)
    if not ndim(x) or not ndim(y):
        raise ValueError(
            f"matmul: scalars are not allowed, got operands with {ndim(x)} and {ndim(y)} dimensions; use *"
        )
    product = _matmul(
        expand_dims(x, 0) if ndim(x) == 1 else x,
        expand_dims(y, 1) if ndim(y) == 1 else y,
    )
    shape = product.shape
    if ndim(y) == 1:
        shape = shape[:-1]
    if ndim(x) == 1:
        shape = (*shape[: -2 if ndim(y) > 1 else -1], *(shape[-1:] if ndim(y) > 1 else ()))
    return product if shape == product.shape else reshape(product, shape)


def tensordot(x: Any, y: Any, axes: int | Sequence[Any] = 2) -> Any:
    """The sum of products over the axes: the last `axes` of x with the first of y, or (axes of x, axes of y)."""
    x, y = (a if isinstance(a, Tensor) else np.asarray(a) for a in (x, y))
    if isinstance(axes, int):
        over_x, over_y = list(range(x.ndim - axes, x.ndim)), list(range(axes))
    else:
        over_x, over_y = ([a] if isinstance(a, int) else list(a) for a in axes)
    over_x, over_y = [a % x.ndim for a in over_x], [a % y.ndim for a in over_y]
    if [x.shape[a] for a in over_x] != [y.shape[a] for a in over_y]:
        raise ValueError(f"tensordot: axes {axes} do not match shapes {x.shape} and {y.shape}")
    free_x = [a for a in range(x.ndim) if a not in over_x]
    free_y = [a for a in range(y.ndim) if a not in over_y]
    shape = [x.shape[a] for a in free_x] + [y.shape[a] for a in free_y]
    summed = int(np.prod([x.shape[a] for a in over_x], dtype=int))
    rows = reshape(transpose(x, free_x + over_x), (int(np.prod(shape[: len(free_x)], dtype=int)), summed))
    columns = reshape(transpose(y, over_y + free_y), (summed, int(np.prod(shape[len(free_x) :], dtype=int))))
    return reshape(matmul(rows, columns), shape)


def dot(x: Any, y: Any) -> Any:
    """The sum of products over x's last axis and y's second to last (or only) one; scalars multiply."""
    if not ndim(x) or not ndim(y):
        return multiply(x, y)
    return tensordot(x, y, ((-1,), (-1 if ndim(y) == 1 else -2,)))


def inner(x: Any, y: Any) -> Any:
    """The sum of products over the last axes; scalars multiply."""
    return tensordot(x, y, ((-1,), (-1,))) if ndim(x) and ndim(y) else multiply(x, y)


def vdot(x: Any, y: Any) -> Any:
    """The sum of products of all elements."""
    return dot(ravel(x), ravel(y))


def outer(x: Any, y: Any) -> Any:
    """All products of an element of x and one of y."""
    return multiply(reshape(x, (-1, 1)), reshape(y, (1, -1)))


def kron(x: Any, y: Any) -> Any:
    """The Kronecker product."""
    axes = max(ndim(x), ndim(y))
    shape_x, shape_y = ((1,) * (axes - ndim(a)) + np.shape(a) for a in (x, y))
    x = reshape(x, tuple(n for length in shape_x for n in (length, 1)))
    y = reshape(y, tuple(n for length in shape_y for n in (1, length)))
    return reshape(multiply(x, y), tuple(a * b for a, b in zip(shape_x, shape_y, strict=True)))


def _einsum_rule(g: Any, position: int, subscripts: str, *operands: Any) -> Any:
    """The gradient is again an einsum: of g and the other operands, onto this operand's subscripts.

    A letter of this operand that occurs nowhere else was summed over: a vector of ones stands in for it. A letter that
    occurs twice in it read a diagonal: an identity matrix puts it back.
    """
    inputs, output = subscripts.split("->")
    terms = inputs.split(",")
    target = terms[position]
    shape = operands[position].shape
    others = [(term, operand) for i, (term, operand) in enumerate(zip(terms, operands, strict=True)) if i != position]
    spare = iter(sorted(set(ascii_letters) - set(subscripts)))
    provided = set(output).union(*(set(term) for term, _ in others))
    letters: list[str] = []
    for letter, n in zip(target, shape, strict=True):
        if letter in letters:
            twin = next(spare)
            others.append((letter + twin, np.eye(n, dtype=g.dtype)))
            letter = twin
        elif letter not in provided:
            others.append((letter, np.ones(n, g.dtype)))
        letters.append(letter)
    new = ",".join([output, *[term for term, _ in others]]) + "->" + "".join(letters)
    return _einsum(g, *[operand for _, operand in others], subscripts=new)


@primitive(broadcasts=True, operands=_einsum_rule)
def _einsum(*operands: Any, subscripts: str) -> Any:
    return np.einsum(subscripts, *operands, optimize=True)


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein's summation convention, as `numpy.einsum` with subscripts in a string ('...' included)."""
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum: subscripts must be a string, got {subscripts!r}")
    operands = tuple(a if isinstance(a, Tensor) else np.asarray(a) for a in operands)
    return _einsum(*operands, subscripts=_explicit(subscripts, [a.ndim for a in operands]))


def _explicit(subscripts: str, ndims: list[int]) -> str:
    """The subscripts with '...' spelled out in letters, and an output."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(ndims):
        raise ValueError(f"einsum: {subscripts!r} names {len(terms)} operands, but there are {len(ndims)}")
    lengths = [n - len(term.replace("...", "")) if "..." in term else 0 for term, n in zip(terms, ndims, strict=True)]
    if min(lengths) < 0:
        raise ValueError(f"einsum: {subscripts!r} has more letters than operands with {ndims} dimensions have axes")
    free = sorted(set(ascii_letters) - set(subscripts))[: max(lengths)]
    if not arrow:
        counts = Counter(inputs.replace(",", "").replace(".", ""))
        output = "..." * ("..." in inputs) + "".join(sorted(c for c, n in counts.items() if n == 1))
    terms = [t.replace("...", "".join(free[len(free) - k :])) for t, k in zip(terms, lengths, strict=True)]
    return ",".join(terms) + "->" + output.replace("...", "".join(free))
