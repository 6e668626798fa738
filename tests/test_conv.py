"""Convolution as a differentiable function: its three maps, derivatives of every order, other forms, and errors."""

from __future__ import annotations

import re
from typing import Any

import cases
import numpy as np
import pytest
import reference

import autograd
from autograd import (
    Tensor,
    check_adjoint,
    check_grads,
    conv2d,
    conv2d_composite,
    conv2d_input,
    conv2d_weight,
    grad,
    kernels,
)
from autograd.geometry import conv2d_geometry

CASES = pytest.mark.parametrize("case", cases.CONV_CASES, ids=lambda case: case.id)
NOT_EMPTY = [c for c in cases.CONV_CASES if 0 not in (*c.x_shape[:2], *c.weight_shape, *c.x_shape[2:])]
# Third order costs eight sweeps a direction: those cases that exercise stride, dilation, groups and padding.
SMALL = ["3x3", "stride-2", "dilation-with-groups", "depthwise-multiplier", "same-strided", "cropping", "padding-alone"]


def options(case: cases.ConvCase) -> dict[str, Any]:
    return {"stride": case.stride, "padding": case.padding, "dilation": case.dilation, "groups": case.groups}


def operands(case: cases.ConvCase, rng: np.random.Generator, dtype: Any = np.float64) -> list[np.ndarray[Any, Any]]:
    shapes = (case.x_shape, case.weight_shape, case.weight_shape[:1])
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def y_shape(case: cases.ConvCase) -> tuple[int, ...]:
    return conv2d_geometry("test", case.x_shape, case.weight_shape, **options(case)).y_shape


@CASES
def test_values_and_gradients_are_the_references(case: cases.ConvCase, rng: np.random.Generator) -> None:
    x, w, b = operands(case, rng)
    g = conv2d_geometry("test", case.x_shape, case.weight_shape, **options(case))
    upstream = rng.standard_normal(g.y_shape)
    tensors = [Tensor(a, requires_grad=True) for a in (x, w, b)]
    y = conv2d(*tensors, **options(case))
    np.testing.assert_allclose(y.data, reference.conv2d(x, w, b, g), rtol=1e-12, atol=1e-12)
    y.backward(upstream)
    expected = (
        reference.conv2d_input(upstream, w, g),
        reference.conv2d_weight(x, upstream, g),
        upstream.sum(axis=(0, 2, 3)),
    )
    for tensor, value in zip(tensors, expected, strict=True):
        np.testing.assert_allclose(tensor.grad.data, value, rtol=1e-12, atol=1e-11)


