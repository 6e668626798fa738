"""Functions of functions: gradients, Jacobians and Hessians as functions, nested, on arrays and on tensors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy
import pytest

import autograd.numpy as np
from autograd import Tensor, elementwise_grad, grad, hessian, jacobian, make_vjp, value_and_grad


def test_the_first_example_of_the_older_library_works() -> None:
    def tanh(x: Any) -> Any:
        return (1.0 - np.exp(-2 * x)) / (1.0 + np.exp(-2 * x))

    gradient = grad(tanh)(1.0)
    assert isinstance(gradient, float)
    assert gradient == pytest.approx((tanh(1.0001) - tanh(0.9999)) / 0.0002, rel=1e-7)


def test_higher_derivatives_by_nesting() -> None:
    f = np.sin
    for expected in (numpy.cos, lambda x: -numpy.sin(x), lambda x: -numpy.cos(x), numpy.sin):
        f = grad(f)
        assert f(0.7) == pytest.approx(expected(0.7), rel=1e-15)


def test_inner_and_outer_derivatives_are_not_confused() -> None:
    assert grad(lambda x: x * grad(lambda y: x * y)(1.0))(3.0) == 6.0
    assert grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0) == 1.0


def test_several_arguments(rng: numpy.random.Generator) -> None:
    a, b = rng.standard_normal(3), rng.standard_normal(3)

    def f(a: Any, b: Any) -> Any:
        return np.sum(a * b * b)

    numpy.testing.assert_allclose(grad(f, 1)(a, b), 2 * a * b)
    numpy.testing.assert_array_equal(grad(f, argnum=1)(a, b), grad(f, 1)(a, b))
    value, (da, db) = value_and_grad(f, (0, 1))(a, b)
    assert value == f(a, b)
    numpy.testing.assert_allclose(da, b * b)
    numpy.testing.assert_allclose(db, 2 * a * b)


def test_jacobian_and_hessian(rng: numpy.random.Generator) -> None:
    x, m = rng.standard_normal(3), rng.standard_normal((4, 3))
    numpy.testing.assert_allclose(jacobian(lambda x: m @ x)(x), m)
    assert jacobian(lambda x: np.outer(x, x))(x).shape == (3, 3, 3)
    numpy.testing.assert_allclose(hessian(lambda x: np.sum(m @ x) ** 2)(x), 2 * numpy.outer(m.sum(0), m.sum(0)))
    assert jacobian(np.sin)(0.5) == pytest.approx(numpy.cos(0.5))


def test_elementwise_gradient(rng: numpy.random.Generator) -> None:
    x = rng.standard_normal((2, 3))
    numpy.testing.assert_allclose(elementwise_grad(np.exp)(x), numpy.exp(x))


def test_vector_jacobian_products_can_be_repeated(rng: numpy.random.Generator) -> None:
    x = rng.standard_normal(3)
    vjp, value = make_vjp(np.exp)(x)
    numpy.testing.assert_array_equal(value, numpy.exp(x))
    for g in rng.standard_normal((2, 3)):
        numpy.testing.assert_allclose(vjp(g), g * numpy.exp(x))


def test_an_argument_on_which_the_value_does_not_depend_has_gradient_zero() -> None:
    _, db = grad(lambda a, b: np.sum(a), (0, 1))(numpy.ones(2), numpy.ones(3))
    numpy.testing.assert_array_equal(db, numpy.zeros(3))
    assert grad(lambda x: 1.0)(2.0) == 0.0
    assert grad(grad(lambda x: 3 * x))(2.0) == 0.0
    assert grad(lambda x: x if x > 0 else 0.0)(-1.0) == 0.0
    numpy.testing.assert_array_equal(hessian(np.sum)(numpy.ones(2)), numpy.zeros((2, 2)))
    numpy.testing.assert_array_equal(elementwise_grad(elementwise_grad(lambda x: 3 * x))(numpy.ones(2)), numpy.zeros(2))


def test_arrays_give_arrays_and_traced_tensors_give_tensors() -> None:
    assert isinstance(grad(np.sum)(numpy.ones(2)), numpy.ndarray)
    x = Tensor(numpy.ones(2), requires_grad=True)
    slope = grad(lambda t: np.sum(t**3))(x)
    assert isinstance(slope, Tensor)
    slope.sum().backward()
    numpy.testing.assert_array_equal(x.grad.data, [6.0, 6.0])


def test_float32_stays_float32() -> None:
    assert grad(lambda x: np.sum(x * 2.0))(numpy.ones(2, numpy.float32)).dtype == numpy.float32
    assert hessian(lambda x: np.sum(x**3))(numpy.ones(2, numpy.float32)).dtype == numpy.float32


def test_grad_of_tensors() -> None:
    x, w = (Tensor(v, requires_grad=True) for v in (2.0, 3.0))
    y = x * w
    assert [g.item() for g in grad(y * y, [x, w])] == [36.0, 24.0]
    assert x.grad is None
    (dy,) = grad([y * 2, y * y], y, [None, Tensor(1.0)])
    assert dy.item() == 2 + 2 * 6
    assert grad(x * w, Tensor(1.0, requires_grad=True), allow_unused=True) == (None,)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: grad(Tensor(1.0), Tensor(1.0)), RuntimeError, "grad: this tensor does not require a gradient"),
        (lambda: grad("f", Tensor(1.0)), TypeError, "grad: outputs must be"),
        (lambda: grad(np.exp)(numpy.ones(2)), ValueError, r"grad: the function must return a scalar, got .*\(2,\)"),
        (lambda: grad(np.sum)(numpy.ones(2, int)), TypeError, "floating"),
        (lambda: grad(math.sin)(1.0), TypeError, "float: a tensor that requires a gradient would leave the graph"),
        (lambda: grad(np.sum, 5)(1.0), TypeError, "argnum 5: there are 1 positional arguments"),
        (lambda: grad(np.sum, argnum="x")(1.0), TypeError, "argnum must be an integer, got 'x'"),
    ],
)
def test_errors(call: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        call()


class Layer(NamedTuple):
    weight: Any
    bias: Any


def test_nests_of_arrays(rng: numpy.random.Generator) -> None:
    params = [Layer(rng.standard_normal((3, 4)), rng.standard_normal(4)), {"scale": 2.0, "shift": (0.5, -1)}]

    def f(params: Any, x: Any) -> Any:
        (weight, bias), last = params
        return np.sum(np.tanh(x @ weight + bias)) * last["scale"] + last["shift"][0]

    x = rng.standard_normal((5, 3))
    layer, last = grad(f)(params, x)
    slope = 1 - numpy.tanh(x @ params[0].weight + params[0].bias) ** 2
    assert isinstance(layer, Layer)
    numpy.testing.assert_allclose(layer.weight, 2 * x.T @ slope)
    numpy.testing.assert_allclose(layer.bias, 2 * slope.sum(axis=0))
    assert last["scale"] == pytest.approx(numpy.tanh(x @ params[0].weight + params[0].bias).sum())
    assert last["shift"] == (1.0, 0.0)
