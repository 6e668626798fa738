"""The loss as a curve over one weight, with its slope where the weight stands, and the step that SGD takes from there.

The gradient is the slope of this curve, and one step of gradient descent goes down the tangent, by the learning rate
times the slope: neither up nor down is tried out, and how far the curve follows the tangent is not known to the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import integer, number
from ..tensor import Tensor
from .checks import element, learned_tensor
from .numeric import gradient_of, loss_at
from .observe import Loss


@dataclass(frozen=True, eq=False)
class LossSlice:
    """The loss over a range of one weight, all others staying what they are."""

    index: tuple[int, ...]
    weights: NDArray[np.float64]  # (points,), evenly spaced, with the weight itself in the middle
    losses: NDArray[np.float64]  # (points,)
    tangent: NDArray[np.float64]  # (points,), loss + slope * (weights - weight)
    weight: float  # where the weight stands
    loss: float
    slope: float  # its gradient
    lr: float
    next_weight: float  # weight - lr * slope, where plain SGD puts it
    next_loss: float  # the loss there, if only this weight moved


def loss_slice(
    loss: Loss, parameter: Tensor, index: Any, lr: float, reach: float | None = None, points: int = 41
) -> LossSlice:
    """The loss over `parameter[index]`, from `reach` below it to `reach` above it.

    loss: a function without arguments that returns the same scalar tensor whenever it is called.
    lr: the learning rate of the step that is marked. points: an odd number, at least 3.
    reach: by default the largest absolute value among the parameter's elements, or the step if that is longer.

    The weight has its bits back afterwards. Raises ValueError or TypeError for arguments that make no sense.
    """
    parameter = learned_tensor("loss_slice", "parameter", parameter)
    index = element("loss_slice", "index", index, parameter.shape)
    lr = number("loss_slice", "lr", lr, least=0)
    if not integer("loss_slice", "points", points, least=3) % 2:
        raise ValueError(f"loss_slice: points must be odd, so that the weight itself is among them, got {points}")
    value, gradient = gradient_of("loss_slice", loss, parameter)
    weight, slope = float(parameter.data[index]), float(gradient[index])
    if reach is None:
        reach = max(float(np.abs(parameter.data).max()), 1.5 * abs(lr * slope)) or 1.0
    elif number("loss_slice", "reach", reach, least=0) == 0:
        raise ValueError("loss_slice: reach must be positive, got 0")
    weights = weight + np.linspace(-reach, reach, points)
    next_weight = weight - lr * slope
    return LossSlice(
        index=index,
        weights=weights,
        losses=np.array([loss_at(loss, parameter, index, w) for w in weights.tolist()]),
        tangent=value + slope * (weights - weight),
        weight=weight,
        loss=value,
        slope=slope,
        lr=lr,
        next_weight=next_weight,
        next_loss=loss_at(loss, parameter, index, next_weight),
    )