@CASES
def test_the_composite_form_gives_the_same_values_and_filter_gradient(
    case: cases.ConvCase, rng: np.random.Generator
) -> None:
    """The filter gradient emerges from the chain rule: no rule of convolution takes part in the composite form."""
    results = []
    upstream = rng.standard_normal(y_shape(case))
    arrays = operands(case, rng)
    for function in (conv2d, conv2d_composite):
        tensors = [Tensor(a, requires_grad=True) for a in arrays]
        y = function(*tensors, **options(case))
        results.append([y.data, *[g.data for g in grad([y], tensors, [upstream])]])
    for ours, composite in zip(*results, strict=True):
        np.testing.assert_allclose(ours, composite, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("case", NOT_EMPTY, ids=lambda case: case.id)
def test_second_order(case: cases.ConvCase, rng: np.random.Generator) -> None:
    check_grads(lambda x, w, b: conv2d(x, w, b, **options(case)), operands(case, rng), order=2)


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("case", [c for c in cases.CONV_CASES if c.id in SMALL], ids=lambda case: case.id)
def test_third_order_of_the_trio_on_every_instruction_set(
    case: cases.ConvCase, isa: str, rng: np.random.Generator
) -> None:
    x, w, _ = operands(case, rng)
    y = rng.standard_normal(y_shape(case))
    with kernels.use_isa(isa):
        check_grads(lambda x, w: conv2d(x, w, **options(case)), (x, w), order=3)
        check_grads(lambda w, y: conv2d_input(case.x_shape, w, y, **options(case)), (w, y), order=3)
        check_grads(lambda x, y: conv2d_weight(x, case.weight_shape, y, **options(case)), (x, y), order=3)


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@CASES
def test_adjoint_identities(case: cases.ConvCase, dtype: Any, isa: str, rng: np.random.Generator) -> None:
    """<conv(x, w), y> = <x, conv_input(y, w)> = <w, conv_weight(x, y)>."""
    x, w, _ = operands(case, rng, dtype)
    shape, kw = y_shape(case), options(case)
    with kernels.use_isa(isa):
        check_adjoint(
            lambda x: conv2d(x, w, **kw), lambda y: conv2d_input(x.shape, w, y, **kw), x.shape, shape, dtype=dtype
        )
        check_adjoint(
            lambda w: conv2d(x, w, **kw), lambda y: conv2d_weight(x, w.shape, y, **kw), w.shape, shape, dtype=dtype
        )


def test_the_hessian_in_the_filter_alone_is_zero(rng: np.random.Generator) -> None:
    x, w = Tensor(rng.standard_normal((2, 3, 6, 6))), Tensor(rng.standard_normal((4, 3, 3, 3)), requires_grad=True)
    (dw,) = grad(conv2d(x, w).sum(), w, create_graph=True)
    assert not dw.requires_grad or not np.any(grad(dw.sum(), w, allow_unused=True)[0].data)


@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolution(stride: Any, dilation: int, groups: int, rng: np.random.Generator) -> None:
    """dx = conv_transpose(g, w) with output_padding = (i + 2p - e) mod s, and its own derivatives to second order."""
    x, w = rng.standard_normal((2, 4, 9, 8)), rng.standard_normal((6, 4 // groups, 3, 2))
    pairs = stride if isinstance(stride, tuple) else (stride, stride)
    extent = (dilation * 2 + 1, dilation + 1)
    rest = tuple((n + 2 - e) % s for n, e, s in zip((9, 8), extent, pairs, strict=True))
    y = conv2d(x, w, None, stride, 1, dilation, groups)
    upstream = rng.standard_normal(y.shape)
    dx = conv2d_input(x.shape, w, upstream, stride, 1, dilation, groups)
    again = autograd.conv_transpose2d(upstream, w, None, stride, 1, rest, groups, dilation)
    np.testing.assert_array_equal(again, dx)
    bias = rng.standard_normal(4)

    def transposed(g: Any, w: Any, b: Any) -> Any:
        return autograd.conv_transpose2d(g, w, b, stride, 1, rest, groups, dilation)

    check_grads(transposed, (upstream, w, bias), order=2)


def test_output_padding_adds_computed_cells() -> None:
    x, w = np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))
    result = autograd.conv_transpose2d(x, w, stride=2, output_padding=1)
    assert result.shape == (1, 1, 6, 6)
    assert not result[0, 0, 5].any()
    assert autograd.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1)[0, 0, 3].all()


@pytest.mark.parametrize(("mode", "numpy_mode"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
def test_borders(mode: str, numpy_mode: Any, rng: np.random.Generator) -> None:
    x, w = rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 3, 3))
    padded = np.pad(x, ((0, 0), (0, 0), (2, 1), (1, 3)), numpy_mode)
    padding = ((2, 1), (1, 3))
    np.testing.assert_array_equal(conv2d(x, w, padding=padding, padding_mode=mode), conv2d(padded, w))
    check_grads(lambda x, w: conv2d(x, w, padding=padding, padding_mode=mode), (x, w), order=2)


