"""Convolution: one trilinear form, and its three derivatives as each other's rules.

T(x, w, y) = <y, conv2d(x, w)> is linear in each of its arguments. Its partial derivatives are three maps,

    conv2d(x, w)        = dT/dy
    conv2d_input(y, w)  = dT/dx     the transposed convolution
    conv2d_weight(x, y) = dT/dw     the filter gradient

and since each is linear in its two arguments, differentiating one of them gives the other two. The six one-line rules
below are all there is to learning filters: no layer has a backward, and every derivative of any order runs in the same
three C kernels. One geometry, computed and checked once, travels with all three.

`conv2d_composite` is the same function spelled out in plain primitives (pad, windows, tensordot); its filter gradient
emerges from their rules, and is the same.
"""

from __future__ import annotations

from typing import Any

from . import kernels
from .geometry import Conv2dGeometry, conv2d_geometry, conv_transpose2d_geometry
from .numpy import concatenate, pad, reshape, shape, sliding_window_view, sum, tensordot, transpose
from .primitive import Primitive

__all__ = ["conv2d", "conv2d_composite", "conv2d_input", "conv2d_weight", "conv_transpose2d"]

Pair = int | tuple[int, int]
Padding = int | str | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]

_conv2d: Primitive = Primitive(
    kernels.conv2d,
    x=lambda g, weight, geometry: _conv2d_input(g, weight, geometry=geometry),
    weight=lambda g, x, geometry: _conv2d_weight(x, g, geometry=geometry),
    bias=lambda g: sum(g, (0, 2, 3)),
)
_conv2d_input: Primitive = Primitive(
    kernels.conv2d_input,
    y=lambda g, weight, geometry: _conv2d(g, weight, None, geometry=geometry),
    weight=lambda g, y, geometry: _conv2d_weight(g, y, geometry=geometry),
)
_conv2d_weight: Primitive = Primitive(
    kernels.conv2d_weight,
    x=lambda g, y, geometry: _conv2d_input(y, g, geometry=geometry),
    y=lambda g, x, geometry: _conv2d(x, g, None, geometry=geometry),
)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Any:
    """The cross-correlation of images with filters, as in PyTorch:

        y[n,o,i,j] = bias[o] + sum over c,u,v of weight[o,c,u,v] * x[n,c, i*stride-padding+u*dilation, j*...]

    x: (N, C, H, W); weight: (O, C / groups, kh, kw); bias: (O,) or None; float32 or float64, one for all. Any memory
    layout gives the same bits; the result, (N, O, oh, ow), is channels-last in memory.
    stride, dilation: an int or (height, width). padding: an int, (height, width), ((top, bottom), (left, right)) with
    negative numbers cropping, 'valid' (none), or 'same' (an output of ceil(size / stride), at every stride).
    groups: input and output channels in so many independent groups.
    padding_mode: 'zeros', or a border continued by 'reflect', 'replicate' or 'circular'.

    Differentiable in x, weight and bias, to any order. Raises ValueError or TypeError naming the argument and value.
    """
    geometry = conv2d_geometry("conv2d", shape(x), shape(weight), stride, padding, dilation, groups)
    if padding_mode != "zeros":
        x = _pad_border(x, geometry, padding_mode)
        geometry = conv2d_geometry("conv2d", shape(x), shape(weight), stride, 0, dilation, groups)
    return _conv2d(x, weight, bias, geometry=geometry)


