"""Layers: a function of `functional`, together with its parameters and settings.

Arguments and defaults are PyTorch's. Layers with random numbers also take `rng`, a `numpy.random.Generator` or a seed:
one generator handed to all layers in turn makes a whole network reproducible; None draws fresh entropy. Parameters are
float32 unless `dtype` says otherwise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from ..arguments import choice, flag, floating_dtype, generator, integer, number
from . import init
from .module import Buffer, Module, Parameter

Pair = int | tuple[int, int]


def _sizes(layer: str, argument: str, value: Any) -> tuple[int, int]:
    """A positive integer or a pair of them, as (height, width)."""
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{layer}: {argument} must be an integer or a pair, got {value!r}")
    return integer(layer, argument, pair[0], least=1), integer(layer, argument, pair[1], least=1)


class _Affine(Module):
    """What Conv2d and Linear share: a weight of shape (out, in, ...), a bias or None, and their first values."""

    weight: Parameter
    bias: Parameter | None

    def _make_parameters(self, shape: tuple[int, ...], bias: bool, dtype: Any, rng: Any) -> None:
        layer = type(self).__name__
        dtype = floating_dtype(layer, dtype)
        self.weight = Parameter(np.empty(shape, dtype))
        self.bias = Parameter(np.empty(shape[0], dtype)) if flag(layer, "bias", bias) else None
        self.reset_parameters(rng)

    def reset_parameters(self, rng: Any = None) -> None:
        """Draws weight and bias anew, uniformly up to 1 / sqrt(fan_in), as PyTorch does. (LeCun et al. 1998.)"""
        rng = generator(type(self).__name__, rng)
        fan_in = math.prod(self.weight.shape[1:])
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                init.uniform_(parameter, -bound, bound, rng)


class Conv2d(_Affine):
    """`functional.conv2d`: images (N, in_channels, H, W) to images (N, out_channels, oh, ow).

    kernel_size, stride, padding, dilation, groups, padding_mode: as in `functional.conv2d`.
    weight: (out_channels, in_channels / groups, *kernel_size); bias: (out_channels,), or None with bias=False.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Any = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.in_channels = integer("Conv2d", "in_channels", in_channels, least=0)
        self.out_channels = integer("Conv2d", "out_channels", out_channels, least=0)
        self.kernel_size = _sizes("Conv2d", "kernel_size", kernel_size)
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = integer("Conv2d", "groups", groups, least=1)
        self.padding_mode = padding_mode
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2d: groups must divide in_channels and out_channels, got {groups} for {in_channels} and "
                f"{out_channels}"
            )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self._make_parameters(shape, bias, dtype, rng)

    def forward(self, x: Any) -> Any:
        return F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups, self.padding_mode
        )

    def extra_repr(self) -> str:
        defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "padding_mode": "zeros"}
        changed = {name: getattr(self, name) for name, default in defaults.items() if getattr(self, name) != default}
        if self.bias is None:
            changed["bias"] = False
        settings = "".join(f", {name}={value!r}" for name, value in changed.items())
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}{settings}"


class Linear(_Affine):
    """`functional.linear`: (..., in_features) to (..., out_features).

    weight: (out_features, in_features); bias: (out_features,), or None with bias=False.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, dtype: Any = np.float32, rng: Any = None
    ) -> None:
        self.in_features = integer("Linear", "in_features", in_features, least=0)
        self.out_features = integer("Linear", "out_features", out_features, least=0)
        self._make_parameters((self.out_features, self.in_features), bias, dtype, rng)

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class BatchNorm2d(Module):
    """`functional.batch_norm` of images (N, num_features, H, W). (Ioffe & Szegedy 2015.)

    momentum: the share by which the running statistics move; None averages over all batches so far.
    affine: whether there are a weight and a bias to learn, of shape (num_features,), first 1 and 0.
    track_running_stats: if false, the statistics are always those of the batch.
    """

    weight: Parameter | None
    bias: Parameter | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.num_features = n = integer("BatchNorm2d", "num_features", num_features, least=0)
        self.eps = number("BatchNorm2d", "eps", eps, least=0)
        self.momentum = None if momentum is None else number("BatchNorm2d", "momentum", momentum, 0, 1)
        dtype = floating_dtype("BatchNorm2d", dtype)
        affine = flag("BatchNorm2d", "affine", affine)
        track_running_stats = flag("BatchNorm2d", "track_running_stats", track_running_stats)
        self.weight = Parameter(np.ones(n, dtype)) if affine else None
        self.bias = Parameter(np.zeros(n, dtype)) if affine else None
        self.running_mean = Buffer(np.zeros(n, dtype)) if track_running_stats else None
        self.running_var = Buffer(np.ones(n, dtype)) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.int64(0)) if track_running_stats else None

    def forward(self, x: Any) -> Any:
        if len(x.shape) != 4 or x.shape[1] != self.num_features:
            raise ValueError(f"BatchNorm2d: x must have shape (N, {self.num_features}, H, W), got {x.shape}")
        tracked = self.num_batches_tracked
        momentum = self.momentum
        if momentum is None:
            momentum = 0.0 if tracked is None else 1 / (int(tracked) + 1)
        training = self.training or tracked is None
        y = F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, training, momentum, self.eps)
        if self.training and tracked is not None:
            tracked[...] = int(tracked) + 1
        return y

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}, "
            f"track_running_stats={self.running_mean is not None}"
        )


class MaxPool2d(Module):
    """`functional.max_pool2d`: the maximum of every window, and, if `return_indices`, where it was."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        ties: str = "first",
    ) -> None:
        self.kernel_size = _sizes("MaxPool2d", "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else stride
        self.padding = padding
        self.dilation = dilation
        self.return_indices = return_indices
        self.ceil_mode = ceil_mode
        self.ties = ties

    def forward(self, x: Any) -> Any:
        return F.max_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
            ties=self.ties,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """`functional.avg_pool2d`: the mean of every window."""

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self.kernel_size = _sizes("AvgPool2d", "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        return F.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class Flatten(Module):
    """`functional.flatten`, by default of everything but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = integer("Flatten", "start_dim", start_dim)
        self.end_dim = integer("Flatten", "end_dim", end_dim)

    def forward(self, x: Any) -> Any:
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Dropout(Module):
    """`functional.dropout` while training, drawing from a generator of its own; otherwise nothing."""

    def __init__(self, p: float = 0.5, *, rng: Any = None) -> None:
        self.p = number("Dropout", "p", p, 0, 1)
        self.rng = generator("Dropout", rng)

    def forward(self, x: Any) -> Any:
        return F.dropout(x, self.p, self.training, self.rng)

    def extra_repr(self) -> str:
        return f"p={self.p}"


# Activations


class Identity(Module):
    """x itself."""

    def forward(self, x: Any) -> Any:
        return F.identity(x)


class ReLU(Module):
    """`functional.relu`."""

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class LeakyReLU(Module):
    """`functional.leaky_relu`."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """`functional.elu`."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number("ELU", "alpha", alpha)

    def forward(self, x: Any) -> Any:
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Tanh(Module):
    """`functional.tanh`."""

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class Sigmoid(Module):
    """`functional.sigmoid`."""

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class SiLU(Module):
    """`functional.silu`."""

    def forward(self, x: Any) -> Any:
        return F.silu(x)


class GELU(Module):
    """`functional.gelu`."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = choice("GELU", "approximate", approximate, "none", "tanh")

    def forward(self, x: Any) -> Any:
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """`functional.softplus`."""

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = number("Softplus", "beta", beta)

    def forward(self, x: Any) -> Any:
        return F.softplus(x, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"