@pytest.mark.parametrize(
    ("size", "stride", "kernel", "dilation"),
    [(s, st, k, d) for s in (1, 5, 8) for st in (1, 2, 3) for k in (1, 2, 5) for d in (1, 2)],
)
def test_same_padding(size: int, stride: int, kernel: int, dilation: int) -> None:
    """An output of ceil(size / stride); of the padding needed the smaller half goes to the top and left."""
    g = conv2d_geometry("test", (1, 1, size, size), (1, 1, kernel, kernel), stride, "same", dilation)
    out = -(-size // stride)
    total = max((out - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    assert g.output == (out, out)
    assert g.padding == ((total // 2, total - total // 2),) * 2


def test_float32_stays_float32(rng: np.random.Generator) -> None:
    x, w, b = (Tensor(a.astype(np.float32), requires_grad=True) for a in operands(cases.CONV_CASES[0], rng))
    y = conv2d(x, w, b, padding=1) * 2.0
    y.sum().backward()
    assert {t.dtype for t in (y, x.grad, w.grad, b.grad)} == {np.dtype(np.float32)}


def test_results_are_channels_last_in_memory_and_elementwise_functions_keep_that(rng: np.random.Generator) -> None:
    y = conv2d(Tensor(rng.standard_normal((2, 3, 6, 6))), rng.standard_normal((4, 3, 3, 3)))
    for t in (y, autograd.relu(y), y * 2, np.exp(y), autograd.max_pool2d(y, 2)):
        assert t.data.transpose(0, 2, 3, 1).flags.c_contiguous


def test_a_frozen_operand_costs_no_kernel_call(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("conv2d_input", "conv2d_weight"):
        primitive = autograd.Primitive.registry[name]

        def counted(*args: Any, f: Any = primitive.function, name: str = name, **metadata: Any) -> Any:
            calls.append(name)
            return f(*args, **metadata)

        monkeypatch.setattr(primitive, "plain", counted)
    w = Tensor(rng.standard_normal((4, 3, 3, 3)), requires_grad=True)
    conv2d(rng.standard_normal((1, 3, 5, 5)), w).sum().backward()
    assert calls == ["conv2d_weight"]


X, W = np.zeros((2, 4, 8, 8)), np.zeros((6, 4, 3, 3))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: conv2d(X, W, stride=0), ValueError, "stride"),
        (lambda: conv2d(X, W, stride=(1, -1)), ValueError, "stride"),
        (lambda: conv2d(X, W, stride=True), TypeError, "stride"),
        (lambda: conv2d(X, W, stride=1.5), TypeError, "stride"),
        (lambda: conv2d(X, W, stride=()), ValueError, "stride"),
        (lambda: conv2d(X, W, padding=2**62), ValueError, "padding"),
        (lambda: conv2d(X, W, padding="full"), ValueError, "'full'"),
        (lambda: conv2d(X, W, dilation=0), ValueError, "dilation"),
        (lambda: conv2d(X, W, dilation=9), ValueError, "9"),
        (lambda: conv2d(X, W, groups=3), ValueError, "groups"),
        (lambda: conv2d(X, W, groups=-(2**63)), ValueError, "groups"),
        (lambda: conv2d(X, np.zeros((6, 3, 3, 3))), ValueError, "weight"),
        (lambda: conv2d(X, np.zeros((6, 4, 0, 3))), ValueError, "kernel"),
        (lambda: conv2d(X, np.zeros((6, 4, 9, 9))), ValueError, "9"),
        (lambda: conv2d(X[0], W), ValueError, "(4, 8, 8)"),
        (lambda: conv2d(X, W.astype(np.float32)), TypeError, "float32"),
        (lambda: conv2d(X.astype(int), W.astype(int)), TypeError, "int64"),
        (lambda: conv2d(X, W, np.zeros(5)), ValueError, "bias"),
        (lambda: conv2d(X, W, padding=1, padding_mode="mirror"), ValueError, "padding_mode"),
        (lambda: conv2d(X, W, padding=8, padding_mode="reflect"), ValueError, "padding"),
        (lambda: conv2d_input(X.shape, W, X), ValueError, "grad_output"),
        (lambda: conv2d_weight(X, W.shape, X), ValueError, "grad_output"),
        (lambda: autograd.conv_transpose2d(X, np.zeros((4, 6, 3, 3)), output_padding=1), ValueError, "output_padding"),
        (lambda: autograd.conv_transpose2d(X, np.zeros((4, 6, 3, 3)), np.zeros(4)), ValueError, "bias"),
    ],
)
def test_errors_name_function_argument_and_value(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"^conv\w*2d\w*: .*{re.escape(words)}"):
        call()
