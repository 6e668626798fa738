"""Sizes of convolution and pooling, checked once in Python integers.

A geometry is computed from the shapes and hyper-parameters of one call, is immutable, and travels with all maps of that
call (convolution, its input gradient, its weight gradient; pooling and its adjoint), so that nothing is derived twice.
Python integers cannot overflow, so every product is exact; element counts are then compared with ``2**63 - 1`` and byte
counts with ``2**47`` (the address space of one process), and what passes is safe to compute with in 64-bit C. Strides,
dilations and paddings are limited to ``2**31 - 1``.

The size rules are those of Dumoulin and Visin, "A guide to convolution arithmetic for deep learning"
(arXiv:1603.07285), with asymmetric and negative (cropping) padding; the 'same' rule is TensorFlow's, which works at
every stride.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from numbers import Integral
from typing import Any

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
Shape4 = tuple[int, int, int, int]

_LARGEST_COUNT = 2**63 - 1
_LARGEST_BYTES = 2**47
_LARGEST_ITEM = 8
_LARGEST_STEP = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Conv2dGeometry:
    """The sizes of one two-dimensional convolution, shared by its three maps.

    ``padding`` is ``((top, bottom), (left, right))``; negative numbers crop. The other pairs are ``(height, width)``.
    """

    batch: int
    in_channels: int
    out_channels: int
    groups: int
    input: Pair
    kernel: Pair
    output: Pair
    stride: Pair
    dilation: Pair
    padding: Padding

    @property
    def x_shape(self) -> Shape4:
        """Shape of the convolution's input, ``(batch, in_channels, height, width)``."""
        return (self.batch, self.in_channels, *self.input)

    @property
    def weight_shape(self) -> Shape4:
        """Shape of the filters, ``(out_channels, in_channels / groups, kernel height, kernel width)``."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def y_shape(self) -> Shape4:
        """Shape of the convolution's output, ``(batch, out_channels, height, width)``."""
        return (self.batch, self.out_channels, *self.output)


@dataclass(frozen=True, slots=True)
class Pool2dGeometry:
    """The sizes of one two-dimensional pooling; every pair is ``(height, width)`` and padding is symmetric."""

    batch: int
    channels: int
    input: Pair
    kernel: Pair
    output: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    ceil_mode: bool

    @property
    def x_shape(self) -> Shape4:
        """Shape of the pooled array, ``(batch, channels, height, width)``."""
        return (self.batch, self.channels, *self.input)

    @property
    def y_shape(self) -> Shape4:
        """Shape of the result, ``(batch, channels, height, width)``."""
        return (self.batch, self.channels, *self.output)


