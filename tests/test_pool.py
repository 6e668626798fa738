"""Pooling as differentiable functions: values, derivatives of every order, adjoints, ties, composed forms, errors."""

from __future__ import annotations

import re
from typing import Any

import cases
import numpy as np
import pytest
import reference

import autograd
from autograd import Tensor, avg_pool2d, check_adjoint, check_grads, grad, kernels, max_pool2d
from autograd.geometry import Pool2dGeometry, pool2d_geometry
from autograd.primitive import Primitive

CASES = pytest.mark.parametrize("case", cases.POOL_CASES, ids=lambda case: case.id)
NOT_EMPTY = [case for case in cases.POOL_CASES if 0 not in case.x_shape]
UNDILATED = [case for case in cases.POOL_CASES if case.dilation == 1]
DIVISORS = [(True, None), (False, None), (True, 3)]


def geometry(case: cases.PoolCase) -> Pool2dGeometry:
    return pool2d_geometry("test", *case[1:])


def apart(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Numbers of which no two are so close that a numeric derivative could exchange them."""
    return rng.permutation(np.arange(np.prod(shape, dtype=int)) * 0.1).reshape(shape)


@CASES
def test_max_values_positions_and_gradient(case: cases.PoolCase, rng: np.random.Generator) -> None:
    g = geometry(case)
    x = Tensor(rng.standard_normal(case.x_shape), requires_grad=True)
    y, positions = max_pool2d(x, *case[2:], return_indices=True)
    expected, offsets = reference.max_pool2d(x.data, g)
    np.testing.assert_array_equal(y.data, expected)
    n, c = np.ogrid[: x.shape[0], : x.shape[1]]
    plane = x.data.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    np.testing.assert_array_equal(plane[n[:, :, None, None], c[:, :, None, None], positions], expected)
    upstream = rng.standard_normal(y.shape)
    y.backward(upstream)
    np.testing.assert_allclose(x.grad.data, reference.max_scatter2d(upstream, offsets, g), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("case", NOT_EMPTY, ids=lambda case: case.id)
def test_max_third_order(case: cases.PoolCase, isa: str, rng: np.random.Generator) -> None:
    with kernels.use_isa(isa):
        check_grads(lambda x: max_pool2d(x, *case[2:]), [apart(case.x_shape, rng)], order=3)


@pytest.mark.parametrize(("count_include_pad", "divisor_override"), DIVISORS)
@pytest.mark.parametrize("case", UNDILATED, ids=lambda case: case.id)
def test_average_values_and_gradient(
    case: cases.PoolCase, count_include_pad: bool, divisor_override: int | None, rng: np.random.Generator
) -> None:
    g = geometry(case)
    x = Tensor(rng.standard_normal(case.x_shape), requires_grad=True)
    y = avg_pool2d(x, case.kernel_size, case.stride, case.padding, case.ceil_mode, count_include_pad, divisor_override)
    expected = reference.avg_pool2d(x.data, g, count_include_pad, divisor_override)
    np.testing.assert_allclose(y.data, expected, rtol=1e-13, atol=1e-13)
    upstream = rng.standard_normal(y.shape)
    y.backward(upstream)
    expected = reference.avg_pool2d_adjoint(upstream, g, count_include_pad, divisor_override)
    np.testing.assert_allclose(x.grad.data, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("case", [c for c in UNDILATED if c in NOT_EMPTY], ids=lambda case: case.id)
def test_average_third_order(case: cases.PoolCase, isa: str, rng: np.random.Generator) -> None:
    def pool(x: Any) -> Any:
        return avg_pool2d(x, case.kernel_size, case.stride, case.padding, case.ceil_mode, count_include_pad=False)

    with kernels.use_isa(isa):
        check_grads(pool, [rng.standard_normal(case.x_shape)], order=3)


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@CASES
def test_adjoint_identities(case: cases.PoolCase, dtype: Any, isa: str, rng: np.random.Generator) -> None:
    g = geometry(case)
    gather, scatter, average, adjoint = (
        Primitive.registry[name] for name in ("max_gather2d", "max_scatter2d", "avg_pool2d", "avg_pool2d_adjoint")
    )
    with kernels.use_isa(isa):
        offsets = kernels.max_pool2d(rng.standard_normal(g.x_shape).astype(dtype), g)[1]
        check_adjoint(
            lambda x: gather(x, offsets, geometry=g),
            lambda y: scatter(y, offsets, geometry=g),
            g.x_shape,
            g.y_shape,
            dtype=dtype,
        )
        if case in UNDILATED:
            check_adjoint(
                lambda x: average(x, geometry=g), lambda y: adjoint(y, geometry=g), g.x_shape, g.y_shape, dtype=dtype
            )


def test_the_gradient_of_overlapping_windows_adds_up() -> None:
    x = Tensor([[[[1.0, 3.0, 2.0]]]], requires_grad=True)
    max_pool2d(x, (1, 2), stride=1).sum().backward()
    assert x.grad.tolist() == [[[[0.0, 2.0, 0.0]]]]


def test_ties() -> None:
    for ties, expected in (("first", [1.0, 0.0, 0.0, 0.0]), ("split", [1 / 3, 1 / 3, 0.0, 1 / 3])):
        x = Tensor([[[[5.0, 5.0], [1.0, 5.0]]]], requires_grad=True)
        max_pool2d(x, 2, ties=ties).sum().backward()
        np.testing.assert_allclose(x.grad.data.ravel(), expected, rtol=1e-15)


@pytest.mark.parametrize("case", NOT_EMPTY, ids=lambda case: case.id)
def test_split_agrees_with_first_where_nothing_ties(case: cases.PoolCase, rng: np.random.Generator) -> None:
    x = Tensor(apart(case.x_shape, rng), requires_grad=True)
    first, split = (max_pool2d(x, *case[2:], ties=ties) for ties in ("first", "split"))
    np.testing.assert_array_equal(first.data, split.data)
    upstream = rng.standard_normal(first.shape)
    a, b = (grad(y, x, upstream)[0].data for y in (first, split))
    np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


def test_nan_infinity_and_padding() -> None:
    nan, inf = np.nan, np.inf
    x = Tensor([[[[1.0, nan, nan, 7.0]], [[-inf, -inf, -inf, -inf]]]], requires_grad=True)
    y = max_pool2d(x, (1, 4), padding=(0, 2), stride=(1, 4))
    np.testing.assert_array_equal(y.data, [[[[nan, nan]], [[-inf, -inf]]]])
    y.backward(np.ones(y.shape))
    # The last of several NaNs wins; of equal -inf the first cell that is not padding.
    np.testing.assert_array_equal(x.grad.data, [[[[0.0, 1.0, 1.0, 0.0]], [[1.0, 0.0, 1.0, 0.0]]]])


@pytest.mark.parametrize("p", [1, 2, 2.5, 3])
def test_lp_pooling(p: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 6, 7))
    x[0, 0, :2, :2] = 0.0
    y = autograd.lp_pool2d(x, p, 2)
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))[:, :, ::2, ::2]
    np.testing.assert_allclose(y, (np.abs(windows) ** p).sum(axis=(4, 5)) ** (1 / p), rtol=1e-13)
    t = Tensor(x, requires_grad=True)
    autograd.lp_pool2d(t, p, 2).sum().backward()
    assert not t.grad.data[0, 0, :2, :2].any()
    check_grads(lambda x: autograd.lp_pool2d(x, p, 2), [rng.standard_normal((2, 3, 6, 7)) + 4], order=2)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 7), (None, 4), (8, 9)])
def test_adaptive_pooling(size: Any, rng: np.random.Generator) -> None:
    x = apart((2, 3, 5, 7), rng)
    rows, columns = (n if s is None else s for s, n in zip(size, (5, 7), strict=True))
    for function, reduce in ((autograd.adaptive_avg_pool2d, np.mean), (autograd.adaptive_max_pool2d, np.max)):
        expected = np.empty((2, 3, rows, columns))
        for i in range(rows):
            for j in range(columns):
                top, left = int(np.floor(i * 5 / rows)), int(np.floor(j * 7 / columns))
                bottom, right = int(np.ceil((i + 1) * 5 / rows)), int(np.ceil((j + 1) * 7 / columns))
                expected[:, :, i, j] = reduce(x[:, :, top:bottom, left:right], axis=(2, 3))
        np.testing.assert_allclose(function(Tensor(x), size).data, expected, rtol=1e-13)
        check_grads(lambda x, f=function: f(x, size), [x], order=2)


def test_unpooling_puts_maxima_back(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 3, 6, 8))
    y, positions = max_pool2d(x, 2, return_indices=True)
    back = autograd.max_unpool2d(Tensor(y), positions, 2)
    assert back.shape == x.shape
    assert np.count_nonzero(back.data) == y.size
    np.testing.assert_array_equal(max_pool2d(np.where(back.data == 0, -np.inf, back.data), 2), y)
    check_grads(lambda y: autograd.max_unpool2d(y, positions, 2), [y], order=2)


X = np.zeros((2, 4, 8, 8))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: max_pool2d(X, 0), ValueError, "kernel_size"),
        (lambda: max_pool2d(X, 2, stride=0), ValueError, "stride"),
        (lambda: max_pool2d(X, 2, stride=(2, 2, 2)), ValueError, "stride"),
        (lambda: max_pool2d(X, 2, padding=2), ValueError, "padding"),
        (lambda: max_pool2d(X, 2, padding=-1), ValueError, "padding"),
        (lambda: max_pool2d(X, 9), ValueError, "9"),
        (lambda: max_pool2d(X, 2, dilation=2**63), ValueError, "dilation"),
        (lambda: max_pool2d(X, 2.0), TypeError, "kernel_size"),
        (lambda: max_pool2d(X, 2, ties="last"), ValueError, "ties"),
        (lambda: max_pool2d(X, 2, ceil_mode=1), TypeError, "ceil_mode"),
        (lambda: max_pool2d(X.astype(np.int32), 2), TypeError, "int32"),
        (lambda: max_pool2d(X[0], 2), ValueError, "(4, 8, 8)"),
        (lambda: avg_pool2d(X, 2, divisor_override=0), ValueError, "divisor_override"),
        (lambda: avg_pool2d(X.astype(np.float16), 2), TypeError, "float16"),
        (lambda: autograd.lp_pool2d(X, 0.5, 2), ValueError, "norm_type"),
        (lambda: autograd.adaptive_avg_pool2d(X, 0), ValueError, "output_size"),
        (lambda: autograd.adaptive_max_pool2d(X, (2, 2.0)), TypeError, "output_size"),
        (lambda: autograd.max_unpool2d(X, np.full(X.shape, 2**32 + 3), 2), ValueError, str(2**32 + 3)),
        (lambda: autograd.max_unpool2d(X, np.full(X.shape, -1), 2), ValueError, "-1"),
        (lambda: autograd.max_unpool2d(X, X, 2), TypeError, "float64"),
    ],
)
def test_errors_name_function_argument_and_value(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=rf"^\w*pool2d: .*{re.escape(words)}"):
        call()