def conv2d_input(
    input_size: tuple[int, int, int, int],
    weight: Any,
    grad_output: Any,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Any:
    """The gradient of `conv2d` with respect to its input, as `torch.nn.grad.conv2d_input`:

        dx[n,c,h,w] = sum of grad_output[n,o,i,j] * weight[o,c,u,v] over all o and all (i,u), (j,v) that read cell (h,w)

    input_size: the input's shape (N, C, H, W); grad_output: (N, O, oh, ow). Differentiable in weight and grad_output.
    """
    geometry = conv2d_geometry("conv2d_input", input_size, shape(weight), stride, padding, dilation, groups)
    _require_shape("conv2d_input", grad_output, geometry.y_shape)
    return _conv2d_input(grad_output, weight, geometry=geometry)


def conv2d_weight(
    input: Any,
    weight_size: tuple[int, int, int, int],
    grad_output: Any,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Any:
    """The gradient of `conv2d` with respect to its filters, as `torch.nn.grad.conv2d_weight`:

        dw[o,c,u,v] = sum over n,i,j of grad_output[n,o,i,j] * input[n,c, i*stride-padding+u*dilation, j*...]

    weight_size: the filters' shape (O, C / groups, kh, kw); grad_output: (N, O, oh, ow). Differentiable in both arrays.
    """
    geometry = conv2d_geometry("conv2d_weight", shape(input), weight_size, stride, padding, dilation, groups)
    _require_shape("conv2d_weight", grad_output, geometry.y_shape)
    return _conv2d_weight(input, grad_output, geometry=geometry)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    padding: Padding = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Any:
    """The transposed convolution, as in PyTorch (argument order included): `conv2d_input` used forward.

    x: (N, C_in, H, W); weight: (C_in, C_out / groups, kh, kw); bias: (C_out,) or None. Per axis the result has size
    (size - 1) * stride - padding + dilation * (kernel - 1) + output_padding + 1, where output_padding, smaller than
    the larger of stride and dilation, adds computed cells at the bottom and right.
    """
    geometry = conv_transpose2d_geometry(
        "conv_transpose2d", shape(x), shape(weight), stride, padding, output_padding, dilation, groups
    )
    y = _conv2d_input(x, weight, geometry=geometry)
    if bias is None:
        return y
    _require_shape("conv_transpose2d", bias, (geometry.in_channels,), "bias")
    return y + reshape(bias, (1, -1, 1, 1))


def conv2d_composite(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Any:
    """`conv2d` written with plain primitives: pad, take every window, multiply and sum with tensordot.

    Arguments and result are those of `conv2d`. Slow and memory-hungry; it is here to be compared with.
    """
    g = conv2d_geometry("conv2d_composite", shape(x), shape(weight), stride, padding, dilation, groups)
    x = pad(x, ((0, 0), (0, 0), *(tuple(max(p, 0) for p in pair) for pair in g.padding)))
    rows, columns = (slice(max(-p, 0), n - max(-q, 0)) for (p, q), n in zip(g.padding, x.shape[2:], strict=True))
    extent = tuple(d * (k - 1) + 1 for d, k in zip(g.dilation, g.kernel, strict=True))
    windows = sliding_window_view(x[:, :, rows, columns], extent, (2, 3))
    steps = [slice(None, None, step) for step in (*g.stride, *g.dilation)]
    windows = windows[:, :, *steps]  # (N, C, oh, ow, kh, kw)
    c, o = g.in_channels // g.groups, g.out_channels // g.groups
    parts = [
        tensordot(windows[:, i * c : (i + 1) * c], weight[i * o : (i + 1) * o], ((1, 4, 5), (1, 2, 3)))
        for i in range(g.groups)
    ]
    y = transpose(concatenate(parts, axis=3), (0, 3, 1, 2))
    return y if bias is None else y + reshape(bias, (1, -1, 1, 1))


_BORDERS = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # PyTorch's names -> NumPy's


def _pad_border(x: Any, geometry: Conv2dGeometry, padding_mode: str) -> Any:
    if padding_mode not in _BORDERS:
        raise ValueError(f"conv2d: padding_mode must be zeros, reflect, replicate or circular, got {padding_mode!r}")
    for size, widths in zip(geometry.input, geometry.padding, strict=True):
        most = {"reflect": size - 1, "circular": size, "replicate": max(widths) if size else 0}[padding_mode]
        if min(widths) < 0 or max(widths) > most:
            raise ValueError(
                f"conv2d: padding must be between 0 and {most} for padding_mode {padding_mode!r} "
                f"and an input of size {geometry.input}, got {geometry.padding}"
            )
    return pad(x, ((0, 0), (0, 0), *geometry.padding), mode=_BORDERS[padding_mode])


def _require_shape(function: str, array: Any, expected: tuple[int, ...], argument: str = "grad_output") -> None:
    if shape(array) != expected:
        raise ValueError(f"{function}: {argument} must have shape {expected}, got {shape(array)}")