def conv2d_geometry(
    function: str,
    x_shape: Any,
    weight_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Conv2dGeometry:
    """The geometry of ``conv2d(x, weight)``.

    ``x_shape`` is ``(N, C, H, W)``, ``weight_shape`` is ``(O, C / groups, kh, kw)``. ``stride`` and ``dilation`` are an
    integer or a pair; ``padding`` is an integer, a pair, a pair of pairs, ``'same'`` or ``'valid'``. ``function`` is
    the name that error messages begin with. Raises ``TypeError`` for a wrong kind and ``ValueError`` for a wrong value.
    """
    arguments = (x_shape, weight_shape, stride, padding, dilation, groups)
    return _conv2d_geometry(function, *map(_plain, arguments))


def conv_transpose2d_geometry(
    function: str,
    y_shape: Any,
    weight_shape: Any,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Conv2dGeometry:
    """The geometry of the convolution whose input gradient is the transposed convolution of an array of ``y_shape``.

    ``y_shape`` is ``(N, C_in, H, W)`` and ``weight_shape`` is ``(C_in, C_out / groups, kh, kw)``; the result of the
    transposed convolution has the geometry's ``x_shape``. ``output_padding`` (an integer or a pair, smaller than the
    larger of stride and dilation) adds computed cells at the bottom and right.
    """
    arguments = (y_shape, weight_shape, stride, padding, output_padding, dilation, groups)
    return _conv_transpose2d_geometry(function, *map(_plain, arguments))


def pool2d_geometry(
    function: str,
    x_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
) -> Pool2dGeometry:
    """The geometry of max or average pooling of an array of ``x_shape`` ``(N, C, H, W)``.

    ``stride`` defaults to ``kernel_size``; ``padding`` may not exceed half of the undilated kernel; with ``ceil_mode``
    the last window may overhang the bottom or right edge, but starts inside the input or its left padding.
    """
    if not isinstance(ceil_mode, bool):
        raise TypeError(f"{function}: ceil_mode must be a bool, got {_show(ceil_mode)}")
    arguments = (x_shape, kernel_size, stride, padding, dilation)
    return _pool2d_geometry(function, *map(_plain, arguments), ceil_mode)


@lru_cache(maxsize=4096)
def _conv2d_geometry(
    function: str, x_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any, groups: Any
) -> Conv2dGeometry:
    batch, in_channels, *size = _shape(function, "x", x_shape)
    out_channels, weight_channels, *kernel = _shape(function, "weight", weight_shape)
    strides, dilations, groups = _hyper_parameters(function, kernel, stride, dilation, groups)
    if in_channels % groups:
        raise ValueError(
            f"{function}: groups must divide the input channels, got groups {groups} and {in_channels} channels"
        )
    if out_channels % groups:
        raise ValueError(
            f"{function}: groups must divide the output channels, got groups {groups} and {out_channels} channels"
        )
    if weight_channels != in_channels // groups:
        raise ValueError(
            f"{function}: weight must have {in_channels // groups} input channels ({in_channels} of x over {groups} "
            f"groups), got weight of shape {tuple(weight_shape)} and x of shape {tuple(x_shape)}"
        )
    pads = _padding(function, padding, size, kernel, strides, dilations)
    output = []
    for axis in range(2):
        padded = size[axis] + sum(pads[axis])
        extent = dilations[axis] * (kernel[axis] - 1) + 1
        if padded < extent:
            raise ValueError(
                f"{function}: the kernel is larger than the padded input: {_AXES[axis]} {size[axis]} with padding "
                f"{pads[axis]} is {padded}, kernel {kernel[axis]} with dilation {dilations[axis]} covers {extent}"
            )
        output.append((padded - extent) // strides[axis] + 1)
    geometry = Conv2dGeometry(
        batch,
        in_channels,
        out_channels,
        groups,
        _pair_of(size),
        _pair_of(kernel),
        _pair_of(output),
        strides,
        dilations,
        pads,
    )
    _check_sizes(function, x=geometry.x_shape, weight=geometry.weight_shape, result=geometry.y_shape)
    return geometry


@lru_cache(maxsize=4096)
def _conv_transpose2d_geometry(
    function: str,
    y_shape: Any,
    weight_shape: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
) -> Conv2dGeometry:
    batch, out_channels, *size = _shape(function, "x", y_shape)
    weight_out, weight_channels, *kernel = _shape(function, "weight", weight_shape)
    strides, dilations, groups = _hyper_parameters(function, kernel, stride, dilation, groups)
    if weight_out != out_channels:
        raise ValueError(
            f"{function}: weight must have {out_channels} as its first size, the channels of x, got weight of shape "
            f"{tuple(weight_shape)} and x of shape {tuple(y_shape)}"
        )
    if out_channels % groups:
        raise ValueError(
            f"{function}: groups must divide the input channels, got groups {groups} and {out_channels} channels"
        )
    if isinstance(padding, str):
        raise ValueError(f"{function}: padding must be an integer, a pair or a pair of pairs, got {padding!r}")
    pads = _explicit_padding(function, padding)
    extra = _pair(function, "output_padding", output_padding)
    result = []
    for axis in range(2):
        if not 0 <= extra[axis] < max(strides[axis], dilations[axis]):
            raise ValueError(
                f"{function}: output_padding must be at least 0 and smaller than the larger of stride {strides} and "
                f"dilation {dilations}, got {extra}"
            )
        if size[axis] < 1:
            raise ValueError(f"{function}: x must have a {_AXES[axis]} of at least 1, got shape {tuple(y_shape)}")
        length = (
            (size[axis] - 1) * strides[axis] - sum(pads[axis]) + dilations[axis] * (kernel[axis] - 1) + extra[axis] + 1
        )
        if length < 1:
            raise ValueError(
                f"{function}: the result would have {_AXES[axis]} {length}: input {size[axis]}, kernel {kernel[axis]}, "
                f"stride {strides[axis]}, padding {pads[axis]}, dilation {dilations[axis]}, output_padding "
                f"{extra[axis]}"
            )
        result.append(length)
    geometry = Conv2dGeometry(
        batch,
        weight_channels * groups,
        out_channels,
        groups,
        _pair_of(result),
        _pair_of(kernel),
        _pair_of(size),
        strides,
        dilations,
        pads,
    )
    _check_sizes(function, x=geometry.y_shape, weight=geometry.weight_shape, result=geometry.x_shape)
    return geometry


@lru_cache(maxsize=4096)
def _pool2d_geometry(
    function: str, x_shape: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> Pool2dGeometry:
    batch, channels, *size = _shape(function, "x", x_shape)
    kernel = _pair(function, "kernel_size", kernel_size, positive=True)
    strides = kernel if stride is None else _pair(function, "stride", stride, positive=True)
    dilations = _pair(function, "dilation", dilation, positive=True)
    pads = _pair(function, "padding", padding)
    output = []
    for axis in range(2):
        i, k, s, p, d = size[axis], kernel[axis], strides[axis], pads[axis], dilations[axis]
        if not 0 <= p <= k // 2:
            raise ValueError(f"{function}: padding must be between 0 and half of the kernel size {kernel}, got {pads}")
        o = (i + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (o - 1) * s >= i + p:
            o -= 1
        if o < 1 or i < 1:
            raise ValueError(
                f"{function}: the window is larger than the padded input: {_AXES[axis]} {i} with padding {p} on both "
                f"sides, kernel {k} with dilation {d} covers {d * (k - 1) + 1}"
            )
        # With dilation a window that begins in the padding may step over the whole of a small input.
        for start in range(-p, min(0, (o - 1) * s - p + 1), s) if d > 1 else ():
            if start % d >= i:
                raise ValueError(
                    f"{function}: a window has no cell inside the input: {_AXES[axis]} {i}, kernel {k}, stride {s}, "
                    f"padding {p}, dilation {d}"
                )
        output.append(o)
    geometry = Pool2dGeometry(
        batch, channels, _pair_of(size), kernel, _pair_of(output), strides, pads, dilations, ceil_mode
    )
    _check_sizes(function, x=geometry.x_shape, kernel_size=geometry.kernel, result=geometry.y_shape)
    return geometry


_AXES = ("height", "width")


class _Foreign:
    """A stand-in for an argument of no legal kind: usable as the key of a cache, equal to nothing, shown as it was."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"{self.value!r} ({type(self.value).__name__})"


def _plain(value: Any) -> Any:
    """``value`` in the form in which it can be the key of a cache without being mistaken for a legal value it equals.

    Lists become tuples and NumPy integers become Python's, at any depth; truth values, floats, arrays and all else that
    is no integer, string or None become stand-ins, because ``True == 1.0 == 1`` would find the entry of 1.
    """
    if type(value) is int or value is None or type(value) is str:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, Integral) and not isinstance(value, bool):
        return operator.index(value)
    return _Foreign(value)


def _show(value: object) -> str:
    """A value as an error message shows it, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _integer(function: str, argument: str, value: Any, whole: Any) -> int:
    """``value`` if it is an integer that fits the compiled kernels; ``whole`` is the argument that it is a part of."""
    if not isinstance(value, int):
        raise TypeError(f"{function}: {argument} must be made of integers, got {_show(whole)}")
    if abs(value) > _LARGEST_COUNT:
        raise ValueError(f"{function}: {argument} must fit into 64 bits, got {_show(whole)}")
    return value


def _pair(function: str, argument: str, value: Any, positive: bool = False) -> Pair:
    """An integer or a pair of integers as a ``(height, width)`` pair."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"{function}: {argument} must be an integer or a pair, got {_show(value)}")
        pair = (_integer(function, argument, value[0], value), _integer(function, argument, value[1], value))
    else:
        number = _integer(function, argument, value, value)
        pair = (number, number)
    if positive and min(pair) < 1:
        raise ValueError(f"{function}: {argument} must be positive, got {pair}")
    if max(pair) > _LARGEST_STEP or min(pair) < -_LARGEST_STEP:
        raise ValueError(f"{function}: {argument} must be at most {_LARGEST_STEP}, got {pair}")
    return pair


def _shape(function: str, argument: str, shape: Any) -> Shape4:
    """Four sizes, none negative."""
    if not isinstance(shape, tuple):
        raise TypeError(f"{function}: the shape of {argument} must be a tuple of four integers, got {_show(shape)}")
    if len(shape) != 4:
        raise ValueError(f"{function}: {argument} must have 4 dimensions, got shape {_show(shape)}")
    sizes = tuple(_integer(function, f"the shape of {argument}", size, shape) for size in shape)
    if min(sizes) < 0:
        raise ValueError(f"{function}: the shape of {argument} must not be negative, got {sizes}")
    return sizes[0], sizes[1], sizes[2], sizes[3]


def _pair_of(sizes: list[int]) -> Pair:
    return sizes[0], sizes[1]


def _hyper_parameters(
    function: str, kernel: list[int], stride: Any, dilation: Any, groups: Any
) -> tuple[Pair, Pair, int]:
    """The checks that convolution and transposed convolution share."""
    if min(kernel) < 1:
        raise ValueError(f"{function}: the kernel of weight must not be empty, got {tuple(kernel)}")
    strides = _pair(function, "stride", stride, positive=True)
    dilations = _pair(function, "dilation", dilation, positive=True)
    if isinstance(groups, tuple):
        raise TypeError(f"{function}: groups must be an integer, got {_show(groups)}")
    groups = _integer(function, "groups", groups, groups)
    if groups < 1:
        raise ValueError(f"{function}: groups must be positive, got {groups}")
    return strides, dilations, groups


def _padding(
    function: str, padding: Any, size: list[int], kernel: list[int], strides: Pair, dilations: Pair
) -> Padding:
    """Any accepted form of padding as ``((top, bottom), (left, right))``."""
    if not isinstance(padding, str):
        return _explicit_padding(function, padding)
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding != "same":
        raise ValueError(f"{function}: padding must be 'same', 'valid' or made of integers, got {padding!r}")
    pairs = []
    for i, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        output = -(-i // s)
        total = max((output - 1) * s + d * (k - 1) + 1 - i, 0)
        pairs.append((total // 2, total - total // 2))
    return pairs[0], pairs[1]


def _explicit_padding(function: str, padding: Any) -> Padding:
    if isinstance(padding, tuple) and len(padding) == 2 and any(isinstance(side, tuple) for side in padding):
        if not all(isinstance(side, tuple) and len(side) == 2 for side in padding):
            raise ValueError(f"{function}: padding must be an integer, a pair or a pair of pairs, got {_show(padding)}")
        return _pair(function, "padding", padding[0]), _pair(function, "padding", padding[1])
    height, width = _pair(function, "padding", padding)
    return (height, height), (width, width)


def _check_sizes(function: str, **shapes: tuple[int, ...]) -> None:
    """Refuse arrays that no process can hold, before any of these sizes reaches 64-bit arithmetic."""
    for name, shape in shapes.items():
        count = prod(max(size, 1) for size in shape)
        if count > _LARGEST_COUNT or count * _LARGEST_ITEM > _LARGEST_BYTES:
            raise ValueError(f"{function}: {name} is too large: shape {shape} needs more than {_LARGEST_BYTES} bytes")
