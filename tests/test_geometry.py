"""Sizes of convolution and pooling: the formulas against counting, and every rejection with its message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import CONV_CASES, POOL_CASES, ConvCase, PoolCase
from hypothesis import given
from hypothesis import strategies as st

from autograd.geometry import conv2d_geometry, conv_transpose2d_geometry, pool2d_geometry

X, W = (2, 4, 8, 8), (6, 4, 3, 3)


def conv(**changes: Any) -> Any:
    arguments = {"x_shape": X, "weight_shape": W, **changes}
    return conv2d_geometry("conv2d", **arguments)


def transposed(**changes: Any) -> Any:
    arguments = {"y_shape": (2, 6, 8, 8), "weight_shape": W, **changes}
    return conv_transpose2d_geometry("conv_transpose2d", **arguments)


def pool(**changes: Any) -> Any:
    arguments = {"x_shape": X, "kernel_size": 3, **changes}
    return pool2d_geometry("max_pool2d", **arguments)


@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.id)
def test_shapes_of_conv_cases(case: ConvCase) -> None:
    g = conv2d_geometry("conv2d", *case[1:])
    assert g.x_shape == case.x_shape
    assert g.weight_shape == case.weight_shape
    assert g.y_shape[:2] == (case.x_shape[0], case.weight_shape[0])


@given(
    st.integers(1, 20), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(-3, 5), st.integers(-3, 5)
)
def test_output_size_counts_positions(i: int, k: int, s: int, d: int, before: int, after: int) -> None:
    extent = d * (k - 1) + 1
    starts = range(-before, i + after - extent + 1, s)
    arguments = ((1, 1, i, 1), (1, 1, k, 1), (s, 1), ((before, after), (0, 0)), (d, 1))
    if len(starts) == 0:
        with pytest.raises(ValueError, match=f"height {i} with padding .* is {i + before + after}, .* covers {extent}"):
            conv2d_geometry("conv2d", *arguments)
    else:
        assert conv2d_geometry("conv2d", *arguments).output == (len(starts), 1)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4))
def test_same_padding(i: int, k: int, s: int, d: int) -> None:
    g = conv2d_geometry("conv2d", (1, 1, i, i), (1, 1, k, k), s, "same", d)
    assert g.output == (-(-i // s),) * 2
    for before, after in g.padding:
        assert before <= after <= before + 1


@given(st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))
def test_transposed_geometry_is_the_forward_one(i: int, k: int, s: int, d: int, p: int, extra: int) -> None:
    size = (i - 1) * s - 2 * p + d * (k - 1) + extra + 1
    arguments = ((1, 2, i, i), (2, 3, k, k), s, p, extra, d)
    if extra >= max(s, d) or size < 1:
        with pytest.raises(ValueError, match=r"output_padding|would have height"):
            conv_transpose2d_geometry("conv_transpose2d", *arguments)
        return
    g = conv_transpose2d_geometry("conv_transpose2d", *arguments)
    assert g.x_shape == (1, 3, size, size)
    assert g.y_shape == (1, 2, i, i)
    if extra < s:
        assert g == conv2d_geometry("conv2d", g.x_shape, g.weight_shape, s, p, d)


@pytest.mark.parametrize("case", POOL_CASES, ids=lambda case: case.id)
def test_pool_windows_fit(case: PoolCase) -> None:
    g = pool2d_geometry("pool", *case[1:])
    for i, k, s, p, d, o in zip(g.input, g.kernel, g.stride, g.padding, g.dilation, g.output, strict=True):
        last = (o - 1) * s - p
        if g.ceil_mode:
            assert last < i, "the last window starts inside the input or its left padding"
        else:
            assert last + d * (k - 1) < i + p
            assert last + s + d * (k - 1) >= i + p, "one more window would not fit"


def test_pool_stride_defaults_to_kernel() -> None:
    assert pool(kernel_size=(2, 3)).stride == (2, 3)


def test_forms_of_arguments_agree() -> None:
    plain = conv(stride=2, padding=1, dilation=1)
    assert conv(stride=(2, 2), padding=(1, 1), dilation=[1, 1]) == plain
    assert conv(stride=np.int64(2), padding=[[1, 1], [np.uint8(1), 1]]) == plain
    assert hash(conv(stride=2)) == hash(conv(stride=(2, 2)))


def test_geometry_is_immutable() -> None:
    with pytest.raises(AttributeError):
        conv().batch = 3


NO_INTEGERS = [
    True,
    1.0,
    1.5,
    float("nan"),
    "1",
    None,
    np.array(1),
    np.array([1, 1]),
    1 + 0j,
    {},
    {1: 2},
    np.bool_(True),
]


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
@pytest.mark.parametrize("argument", ["stride", "dilation", "groups", "padding"])
def test_kind_of_conv_arguments(argument: str, value: Any) -> None:
    conv()  # what is cached for 1 must not be found for True or 1.0
    if argument == "padding" and isinstance(value, str):
        pytest.skip("padding may be a string; its wrong values are tested below")
    with pytest.raises(TypeError, match=rf"^conv2d: {argument} must be"):
        conv(**{argument: value})
    if argument != "groups":
        conv(**{argument: (1, 1)})
        with pytest.raises(TypeError, match=rf"^conv2d: {argument} must be"):
            conv(**{argument: (1, value)})


@pytest.mark.parametrize("value", NO_INTEGERS, ids=repr)
@pytest.mark.parametrize("argument", ["kernel_size", "stride", "padding", "dilation"])
def test_kind_of_pool_arguments(argument: str, value: Any) -> None:
    pool(kernel_size=1)
    if argument == "stride" and value is None:
        pytest.skip("None is the default")
    with pytest.raises(TypeError, match=rf"^max_pool2d: {argument} must be"):
        pool(**{argument: value})


@pytest.mark.parametrize("value", [1, None, "yes", np.bool_(True)], ids=repr)
def test_kind_of_ceil_mode(value: Any) -> None:
    with pytest.raises(TypeError, match="max_pool2d: ceil_mode must be a bool"):
        pool(ceil_mode=value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": (0, 1)}, r"stride must be positive, got \(0, 1\)"),
        ({"stride": -1}, r"stride must be positive, got \(-1, -1\)"),
        ({"stride": ()}, r"stride must be an integer or a pair, got \(\)"),
        ({"stride": (1, 1, 1)}, "stride must be an integer or a pair"),
        ({"stride": 2**63}, "stride must fit into 64 bits"),
        ({"stride": 2**63 - 1}, "stride must be at most"),
        ({"dilation": 0}, r"dilation must be positive, got \(0, 0\)"),
        ({"dilation": -1}, "dilation must be positive"),
        ({"dilation": 2**62}, "dilation must be at most"),
        ({"dilation": 2**31 - 1}, "kernel is larger than the padded input"),
        ({"padding": (1,)}, "padding must be an integer or a pair"),
        ({"padding": ((1, 2), 3)}, "padding must be an integer, a pair or a pair of pairs"),
        ({"padding": ((1, 2), (3, 4, 5))}, "padding must be an integer, a pair or a pair of pairs"),
        ({"padding": "reflect"}, "padding must be 'same', 'valid' or made of integers, got 'reflect'"),
        ({"padding": 2**31}, "padding must be at most"),
        ({"padding": 2**31 - 1}, "result is too large"),
        ({"padding": -4}, "kernel is larger than the padded input"),
        ({"groups": 0}, "groups must be positive, got 0"),
        ({"groups": -(2**63)}, "groups must"),
        ({"groups": 3}, "groups must divide the input channels, got groups 3 and 4 channels"),
        ({"groups": 4}, "groups must divide the output channels, got groups 4 and 6 channels"),
        ({"groups": 2}, r"weight must have 2 input channels .* got weight of shape \(6, 4, 3, 3\)"),
        ({"weight_shape": (6, 4, 0, 3)}, r"kernel of weight must not be empty, got \(0, 3\)"),
        ({"weight_shape": (6, 4, 9, 3)}, "height 8 with padding .* is 8, kernel 9 .* covers 9"),
        ({"weight_shape": (6, 4, 3)}, "weight must have 4 dimensions"),
        ({"x_shape": (4, 8, 8)}, "x must have 4 dimensions"),
        ({"x_shape": (2, 4, -8, 8)}, "shape of x must not be negative"),
        ({"x_shape": (2, 4, 0, 8)}, "kernel is larger than the padded input"),
        ({"x_shape": (2**40, 4, 2**40, 2**40)}, "x is too large"),
        ({"x_shape": (2**62, 4, 8, 8)}, "x is too large"),
        ({"weight_shape": (2**60, 4, 3, 3)}, "weight is too large"),
    ],
)
def test_value_of_conv_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^conv2d: .*{message}"):
        conv(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_padding": 1}, "output_padding must be at least 0 and smaller than"),
        ({"output_padding": -1, "stride": 2}, "output_padding must be at least 0"),
        ({"stride": 0}, "stride must be positive"),
        ({"padding": 6}, "the result would have height -2"),
        ({"padding": "same"}, "padding must be an integer, a pair or a pair of pairs, got 'same'"),
        ({"y_shape": (2, 5, 8, 8)}, "weight must have 5 as its first size"),
        ({"y_shape": (2, 6, 0, 8)}, "x must have a height of at least 1"),
        ({"groups": 4}, "groups must divide the input channels"),
        ({"stride": 2**31 - 1, "y_shape": (2, 6, 2**20, 2**20)}, "result is too large"),
    ],
)
def test_value_of_transposed_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^conv_transpose2d: .*{message}"):
        transposed(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel_size": 0}, "kernel_size must be positive"),
        ({"kernel_size": 2**63 + 99}, "kernel_size must fit into 64 bits"),
        ({"kernel_size": 9}, "window is larger than the padded input: height 8"),
        ({"kernel_size": ()}, "kernel_size must be an integer or a pair"),
        ({"stride": 0}, "stride must be positive"),
        ({"dilation": -1}, "dilation must be positive"),
        ({"padding": -1}, "padding must be between 0 and half of the kernel size"),
        ({"padding": 2}, "padding must be between 0 and half of the kernel size"),
        ({"x_shape": (2, 4, 0, 8)}, "window is larger than the padded input: height 0"),
        (
            {"x_shape": (1, 1, 2, 2), "kernel_size": 2, "padding": 1, "dilation": 3},
            "a window has no cell inside the input",
        ),
    ],
)
def test_value_of_pool_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^max_pool2d: .*{message}"):
        pool(**changes)
