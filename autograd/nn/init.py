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

from ..arguments import choice, generator, number
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
        slope = 0.01 if param is None else number("calculate_gain", "param", param)
        return math.sqrt(2 / (1 + slope**2))
    return _GAINS[choice("calculate_gain", "nonlinearity", nonlinearity, *_GAINS, "leaky_relu")]


def constant_(tensor: Tensor, value: float) -> Tensor:
    """Fills the tensor with a number. Returns it, as all functions here do."""
    return _fill("constant_", tensor, number("constant_", "value", value))


def zeros_(tensor: Tensor) -> Tensor:
    """Fills the tensor with 0."""
    return _fill("zeros_", tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Fills the tensor with 1."""
    return _fill("ones_", tensor, 1)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, rng: Any = None) -> Tensor:
    """Fills the tensor with numbers distributed uniformly over [a, b)."""
    if number("uniform_", "a", a) > number("uniform_", "b", b):
        raise ValueError(f"uniform_: a must not be greater than b, got {a} and {b}")
    return _fill_uniformly("uniform_", tensor, a, b, rng)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, rng: Any = None) -> Tensor:
    """Fills the tensor with normally distributed numbers."""
    mean, std = number("normal_", "mean", mean), number("normal_", "std", std, least=0)
    return _fill_normally("normal_", tensor, mean, std, rng)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, rng: Any = None) -> Tensor:
    """Uniform, with variance gain**2 * 2 / (fan_in + fan_out). (Glorot & Bengio 2010.)"""
    bound = math.sqrt(3) * _xavier_deviation("xavier_uniform_", tensor, gain)
    return _fill_uniformly("xavier_uniform_", tensor, -bound, bound, rng)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, rng: Any = None) -> Tensor:
    """Normal, with variance gain**2 * 2 / (fan_in + fan_out). (Glorot & Bengio 2010.)"""
    return _fill_normally("xavier_normal_", tensor, 0.0, _xavier_deviation("xavier_normal_", tensor, gain), rng)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", rng: Any = None
) -> Tensor:
    """Uniform, with variance gain**2 / fan. (He et al. 2015.)

    a: the slope of the leaky_relu that follows. mode: 'fan_in' keeps variances forward, 'fan_out' backward.
    """
    bound = math.sqrt(3) * _kaiming_deviation("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return _fill_uniformly("kaiming_uniform_", tensor, -bound, bound, rng)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", rng: Any = None
) -> Tensor:
    """Normal, with variance gain**2 / fan; arguments as in `kaiming_uniform_`. (He et al. 2015.)"""
    deviation = _kaiming_deviation("kaiming_normal_", tensor, a, mode, nonlinearity)
    return _fill_normally("kaiming_normal_", tensor, 0.0, deviation, rng)


def _xavier_deviation(function: str, tensor: Tensor, gain: float) -> float:
    return number(function, "gain", gain, least=0) * _scale(sum(_fans(function, tensor)) / 2)


def _kaiming_deviation(function: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    backward = choice(function, "mode", mode, "fan_in", "fan_out") == "fan_out"
    fan = _fans(function, tensor)[backward]
    return calculate_gain(nonlinearity, number(function, "a", a)) * _scale(fan)


def _fans(function: str, tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight of shape (out, in, ...), the rest being a filter's height and width."""
    shape = _shape(function, tensor)
    if len(shape) < 2:
        raise ValueError(f"{function}: tensor must have at least two dimensions (out, in, ...), got shape {shape}")
    receptive = math.prod(shape[2:])
    return shape[1] * receptive, shape[0] * receptive


def _scale(fan: float) -> float:
    """1 / sqrt(fan); 0 for a weight without elements."""
    return 1 / math.sqrt(fan) if fan else 0.0


def _fill_uniformly(function: str, tensor: Tensor, a: float, b: float, rng: Any) -> Tensor:
    return _fill(function, tensor, generator(function, rng).uniform(a, b, _shape(function, tensor)))


def _fill_normally(function: str, tensor: Tensor, mean: float, std: float, rng: Any) -> Tensor:
    return _fill(function, tensor, generator(function, rng).normal(mean, std, _shape(function, tensor)))


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
