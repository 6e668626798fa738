"""The checker itself: it passes what is right, and catches, locates and explains what is wrong."""

import numpy as onp
import pytest

import autograd.numpy as np
from autograd import GradientError, Primitive, Tensor, check_adjoint, check_grads, no_grad


@pytest.fixture
def make_primitive(monkeypatch):
    """Makes primitives that leave the registry again after the test."""
    monkeypatch.setattr(Primitive, "registry", dict(Primitive.registry))
    return Primitive


def test_right_derivatives_pass_to_third_order(rng):
    def f(x, y):
        return np.sin(x) * y / (1 + x * x)

    check_grads(f, [rng.normal(size=(3, 4)), rng.normal(size=4)], order=3)


@pytest.mark.parametrize("arg", [0.7, onp.float64(0.7), onp.float32(0.7), onp.array([0.7], "f4"), Tensor(0.7)])
def test_floats_arrays_and_tensors_are_checked_in_float64(arg):
    seen = set()

    def f(x):
        seen.add(x.dtype)
        return np.exp(x)

    check_grads(f, [arg], order=2)
    assert seen == {onp.dtype(onp.float64)}


def test_what_is_not_floating_is_handed_over_as_it_is():
    index = onp.array([2, 0, 2])
    check_grads(lambda x, i, axis: np.take(x, i, axis=axis) ** 2, [onp.arange(6.0).reshape(3, 2), index, 0], order=2)


def test_several_results_and_results_that_are_not_floating():
    def f(x):
        return x * x, np.argmax(x), [1.0, 2.0], np.sin(x).sum()

    check_grads(lambda x: [y for y in f(x) if not isinstance(y, list)], [onp.array([1.0, 2.0, 0.5])], order=2)


def test_constants_and_unused_arguments_have_gradient_zero():
    check_grads(lambda x, y: np.floor(x) * 3, [1.5, 2.5], order=2)
    check_grads(lambda x: onp.ones(3), [1.5])


def test_a_tensor_argument_is_neither_changed_nor_given_a_gradient():
    x = Tensor([1.0, 2.0], requires_grad=True)
    check_grads(np.square, [x], order=2)
    assert x.grad is None
    assert x.tolist() == [1.0, 2.0]


def test_checks_inside_no_grad():
    with no_grad():
        check_grads(np.exp, [0.5], order=2)
        with pytest.raises(GradientError):
            check_grads(lambda x: x * x.detach(), [0.5])


def test_a_missing_term_is_reported_with_all_that_locates_it():
    def wrong(weight, x):
        return weight * x * x.detach()

    with pytest.raises(GradientError) as caught:
        check_grads(wrong, [onp.array([1.0, 2.0]), onp.array([0.3, 0.4])], seed=5)
    message = str(caught.value)
    for part in ("wrong, order 1, argument 1 (x)", "analytic", "numeric", "difference", "seed 5", "looks smooth"):
        assert part in message
    analytic, numeric = (float(line.split()[1]) for line in message.splitlines()[1:3])
    # Only one of the two equal factors was differentiated, so that half of the slope is missing.
    assert numeric == pytest.approx(2 * analytic, rel=1e-9)


def test_one_wrong_element_of_many_is_caught(rng, make_primitive):
    def rule(g):
        return g * np.where(onp.arange(10_000) == 7_777, 1.001, 1.0)

    slightly_wrong = make_primitive(lambda x: x.copy(), name="slightly_wrong", x=rule)
    with pytest.raises(GradientError, match="slightly_wrong, order 1, argument 0"):
        check_grads(slightly_wrong, [rng.normal(size=10_000)])


def test_a_rule_that_is_right_but_whose_own_derivative_is_wrong_fails_at_order_two(make_primitive):
    leaks = make_primitive(
        lambda x: x * x, name="leaks", x=lambda g, x: g * 2 * (x.detach() if isinstance(x, Tensor) else x)
    )
    check_grads(leaks, [1.5], order=1)
    with pytest.raises(GradientError, match=r"leaks, order 2, argument 0"):
        check_grads(leaks, [1.5], order=2)


def test_a_rule_that_cuts_off_the_gradient_it_is_given_fails_at_order_two(make_primitive):
    cuts = make_primitive(lambda x: x * 3, name="cuts", x=lambda g: 3 * (g.detach() if isinstance(g, Tensor) else g))
    check_grads(cuts, [1.5], order=1)
    with pytest.raises(
        GradientError, match=r"cuts, order 2, argument 1 \(u\[0\], the gradient with respect to result 0"
    ):
        check_grads(cuts, [1.5], order=2)


def test_a_rule_that_differs_between_arrays_and_tensors_is_caught(make_primitive):
    two_faced = make_primitive(lambda x: x * 3, name="two_faced", x=lambda g: g * (4 if isinstance(g, Tensor) else 3))
    with pytest.raises(GradientError, match="create_graph=True"):
        check_grads(two_faced, [1.5])


@pytest.mark.parametrize(
    ("f", "x", "found"),
    [
        (lambda x: np.where(x < 0, 0, x), 0.0, "looks like a kink or a tie: the slope is"),
        (lambda x: np.max(x) * 1, onp.zeros(3), "looks like a kink or a tie"),
        (lambda x: np.abs(x), 3e-6, "does not settle|looks like a kink"),
        (lambda x: np.floor(x) + x, 2.0, "looks like a kink or a tie|does not settle"),
    ],
)
def test_kinks_ties_and_jumps_are_named(f, x, found):
    with pytest.raises(GradientError, match=found):
        check_grads(f, [x])


def test_a_function_that_is_not_deterministic_is_named(rng):
    with pytest.raises(GradientError, match=r"not deterministic|kink"):
        check_grads(lambda x: x * rng.normal(), [1.0])


def test_nan_never_passes():
    with pytest.raises(GradientError, match="nan"):
        check_grads(lambda x: x * onp.nan, [1.0])


def test_empty_arguments_pass():
    check_grads(lambda x: np.sum(x * x), [onp.zeros((0, 3))], order=2)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"check_grads: order must be .*1.*, got 0"):
        check_grads(np.exp, [1.0], order=0)
    with pytest.raises(TypeError, match=r"check_grads: order must be an integer, got 1\.5"):
        check_grads(np.exp, [1.0], order=1.5)
    with pytest.raises(ValueError, match=r"args must hold something floating, got \[3\]"):
        check_grads(np.exp, [3])
    with pytest.raises(ValueError, match="must return something floating"):
        check_grads(np.isnan, [1.0])
    with pytest.raises(TypeError, match="result 0 must be float64 for float64 arguments, got float32"):
        check_grads(lambda x: x.astype("f4"), [1.0])


def test_an_exception_of_the_function_comes_through():
    def fails(x):
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError, match="no"):
        check_grads(fails, [1.0])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_adjoints(dtype):
    check_adjoint(np.cumsum, lambda y: np.flip(np.cumsum(np.flip(y))), (500,), (500,), dtype=dtype)
    check_adjoint(lambda x: Tensor(x)[::2], lambda y: np.add_at(slice(None, None, 2), y, (7,)), (7,), (4,), dtype=dtype)
    with pytest.raises(GradientError, match="are not adjoint"):
        check_adjoint(np.cumsum, np.cumsum, (5,), (5,), dtype=dtype)
    with pytest.raises(GradientError, match=r"maps \(5,\) to \(5,\)"):
        check_adjoint(np.cumsum, np.cumsum, (5,), (4,), dtype=dtype)
