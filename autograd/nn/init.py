"""Initial values of parameters. As in PyTorch, a name ends in an underscore because the tensor is filled in place.

A layer whose inputs have variance 1 keeps it, forward, if its weights have variance gain**2 / fan_in, and its
gradients', backward, if they have gain**2 / fan_out (Glorot & Bengio 2010; with the gain of the activation that
follows, He et al. 2015, arXiv:1502.01852). fan_in is the number of inputs that one output sums over, fan_out the number
of outputs that one input reaches.

Random numbers come from `rng`, a `numpy.random.Generator` or a seed (None draws fresh entropy), as float64, so that
a float32 and a float64 network of one seed start from the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

from ..functional import generator
from ..modes import no_grad
from ..tensor import Tensor

_GAINS = {
    "linear": 1.0,
    "conv2d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What to multiply weights by so that the activation after them keeps the variance.

    nonlinearity: 'linear', 'conv2d', 'sigmoid', 'tanh', 'relu', 'selu', or 'leaky_relu', whose slope is `param` (0.01).
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        names = ", ".join([*_GAINS, "leaky_relu"])
        raise ValueError(f"calculate_gain: nonlinearity must be one of {names}, got {nonlinearity!r}")
    return _GAINS[nonlinearity]


def constant_(tensor: Tensor, value: float) -> Tensor:
    """Fills the tensor with a number. Returns it, as all functions here do."""
    return _fill("constant_", tensor, value)


def zeros_(tensor: Tensor) -> Tensor:
    """Fills the tensor with 0."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Fills the tensor with 1."""
    return constant_(tensor, 1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, rng: Any = None) -> Tensor:
    """Fills the tensor with numbers distributed uniformly over [a, b)."""
    if a > b:
        raise ValueError(f"uniform_: a must not be greater than b, got {a} and {b}")
    return _fill("uniform_", tensor, generator("uniform_", rng).uniform(a, b, _shape("uniform_", tensor)))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, rng: Any = None) -> Tensor:
    """Fills the tensor with normally distributed numbers."""
    if std < 0:
        raise ValueError(f"normal_: std must not be negative, got {std}")
    return _fill("normal_", tensor, generator("normal_", rng).normal(mean, std, _shape("normal_", tensor)))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, rng: Any = None) -> Tensor:
    """Uniform, with variance gain**2 * 2 / (fan_in + fan_out). (Glorot & Bengio 2010.)"""
    bound = math.sqrt(3) * gain * _deviation(sum(_fans("xavier_uniform_", tensor)) / 2)
    return uniform_(tensor, -bound, bound, rng)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, rng: Any = None) -> Tensor:
    """Normal, with variance gain**2 * 2 / (fan_in + fan_out). (Glorot & Bengio 2010.)"""
    return normal_(tensor, 0.0, gain * _deviation(sum(_fans("xavier_normal_", tensor)) / 2), rng)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", rng: Any = None
) -> Tensor:
    """Uniform, with variance gain**2 / fan. (He et al. 2015.)

    a: the slope of the leaky_relu that follows. mode: 'fan_in' keeps variances forward, 'fan_out' backward.
    """
    fan = _chosen_fan("kaiming_uniform_", tensor, mode)
    bound = math.sqrt(3) * calculate_gain(nonlinearity, a) * _deviation(fan)
    return uniform_(tensor, -bound, bound, rng)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", rng: Any = None
) -> Tensor:
    """Normal, with variance gain**2 / fan; arguments as in `kaiming_uniform_`. (He et al. 2015.)"""
    fan = _chosen_fan("kaiming_normal_", tensor, mode)
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) * _deviation(fan), rng)


def _fans(function: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape (out, in, ...), the rest being a filter's height and width."""
    shape = _shape(function, tensor)
    if len(shape) < 2:
        raise ValueError(f"{function}: tensor must have at least two dimensions (out, in, ...), got shape {shape}")
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def _chosen_fan(function: str, tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{function}: mode must be 'fan_in' or 'fan_out', got {mode!r}")
    return _fans(function, tensor)[mode == "fan_out"]


def _deviation(fan: float) -> float:
    """1 / sqrt(fan); 0 for a weight without elements."""
    return 1 / math.sqrt(fan) if fan else 0.0


def _shape(function: str, tensor: Any) -> tuple[int, ...]:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{function}: tensor must be a Tensor, got {tensor!r}")
    return tensor.shape


def _fill(function: str, tensor: Any, values: Any) -> Tensor:
    _shape(function, tensor)
    with no_grad():
        tensor[...] = values
    filled: Tensor = tensor
    return filled
