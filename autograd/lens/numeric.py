"""The gradient beside what it is often taken for: adding a bit to a weight and seeing what the loss does.

Central differences do add a bit, (loss(w + e) - loss(w - e)) / 2e, and come close to the gradient, for one weight and
two forward passes at a time. The chain rule gives all weights' gradients in one pass backwards, and adds a bit to none.
How close the differences come depends on e: large ones cut the curve short, an error that falls like e^2; small ones
drown in the rounding of the loss, an error that grows like 1/e. Between them lies a best one, which is still not exact.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer, number
from ..modes import no_grad
from ..tensor import Tensor
from .checks import Array, element, learned_tensor
from .observe import Loss, gradients, run


@dataclass(frozen=True, eq=False)
class NumericGradient:
    """One filter's gradient, once from the chain rule and once from central differences."""

    filter: int
    epsilon: float
    analytic: Array  # the filter's shape
    numeric: NDArray[np.float64]  # the filter's shape
    error: NDArray[np.float64]  # |numeric - analytic|
    forwards: int  # two for each of the filter's weights
    numeric_seconds: float  # for all of these
    forward_seconds: float  # for one forward pass that is recorded, the median of several
    backward_seconds: float  # for one backward pass, which gives the gradients of all parameters; likewise

    @property
    def speedup(self) -> float:
        """How many times longer the differences took than a forward and a backward pass."""
        return self.numeric_seconds / (self.forward_seconds + self.backward_seconds)


@dataclass(frozen=True, eq=False)
class ErrorCurve:
    """How far the central difference of one weight is from its gradient, for E sizes of the bit that is added."""

    index: tuple[int, ...]
    analytic: float
    epsilons: NDArray[np.float64]  # (E,)
    numeric: NDArray[np.float64]  # (E,)
    error: NDArray[np.float64]  # (E,), |numeric - analytic|
    best_epsilon: float  # the one with the least error


def numeric_gradient(
    loss: Loss, parameter: Tensor, filter: int = 0, epsilon: float | None = None, repeats: int = 5
) -> NumericGradient:
    """Central differences for every weight of `parameter[filter]`, beside the gradient; and how long both took.

    loss: returns the same value whenever it is called, as a model does in evaluation mode or without dropout.
    epsilon: the bit to add; by default the cube root of the dtype's precision, the order of the best one.
    repeats: passes that are timed, of which the medians are returned.

    The weights are changed in place, and have their bits back afterwards. Raises ValueError or TypeError for arguments
    that make no sense, and if two calls of `loss()` differ.
    """
    parameter = learned_tensor("numeric_gradient", "parameter", parameter)
    filter = integer("numeric_gradient", "filter", filter, least=0)
    element("numeric_gradient", "filter", (filter, *[0] * (parameter.ndim - 1)), parameter.shape)
    epsilon = _epsilon(parameter) if epsilon is None else number("numeric_gradient", "epsilon", epsilon, least=0)
    analytic = gradient_of("numeric_gradient", loss, parameter)[1][filter]
    forward_seconds, backward_seconds = [], []
    for _ in range(integer("numeric_gradient", "repeats", repeats, least=1)):
        start = time.perf_counter()
        value, _ = run("numeric_gradient", loss)
        middle = time.perf_counter()
        gradients("numeric_gradient", value, parameter=parameter)
        backward_seconds.append(time.perf_counter() - middle)
        forward_seconds.append(middle - start)

    numeric = np.empty(analytic.shape)
    start = time.perf_counter()
    for place in np.ndindex(analytic.shape):
        numeric[place] = _difference("numeric_gradient", loss, parameter, (filter, *place), epsilon)
    numeric_seconds = time.perf_counter() - start
    return NumericGradient(
        filter=filter,
        epsilon=epsilon,
        analytic=analytic,
        numeric=numeric,
        error=np.abs(numeric - analytic),
        forwards=2 * numeric.size,
        numeric_seconds=numeric_seconds,
        forward_seconds=statistics.median(forward_seconds),
        backward_seconds=statistics.median(backward_seconds),
    )


def error_curve(loss: Loss, parameter: Tensor, index: Any, epsilons: Sequence[float] | None = None) -> ErrorCurve:
    """The error of the central difference of `parameter[index]`, for many sizes of the bit that is added.

    loss: as in `numeric_gradient`. epsilons: by default 25, in equal ratios, from 1 down to the dtype's precision.
    """
    parameter = learned_tensor("error_curve", "parameter", parameter)
    index = element("error_curve", "index", index, parameter.shape)
    if epsilons is None:
        epsilons = np.geomspace(1, float(np.finfo(parameter.dtype).eps), 25).tolist()
    sizes = np.array([number("error_curve", "epsilons", epsilon, least=0) for epsilon in epsilons])
    if not sizes.size:
        raise ValueError("error_curve: epsilons must not be empty")
    analytic = float(gradient_of("error_curve", loss, parameter)[1][index])
    numeric = np.array([_difference("error_curve", loss, parameter, index, epsilon) for epsilon in sizes.tolist()])
    error = np.abs(numeric - analytic)
    return ErrorCurve(index, analytic, sizes, numeric, error, float(sizes[np.argmin(error)]))


def loss_at(loss: Loss, parameter: Tensor, index: tuple[int, ...], weight: float) -> float:
    """The loss with one weight replaced, which has its own bits again afterwards."""
    before = parameter.data[index]
    with no_grad():
        try:
            parameter[index] = weight
            return float(loss().item())
        finally:
            parameter[index] = before


def _epsilon(parameter: Tensor) -> float:
    return math.cbrt(float(np.finfo(parameter.dtype).eps))


def gradient_of(function: str, loss: Loss, parameter: Tensor) -> tuple[float, Array]:
    """The loss and its gradient. Raises ValueError if a second call of `loss()` returns something else."""
    value, _ = run(function, loss)
    again, _ = run(function, loss)
    if value.item() != again.item():
        raise ValueError(
            f"{function}: loss() must always return the same, it returned {value.item()} and then {again.item()}; "
            "is there dropout in training mode?"
        )
    [gradient] = gradients(function, value, parameter=parameter)
    return float(value.item()), gradient


def _difference(function: str, loss: Loss, parameter: Tensor, index: tuple[int, ...], epsilon: float) -> float:
    """The central difference, over the distance of the two weights as the dtype holds them."""
    weight = parameter.data[index]
    # In the parameter's dtype, in which the weight will be stored: what was added is not quite epsilon.
    above, below = (float(np.asarray(float(weight) + bit, weight.dtype)) for bit in (epsilon, -epsilon))
    if above == below:
        raise ValueError(f"{function}: epsilon {epsilon} is too small to change the weight {weight}")
    rise = loss_at(loss, parameter, index, above) - loss_at(loss, parameter, index, below)
    return rise / (above - below)
