"""The engine's promises: what is recorded, what a sweep gives, what it refuses, and what it leaves behind.

Operations appear only as means: their own tests are in test_numpy.py.
"""

import asyncio
import contextvars
import copy
import gc
import itertools
import linecache
import math
import operator
import pickle
import re
import subprocess
import sys
import threading
import time
import weakref

import numpy as onp
import pytest

import autograd.numpy as np
from autograd import Primitive, Tensor, debug, enable_grad, grad, is_grad_enabled, no_grad
from autograd.graph import Node
from autograd.saved import writes


def leaf(data, dtype=None):
    return Tensor(data, requires_grad=True, dtype=dtype)


def line_containing(marker):
    """`file:line` of the one line of this file that ends in the comment `# marker`."""
    lines = linecache.getlines(__file__)
    (number,) = (i for i, line in enumerate(lines, 1) if line.rstrip().endswith(f"# {marker}"))
    return f"{__file__}:{number}"


@pytest.fixture
def make_primitive(monkeypatch):
    """Makes primitives that leave the registry again after the test."""
    monkeypatch.setattr(Primitive, "registry", dict(Primitive.registry))
    return Primitive


@pytest.fixture
def no_collector():
    """The garbage collector is off, so that only reference counting frees memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live(kind):
    return sum(isinstance(thing, kind) for thing in gc.get_objects())


class TestTensor:
    @pytest.mark.parametrize(
        ("data", "shape", "dtype"),
        [
            (2.5, (), "f8"),
            (3, (), "i8"),
            (True, (), "?"),
            ([1.0, 2.0], (2,), "f8"),
            (onp.float32(2), (), "f4"),
            (onp.ones((2, 3), "f4"), (2, 3), "f4"),
            (onp.ones(2, ">f8"), (2,), "f8"),
            (onp.empty((0, 3)), (0, 3), "f8"),
        ],
    )
    def test_made_from_numbers_and_arrays(self, data, shape, dtype):
        tensor = Tensor(data)
        assert tensor.shape == shape
        assert tensor.dtype == onp.dtype(dtype)
        assert tensor.dtype.isnative
        assert (tensor.ndim, tensor.size) == (len(shape), onp.prod(shape, dtype=int))
        assert not tensor.requires_grad
        assert tensor.is_leaf
        assert tensor.grad is None
        onp.testing.assert_array_equal(tensor.data, data)

    def test_an_array_is_not_copied(self):
        array = onp.zeros(3)
        assert Tensor(array).data is array

    def test_a_scalar_is_held_as_a_numpy_scalar(self):
        x = leaf(2.0)
        for scalar in (x, x * x, x + 1, np.exp(x), (leaf([1.0, 2.0]) * 2).sum(), leaf([1.0])[0]):
            assert isinstance(scalar.data, onp.float64)

    @pytest.mark.parametrize("data", ["text", 1j, None, object(), [1.0, "a"], onp.ma.masked_array([1.0], [True])])
    def test_what_is_not_real_numbers_is_refused(self, data):
        with pytest.raises(TypeError, match="Tensor: data"):
            Tensor(data)

    def test_a_tensor_of_a_tensor_is_refused(self):
        with pytest.raises(TypeError, match="data is a tensor already"):
            Tensor(Tensor(1.0))

    @pytest.mark.parametrize("data", [1, True, [1, 2]])
    def test_only_floating_tensors_require_gradients(self, data):
        with pytest.raises(TypeError, match="only floating tensors have gradients, got dtype"):
            leaf(data)

    def test_conversions(self):
        assert (float(Tensor(2.5)), int(Tensor(2.5)), bool(Tensor(0.0))) == (2.5, 2, False)

    def test_a_conversion_behind_the_users_back_is_refused(self):
        x = leaf(2.0)
        for convert in (float, int, math.sin):
            with pytest.raises(TypeError, match="leave the graph"):
                convert(x)
        for convert in (onp.zeros(2).fill, onp.float64, lambda t: operator.setitem(onp.zeros(2), 0, t)):
            with pytest.raises((TypeError, ValueError)):  # NumPy may say it in its own words
                convert(x)
        with no_grad():
            assert float(x) == x.item() == 2.0

    def test_a_tensor_passed_by_keyword_is_refused(self, make_primitive):
        f = make_primitive(lambda x, y: x * y, name="by_keyword", x=lambda g, y: g * y, y=lambda g, x: g * x)
        for call in (lambda: f(leaf(1.0), y=leaf(2.0)), lambda: f(x=leaf(1.0), y=2.0)):
            with pytest.raises(TypeError, match=r"by_keyword: the tensor . must be passed by position"):
                call()

    def test_a_rule_for_an_argument_that_does_not_exist_is_refused(self, make_primitive):
        with pytest.raises(TypeError, match="misnamed: there is a rule for yy, but no such argument"):
            make_primitive(lambda x, y: x * y, name="misnamed", x=lambda g, y: g * y, yy=lambda g, x: g * x)
        assert Tensor([[2.5]]).item() == 2.5
        assert Tensor([1.0, 2.0]).tolist() == [1.0, 2.0]
        assert len(Tensor([1.0, 2.0])) == 2
        assert [10, 20, 30][Tensor(1)] == 20
        assert f"{leaf(2.0) * 2:.2f}" == "4.00"
        onp.testing.assert_array_equal(onp.asarray(Tensor([1.0])), [1.0])
        onp.testing.assert_array_equal(Tensor([1.0]).numpy(), [1.0])

    def test_conversions_that_have_no_answer(self):
        with pytest.raises(ValueError, match=r"must have one element, got shape \(2,\)"):
            Tensor([1.0, 2.0]).item()
        with pytest.raises(TypeError, match="0-d"):
            len(Tensor(1.0))
        with pytest.raises(TypeError, match="an index must be an integer"):
            operator.index(Tensor(1.0))
        with pytest.raises(ValueError, match="ambiguous"):
            bool(Tensor([1.0, 2.0]))
        for convert in (onp.asarray, Tensor.numpy):
            with pytest.raises(TypeError, match="detach"):
                convert(leaf([1.0]))

    def test_repr_shows_values_dtype_and_place_in_the_graph(self):
        assert repr(Tensor([1.0, 2.0])) == "Tensor([1., 2.])"
        assert repr(leaf(onp.float32(1))) == "Tensor(1., dtype=float32, requires_grad=True)"
        assert re.fullmatch(r"Tensor\(\[2\.\], made by multiply\(.*\)\)", repr(leaf([1.0]) * 2))

    def test_setting_requires_grad_grad_and_data(self):
        x = Tensor([1.0, 2.0])
        assert x.requires_grad_() is x
        assert x.requires_grad
        x.grad = Tensor([3.0, 4.0])
        assert x.grad.tolist() == [3.0, 4.0]
        x.data = [5.0, 6.0]
        assert x.tolist() == [5.0, 6.0]
        for attribute in ("grad", "data"):
            with pytest.raises(ValueError, match=rf"Tensor.{attribute}: expected shape \(2,\) and dtype float64"):
                setattr(x, attribute, onp.ones(3))
        x.requires_grad = False
        assert not x.requires_grad
        with pytest.raises(ValueError, match="does not require a gradient"):
            x.grad = [1.0, 2.0]

    def test_a_result_can_neither_be_given_data_nor_stop_requiring_a_gradient(self):
        y = leaf([1.0]) * 2
        with pytest.raises(RuntimeError, match=r"Tensor.data: .*multiply.*only a leaf"):
            y.data = onp.ones(1)
        with pytest.raises(RuntimeError, match=r"requires_grad: .*multiply.*use detach"):
            y.requires_grad_(False)

    def test_tensors_are_hashable_by_identity(self):
        x, y = Tensor(1.0), Tensor(1.0)
        assert {x: 1, y: 2}[x] == 1


class TestRecording:
    def test_results_require_gradients_when_an_argument_does(self):
        x, c = leaf(2.0), Tensor(3.0)
        assert (x * c).requires_grad
        assert (c * x).requires_grad
        assert not (c * c).requires_grad
        assert not (x * c).is_leaf
        assert (c * c).is_leaf

    def test_results_that_are_not_floating_do_not_require_gradients(self):
        assert not (leaf([1.0]) > 0).requires_grad
        assert not np.argmax(leaf([1.0])).requires_grad
        assert not leaf([1.0]).astype(int).requires_grad

    @pytest.mark.parametrize("other", [1j, onp.ones(1, complex)])
    @pytest.mark.parametrize("operation", [operator.add, operator.mul, operator.pow])
    def test_complex_numbers_do_not_enter_through_operators(self, other, operation):
        for x in (leaf([1.0]), Tensor([1.0])):
            with pytest.raises(TypeError, match="complex"):
                operation(x, other)
            with pytest.raises(TypeError, match="complex"):
                operation(other, x)

    def test_no_grad_as_context_and_decorator(self):
        x = leaf(2.0)

        @no_grad()
        def double(x):
            assert not is_grad_enabled()
            return x * 2

        assert is_grad_enabled()
        with no_grad():
            assert not (x * 2).requires_grad
            with enable_grad():
                assert (x * 2).requires_grad
            assert not is_grad_enabled()
        assert not double(x).requires_grad
        assert not double(x).requires_grad, "a decorated function can be called again"
        assert enable_grad()(lambda: is_grad_enabled())()
        assert (x * 2).requires_grad

    def test_recording_is_on_again_after_an_exception(self):
        with pytest.raises(KeyError), no_grad():
            raise KeyError
        assert is_grad_enabled()

    def test_recording_is_on_again_after_a_failing_sweep(self):
        x = leaf(1.0)
        x.register_hook(lambda g: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            (x * 2).backward()
        assert is_grad_enabled()
        with pytest.raises(ZeroDivisionError), no_grad():
            x.backward(create_graph=True)
        assert is_grad_enabled()

    def test_switches_are_local_to_threads_and_tasks(self):
        found = {}

        def look(name):
            found[name] = is_grad_enabled()

        async def switched():
            with no_grad():
                await asyncio.sleep(0.01)
                look("task in no_grad")

        async def other():
            await asyncio.sleep(0.005)
            look("task beside it")

        async def both():
            await asyncio.gather(switched(), other())

        with no_grad():
            thread = threading.Thread(target=look, args=["thread"])
            thread.start()
            thread.join()
        asyncio.run(both())
        assert found == {"thread": True, "task in no_grad": False, "task beside it": True}

    def test_detach_shares_data_and_cuts_the_graph(self):
        x = leaf([1.0, 2.0])
        y = x * 3
        assert y.detach().data is y.data
        assert not y.detach().requires_grad
        (y * y.detach()).sum().backward()
        assert x.grad.tolist() == [9.0, 18.0]


class TestBackward:
    def test_scalars(self):
        x, y = leaf(3.0), leaf(4.0)
        z = x * y + x
        z.backward()
        assert (z.item(), x.grad.item(), y.grad.item()) == (15.0, 5.0, 3.0)

    def test_a_leaf_of_itself(self):
        x = leaf(3.0)
        x.backward()
        assert x.grad.item() == 1.0

    def test_a_value_used_several_times_receives_the_sum(self):
        x = leaf(2.0)
        y = x * x
        (y * y + y * x + x).backward()
        assert x.grad.item() == 4 * 2**3 + 3 * 2**2 + 1

    def test_gradients_accumulate_over_calls_until_reset(self):
        x = leaf([1.0, 2.0])
        for times in (1, 2, 3):
            (x * x).sum().backward()
            assert x.grad.tolist() == [2.0 * times, 4.0 * times]
        x.grad = None
        (x * 3).sum().backward()
        assert x.grad.tolist() == [3.0, 3.0]

    def test_accumulating_makes_a_new_gradient(self):
        x = leaf([1.0])
        (x * 2).backward()
        first = x.grad
        (x * 2).backward()
        assert first.tolist() == [2.0]

    def test_only_leaves_and_those_who_asked_keep_their_gradient(self):
        x = leaf(2.0)
        y = x * 3
        z = y * y
        y.retain_grad()
        z.backward()
        assert (x.grad.item(), y.grad.item(), z.grad) == (36.0, 12.0, None)

    def test_constants_receive_none(self):
        x, c = leaf(2.0), Tensor(3.0)
        (x * c).backward()
        assert c.grad is None

    def test_a_given_gradient_weighs_the_result(self):
        x = leaf([1.0, 2.0])
        (x * x).backward(onp.array([10.0, 1.0]))
        assert x.grad.tolist() == [20.0, 4.0]
        (x * x).backward([10.0, 1.0])
        (x * x).backward(Tensor([10.0, 1.0]))
        assert x.grad.tolist() == [60.0, 12.0]

    def test_a_gradient_is_cast_to_the_result_s_precision(self):
        x = leaf(onp.ones(2, "f4"))
        (x * 2).backward(onp.ones(2))
        assert x.grad.dtype == onp.float32

    @pytest.mark.parametrize("gradient", [onp.ones(2), onp.ones((3, 1)), 1.0, [[1.0, 1.0, 1.0]], onp.ones(0)])
    def test_a_gradient_of_another_shape_is_refused(self, gradient):
        with pytest.raises(
            ValueError, match=rf"gradient must have shape \(3,\), got {re.escape(str(onp.shape(gradient)))}"
        ):
            (leaf([1.0, 2.0, 3.0]) * 2).backward(gradient)

    @pytest.mark.parametrize("gradient", [[1, 2], [True, False]])
    def test_a_gradient_that_is_not_floating_is_refused(self, gradient):
        with pytest.raises(TypeError, match="gradient must have dtype float64, got"):
            (leaf([1.0, 2.0]) * 2).backward(gradient)

    def test_a_result_that_is_no_scalar_needs_a_gradient(self):
        with pytest.raises(ValueError, match=r"backward: a tensor of shape \(2,\) is not a scalar; pass the gradient"):
            (leaf([1.0, 2.0]) * 2).backward()
        x = leaf([[3.0]])
        (x * 2).backward()
        assert x.grad.tolist() == [[2.0]], "one element is enough of a scalar"

    def test_a_result_that_requires_no_gradient_is_refused(self):
        with pytest.raises(RuntimeError, match="backward: this tensor does not require a gradient"):
            (Tensor(2.0) * 2).backward()
        for method in (Tensor.retain_grad, lambda x: x.register_hook(print)):
            with pytest.raises(RuntimeError, match="does not require a gradient"):
                method(Tensor(2.0))

    @pytest.mark.parametrize("sweep", [lambda y, x: y.backward(), lambda y, x: grad([y], [x])])
    def test_a_second_sweep_needs_the_graph_retained(self, sweep):
        x = leaf(2.0)
        y = np.exp(x)
        y.backward()
        with pytest.raises(RuntimeError, match=r"backward: what exp\(.*\) kept was freed.*retain_graph=True"):
            sweep(y, x)
        y = np.exp(x)
        x.grad = None
        y.backward(retain_graph=True)
        y.backward()
        assert x.grad.item() == pytest.approx(2 * onp.exp(2.0))

    def test_a_shared_part_that_was_freed_is_named(self):
        x = leaf(2.0)
        shared = np.sin(x)
        (shared * 2).backward()
        with pytest.raises(RuntimeError, match=r"what sin\("):
            (shared * 3).backward()

    def test_float32_stays_float32(self):
        x = leaf(onp.ones(3, "f4"))
        y = ((2.0 * x + 1) ** 2 / 3 - x * onp.float32(2)).mean() * 1.5
        assert y.dtype == onp.float32
        y.backward()
        assert x.grad.dtype == onp.float32
        (g,) = grad([(x * x * 3.0).sum()], [x], create_graph=True)
        assert g.dtype == onp.float32

    def test_mixed_precision_gives_each_leaf_its_own(self):
        a, b = leaf(onp.ones(3, "f4")), leaf(onp.ones(3, "f8"))
        (a * b).sum().backward()
        assert (a.grad.dtype, b.grad.dtype) == (onp.float32, onp.float64)

    @pytest.mark.parametrize("create_graph", [False, True])
    @pytest.mark.parametrize(
        "f",
        [
            lambda a, b: a + b,
            lambda a, b: a.reshape(3, 1).reshape(3) + b[::-1],
            lambda a, b: np.concatenate([a, b])[1:4],
            lambda a, b: np.stack([a, b]).sum() + a,
            lambda a, b: np.where(onp.array([True, False, True]), a, b),
            lambda a, b: +a + +b,
        ],
    )
    def test_gradients_share_memory_with_nothing(self, f, create_graph):
        a, b = leaf([1.0, 2.0, 3.0]), leaf([4.0, 5.0, 6.0])
        seed = Tensor([1.0, 2.0, 3.0])
        f(a, b).backward(seed, create_graph=create_graph)
        arrays = [a.data, b.data, seed.data, a.grad.data, b.grad.data]
        for one, other in itertools.combinations(arrays, 2):
            assert not onp.shares_memory(one, other)
        assert a.grad is not b.grad
        with no_grad():
            a.grad *= 0
            b.grad[...] = 7
        assert seed.tolist() == [1.0, 2.0, 3.0]
        assert (a.grad.tolist(), b.grad.tolist()) == ([0.0] * 3, [7.0] * 3)

    def test_a_leaf_of_itself_does_not_take_over_the_given_gradient(self):
        x, seed = leaf([1.0, 2.0]), onp.array([3.0, 4.0])
        x.backward(seed)
        assert not onp.shares_memory(x.grad.data, seed)


class TestGrad:
    def test_gradients_of_leaves_and_of_results_without_touching_grad(self):
        x = leaf(2.0)
        y = x * x
        z = y * 3
        gx, gy = grad([z], [x, y])
        assert (gx.item(), gy.item(), x.grad) == (12.0, 3.0, None)

    def test_several_outputs_are_summed_with_their_weights(self):
        x = leaf(2.0)
        (g,) = grad([x * x, x * 3, x], [x], [1.0, 10.0, 100.0])
        assert g.item() == 4.0 + 30.0 + 100.0

    def test_the_same_output_and_the_same_input_twice(self):
        x = leaf(2.0)
        y = x * x
        first, second = grad([y, y], [x, x])
        assert (first.item(), second.item()) == (8.0, 8.0)

    def test_only_what_leads_to_an_input_is_swept(self):
        x, w = leaf(2.0), leaf(3.0)
        called = []
        beside = w * 5
        beside.register_hook(called.append)
        grad([x * beside], [x])
        assert not called

    def test_an_unused_input_is_refused_or_none(self):
        x, unused = leaf(2.0), leaf(3.0)
        with pytest.raises(ValueError, match=r"no output depends on input 1, leaf.*allow_unused"):
            grad([x * 2], [x, unused])
        assert grad([x * 2], [unused, x], allow_unused=True)[0] is None

    def test_numbers_of_outputs_and_gradients_must_agree(self):
        x = leaf(2.0)
        with pytest.raises(ValueError, match="1 outputs, but 2 gradients"):
            grad([x * 2], [x], [1.0, 1.0])

    def test_an_input_that_requires_no_gradient_is_refused(self):
        with pytest.raises(RuntimeError, match="grad: this tensor does not require a gradient"):
            grad([leaf(2.0) * 2], [Tensor(1.0)])

    def test_derivatives_of_derivatives(self):
        x = leaf(2.0)
        y = x**6
        expected = 2.0**6
        for order in range(1, 7):
            (y,) = grad([y], [x], create_graph=True)
            expected *= (7 - order) / 2
            assert y.item() == pytest.approx(expected, rel=1e-14)

    def test_mixed_derivatives_of_arrays(self, rng):
        x, y = leaf(rng.normal(size=(2, 3))), leaf(rng.normal(size=3))
        (gx,) = grad([(np.sin(x) * np.exp(y)).sum()], [x], create_graph=True)
        (gxy,) = grad([gx.sum()], [y], create_graph=True)
        onp.testing.assert_allclose(gxy.data, (onp.cos(x.data) * onp.exp(y.data)).sum(0), rtol=1e-14)
        (gxyx,) = grad([(gxy * y).sum()], [x])
        onp.testing.assert_allclose(gxyx.data, -onp.sin(x.data) * onp.exp(y.data) * y.data, rtol=1e-14)

    def test_backward_of_a_gradient_reaches_the_leaves(self):
        x = leaf(3.0)
        (x**3).backward(create_graph=True)
        assert x.grad.requires_grad
        first, x.grad = x.grad, None
        first.backward()
        assert x.grad.item() == 18.0

    def test_a_gradient_is_not_recorded_unless_asked(self):
        x = leaf(3.0)
        (g,) = grad([x**3], [x])
        assert not g.requires_grad

    def test_create_graph_records_also_within_no_grad(self):
        x = leaf(3.0)
        y = x**3
        with no_grad():
            (g,) = grad([y], [x], create_graph=True)
        assert grad([g], [x])[0].item() == 18.0

    def test_single_tensors_need_no_list(self):
        x = leaf([1.0, 2.0])
        (g,) = grad(x * x, x, onp.array([1.0, 10.0]))
        assert g.tolist() == [2.0, 40.0]

    @pytest.mark.parametrize("wrong", [3.0, [1.0], "x", None, onp.ones(2)])
    def test_what_is_no_tensor_is_refused_by_name(self, wrong):
        x = leaf(2.0)
        for outputs, inputs, argument in ((wrong, x, "outputs"), (x * x, wrong, "inputs")):
            with pytest.raises(TypeError, match=f"grad: {argument} must be a tensor or a sequence of tensors"):
                grad(outputs, inputs)


class TestHooks:
    def test_a_hook_sees_the_complete_gradient_once(self):
        x = leaf([2.0])
        y = x * 3
        seen = []
        y.register_hook(lambda g: seen.append(g.tolist()))
        (y * y + y).backward()
        assert seen == [[13.0]]

    def test_what_a_hook_returns_replaces_the_gradient(self):
        x = leaf([2.0])
        y = x * 3
        y.register_hook(lambda g: g * 10)
        x.register_hook(lambda g: onp.array([g.item() + 1]))
        y.backward([1.0])
        assert x.grad.tolist() == [31.0]

    def test_hooks_run_in_order_and_each_of_them(self):
        x = leaf(1.0)
        seen = []
        for i in range(100):
            x.register_hook(lambda g, i=i: seen.append(i))
        (x * 2).backward()
        assert seen == list(range(100))

    def test_a_removed_hook_is_not_called(self):
        x = leaf(1.0)
        seen = []
        handle = x.register_hook(seen.append)
        handle.remove()
        handle.remove()
        (x * 2).backward()
        assert not seen

    def test_a_hook_may_remove_itself(self):
        x = leaf(1.0)
        seen = []

        def once(g):
            seen.append(g)
            handle.remove()

        handle = x.register_hook(once)
        x.register_hook(lambda g: g * 5)
        (x * 2).backward()
        (x * 2).backward()
        assert len(seen) == 1
        assert x.grad.item() == 20.0

    def test_a_hook_that_raises_leaves_every_gradient_as_it_was(self):
        x, y, z = leaf(1.0), leaf(2.0), leaf(3.0)
        y.grad = 7.0
        x.register_hook(lambda g: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            (x * y * z).backward()
        assert (x.grad, y.grad.item(), z.grad) == (None, 7.0, None)

    @pytest.mark.parametrize("wrong", [onp.ones(3), onp.ones(2, "f4"), 1.0, onp.ones(2, int)])
    def test_a_hook_must_keep_shape_and_dtype(self, wrong):
        x = leaf([1.0, 2.0])
        x.register_hook(lambda g: wrong)
        with pytest.raises(ValueError, match=r"a hook must return shape \(2,\) and dtype float64, got"):
            (x * 2).sum().backward()
        assert x.grad is None

    def test_a_hook_must_be_callable(self):
        with pytest.raises(TypeError, match="hook must be callable, got 3"):
            leaf(1.0).register_hook(3)

    def test_a_hook_s_result_can_be_differentiated(self):
        x = leaf(2.0)
        y = x * x
        handle = y.register_hook(lambda g: g * g * 3)
        (g,) = grad([y * x], [x], create_graph=True)  # 3 x**2 * 2 x + x**2
        assert g.item() == 6 * 8 + 4
        handle.remove()
        assert grad([g], [x])[0].item() == 18 * 4 + 4

    def test_a_gradient_that_a_hook_keeps_is_safe_from_later_writes(self):
        x, y = leaf([1.0]), leaf([2.0])
        kept = []
        for tensor in (x, y):
            tensor.register_hook(kept.append)
        (x + y).backward([3.0])
        x.grad[...] = 0
        assert y.grad.tolist() == [3.0]


class TestSize:
    def test_a_chain_of_a_million_nodes(self):
        x = leaf(1.0)
        y = x
        for _ in range(1_000_000):
            y = y * 1.0
        y.backward()
        assert x.grad.item() == 1.0
        del y

    def test_a_chain_of_a_million_nodes_is_freed_without_a_sweep(self, no_collector):
        x = leaf(1.0)
        before = live(Node)
        y = x
        for _ in range(1_000_000):
            y = y + 1.0
        start = time.perf_counter()
        del y
        assert time.perf_counter() - start < 5
        assert live(Node) == before

    def test_a_long_chain_with_create_graph(self):
        x = leaf(1.0)
        y = x
        for _ in range(20_000):
            y = y * x
        (g,) = grad([y], [x], create_graph=True)
        assert g.item() == 20_001.0
        assert grad([g], [x])[0].item() == 20_001.0 * 20_000

    def test_a_hundred_thousand_uses_of_one_value(self):
        x = leaf(1.0)
        total = Tensor(0.0)
        for _ in range(100_000):
            total = total + x
        total.backward()
        assert x.grad.item() == 100_000.0

    def test_an_operation_with_a_hundred_thousand_arguments(self):
        x = leaf(2.0)
        np.stack([x] * 100_000).sum().backward()
        assert x.grad.item() == 100_000.0

    def test_shared_values_do_not_multiply_the_work(self):
        x = leaf(1.0)
        y = x
        for _ in range(1000):  # as many paths as 2**1000, but only 1000 nodes
            y = (y + y) * 0.5
        y.backward()
        assert x.grad.item() == 1.0


class TestMemory:
    @pytest.fixture(autouse=True)
    def _without_collector(self, no_collector):
        pass

    def test_intermediate_arrays_are_freed_when_the_result_is(self):
        x = leaf(onp.ones(10))
        y = np.exp(x)
        array = weakref.ref(y.data)
        z = (y * 2).sum()
        del y
        assert array() is not None, "exp's rule needs its result"
        del z
        assert array() is None

    def test_what_no_rule_names_is_not_kept(self):
        x = leaf(onp.ones(10))
        y = x + 1
        array = weakref.ref(y.data)
        z = (y + 1).sum()
        del y
        assert array() is None
        assert z.item() == 30.0

    def test_what_only_a_constant_s_rule_would_need_is_not_kept(self):
        x, c = leaf(onp.ones(10)), Tensor(onp.ones(10))
        y = x * 2
        array = weakref.ref(y.data)
        z = y * c
        del y
        assert array() is None, "only the constant's gradient would need y"
        assert z.requires_grad

    def test_backward_frees_what_was_kept(self):
        x = leaf(onp.ones(10))
        y = np.exp(x)
        array = weakref.ref(y.data)
        z = y.sum()
        del y
        z.backward()
        assert array() is None

    @pytest.mark.parametrize(
        "use",
        [
            lambda x: (np.sin(x) * x).sum().backward(),
            lambda x: (np.sin(x) * x).sum(),
            lambda x: grad([grad([(x**3).sum()], [x], create_graph=True)[0].sum()], [x]),
            lambda x: np.concatenate([x, x[1:]]).sum().backward(retain_graph=True),
            lambda x: (x * 2).register_hook(lambda g: None),
            lambda x: refused((x * x).backward, ValueError),
            lambda x: (x @ x).detach(),
            lambda x: refused(with_failing_hook(x).backward, ZeroDivisionError),
        ],
    )
    def test_reference_counting_alone_frees_every_graph(self, use):
        x = leaf([1.0, 2.0, 3.0])
        use(x)
        x.grad = None
        before = live((Node, Tensor))
        for _ in range(3):
            use(x)
            x.grad = None
        assert live((Node, Tensor)) == before

    def test_a_recorded_gradient_is_freed_when_the_leaf_lets_go_of_it(self):
        x = leaf([1.0, 2.0])
        before = live((Node, Tensor))
        (x**3).sum().backward(create_graph=True)
        assert x.grad.requires_grad
        x.grad = None
        assert live((Node, Tensor)) == before

    def test_training_does_not_grow(self):
        w = leaf(onp.ones((3, 3)))

        def step():
            np.tanh(w @ w).sum().backward()
            with no_grad():
                w.__isub__(w.grad * 0.1)
            w.grad = None

        step()
        before = live(object)
        for _ in range(50):
            step()
        assert live(object) <= before + 5, "a few objects may come and go with the test runner"


def refused(function, error):
    with pytest.raises(error):
        function()


def with_failing_hook(x):
    y = np.exp(x)
    y.register_hook(lambda g: 1 / 0)
    return y.sum()


class TestChangedArrays:
    def test_a_write_through_the_tensor_interface_is_detected(self):
        x = leaf([1.0, 2.0])
        y = x * 1
        z = np.square(y)
        with no_grad():
            y += 1  # the write
        with pytest.raises(RuntimeError, match=r"an array that square\(") as caught:
            z.sum().backward()
        assert line_containing("the write") in str(caught.value)
        assert "autograd.debug()" in str(caught.value)
        assert x.grad is None

    def test_debug_mode_names_both_lines(self):
        with debug():
            x = leaf([1.0, 2.0])
            z = np.square(x)  # the forward line
            with no_grad():
                x[0] = 5.0  # the other write
        with pytest.raises(RuntimeError, match="changed in place") as caught:
            z.sum().backward()
        assert line_containing("the forward line") in str(caught.value)
        assert line_containing("the other write") in str(caught.value)

    @pytest.mark.parametrize(
        "write",
        [
            lambda x: operator.iadd(x, 1),
            lambda x: operator.imul(x, 2),
            lambda x: operator.setitem(x, 0, 9.0),
            lambda x: operator.setitem(x, onp.array([True, False]), 9.0),
            lambda x: operator.iadd(x[1:], 1),
            lambda x: operator.iadd(x.detach(), 1),
            lambda x: operator.setitem(x.reshape(2, 1), (0, 0), 9.0),
        ],
    )
    def test_every_way_to_write_is_detected(self, write):
        x = leaf([1.0, 2.0])
        y = np.square(x).sum()
        with no_grad():
            write(x)
        with pytest.raises(RuntimeError, match=r"square\(.*changed in place"):
            y.backward()

    @pytest.mark.parametrize(
        "view",
        [
            pytest.param(lambda y: y.reshape(2, 3), id="reshape"),
            pytest.param(lambda y: y.reshape(2, 3).T, id="transpose"),
            pytest.param(lambda y: np.flip(y), id="flip"),
            pytest.param(lambda y: y[None].squeeze(), id="squeeze"),
            pytest.param(lambda y: np.broadcast_to(y, (2, 6)), id="broadcast_to"),
            pytest.param(lambda y: np.einsum("i->i", y), id="einsum"),
            pytest.param(lambda y: np.sliding_window_view(y, 2), id="windows"),
        ],
    )
    def test_a_write_is_detected_through_every_kind_of_view(self, view):
        y = leaf(onp.arange(6.0)) * 1
        seen = view(y)
        assert onp.shares_memory(seen.data, y.data)
        z = np.square(seen).sum()
        with no_grad():
            y += 1
        with pytest.raises(RuntimeError, match="changed in place"):
            z.backward()

    def test_a_raw_write_is_detected_in_debug_mode(self):
        with debug():
            x = leaf([1.0, 2.0])
            y = np.square(x)
        x.data[0] = 5.0
        with pytest.raises(RuntimeError, match=r"square\(.*changed in place past the Tensor interface"):
            y.sum().backward()

    def test_a_write_to_what_no_rule_needs_is_no_error(self):
        x = leaf([1.0, 2.0])
        y = x + 1
        z = y * 3
        with no_grad():
            y += 1
        z.sum().backward()
        assert x.grad.tolist() == [3.0, 3.0]

    def test_a_write_before_the_use_is_no_error(self):
        x = leaf([1.0, 2.0])
        with no_grad():
            x += 1
        np.square(x).sum().backward()
        assert x.grad.tolist() == [4.0, 6.0]

    def test_a_scalar_that_was_kept_is_not_changed_by_an_in_place_operator(self):
        x = leaf(3.0)
        y = x * x
        with no_grad():
            x += 1
        y.backward()
        assert (x.item(), x.grad.item()) == (4.0, 6.0)

    def test_a_leaf_is_not_changed_in_place_while_recording(self):
        x = leaf([1.0])
        with pytest.raises(RuntimeError, match="iadd: a leaf that requires a gradient cannot be changed in place"):
            x += 1
        with pytest.raises(RuntimeError, match="a leaf that requires a gradient cannot be changed in place"):
            x[0] = 1.0
        with pytest.raises(RuntimeError, match="an assignment cannot be recorded"):
            (leaf([1.0]) * 2)[0] = 1.0

    def test_an_in_place_operator_on_a_result_makes_a_new_result(self):
        x = leaf([1.0, 2.0])
        y = x * 3
        alias = y
        y *= y
        assert alias.tolist() == [3.0, 6.0]
        y.sum().backward()
        assert x.grad.tolist() == [18.0, 36.0]

    def test_parameters_can_be_updated_in_place_between_steps(self):
        w = leaf([1.0, -2.0])
        memory = w.data
        expected = onp.array([1.0, -2.0])
        for _ in range(3):
            w.grad = None
            (w * w * w).sum().backward()
            with no_grad():
                w -= 0.1 * w.grad
            expected = expected - 0.1 * 3 * expected**2
            onp.testing.assert_allclose(w.data, expected, rtol=1e-14)
        assert w.data is memory
        assert w.is_leaf
        assert w.requires_grad

    def test_the_table_of_writes_does_not_outlive_the_arrays(self):
        before = len(writes)
        for _ in range(100):
            x = Tensor(onp.zeros(3))
            x += 1
        del x
        assert len(writes) == before


class TestErrors:
    def test_a_failing_rule_is_named_with_shapes(self, make_primitive):
        def rule(g):
            raise ZeroDivisionError("inside the rule")

        fails = make_primitive(lambda x: x[:2], name="fails", x=rule)
        x, other = leaf([1.0, 2.0, 3.0]), leaf([1.0, 2.0])
        with pytest.raises(ZeroDivisionError, match="inside the rule") as caught:
            (fails(x) * other).sum().backward()
        (note,) = caught.value.__notes__
        assert "fails(shape=(2,), dtype=float64)" in note
        assert "leaf(shape=(3,), dtype=float64)" in note
        assert other.grad is None

    def test_debug_mode_names_the_line_of_a_failing_rule(self, make_primitive):
        fails = make_primitive(lambda x: x * 1, name="fails", x=lambda g: 1 / 0)
        with debug():
            y = fails(leaf(2.0))  # the failing call
        with pytest.raises(ZeroDivisionError) as caught:
            y.backward()
        assert line_containing("the failing call") in caught.value.__notes__[0]

    def test_a_rule_that_returns_a_wrong_shape_is_named(self, make_primitive):
        wrong = make_primitive(lambda x: x * 1, name="wrong_shape", x=lambda g: g[:1])
        with pytest.raises(ValueError, match=r"wrong_shape: a rule returned shape \(1,\) for leaf\(shape=\(2,\)"):
            wrong(leaf([1.0, 2.0])).sum().backward()

    def test_a_rule_that_names_what_cannot_be_kept_is_a_type_error(self, make_primitive):
        wrong = make_primitive(lambda x: x * 1, name="wrong_name", x=lambda g, y: g * y)
        with pytest.raises(TypeError, match="wrong_name: the rule for x names 'y'"):
            wrong(leaf(1.0))

    def test_debug_mode_names_the_line_of_a_freed_operation(self):
        with debug():
            y = np.exp(leaf(2.0))  # the freed call
        y.backward()
        with pytest.raises(RuntimeError) as caught:
            y.backward()
        assert line_containing("the freed call") in str(caught.value)


class TestPrimitive:
    def test_a_new_primitive_works_to_every_order(self, make_primitive):
        cube = make_primitive(lambda x: x**3, name="cube", x=lambda g, x: 3 * g * x * x)
        x = leaf(2.0)
        (first,) = grad([cube(x)], [x], create_graph=True)
        (second,) = grad([first], [x], create_graph=True)
        assert (cube(2.0), first.item(), second.item()) == (8.0, 12.0, 12.0)

    def test_rules_can_name_metadata_shapes_results_and_residuals(self, make_primitive):
        seen = []

        def rule(g, x, ans, x_shape, residual, factor, offset):
            seen.append((type(x), ans, x_shape, residual, factor, offset))
            return g * factor

        def forward(x, *, factor, offset=1):
            return x * factor + offset, "by-product"

        scale = make_primitive(forward, name="scale", has_residual=True, x=rule)
        x = leaf([1.0, 2.0])
        y = scale(x, factor=3)
        y.sum().backward()
        ((kind, ans, *rest),) = seen
        assert kind is onp.ndarray
        assert ans.tolist() == [4.0, 7.0]
        assert rest == [(2,), "by-product", 3, 1]
        assert x.grad.tolist() == [3.0, 3.0]

    def test_rules_of_variadic_primitives_know_their_position(self, make_primitive):
        def rule(g, position):
            return g * (position + 1)

        total = make_primitive(lambda *xs: sum(xs), name="total", xs=rule)
        a, b, c = leaf(1.0), Tensor(1.0), leaf(1.0)
        total(a, b, c).backward()
        assert (a.grad.item(), c.grad.item()) == (1.0, 3.0)

    def test_plans_of_many_argument_counts_do_not_pile_up(self):
        import tracemalloc

        x = leaf([1.0])
        np.concatenate([x] * 3)
        tracemalloc.start()
        try:
            for n in range(200):
                np.concatenate([x] * (n + 1))
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 2_000_000


class TestInterrupts:
    """Backward is all or nothing: an interrupt anywhere leaves every `grad` old, or every one new."""

    @staticmethod
    def graph():
        leaves = [leaf(onp.full(3, i + 1.0)) for i in range(4)]
        for i, x in enumerate(leaves[:2]):
            x.grad = onp.full(3, -1.0 - i)
        a, b, c, d = leaves
        return leaves, ((a * b + np.sin(c)) * d[::-1]).sum()

    @staticmethod
    def state(leaves):
        return [None if x.grad is None else x.grad.tolist() for x in leaves]

    def test_an_interrupt_before_any_bytecode(self):
        leaves, y = self.graph()
        old = self.state(leaves)
        y.backward()
        new = self.state(leaves)
        outer = sys.gettrace()

        def finishes_before(target):
            """Sweeps a fresh graph, raising before the target-th bytecode; whether the sweep ended before that."""
            leaves, y = self.graph()
            count = 0

            def trace(frame, event, argument):
                nonlocal count
                frame.f_trace_opcodes = True
                if event == "opcode":
                    count += 1
                    if count == target:
                        raise KeyboardInterrupt
                return trace

            finished = False
            sys.settrace(trace)
            try:
                y.backward()
                finished = True
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(outer)
            assert self.state(leaves) in (old, new), f"partial at bytecode {target}"
            return finished

        # An interrupt in a `finally` would leave the switch off, so that each sweep gets a context of its own.
        swept = (target for target in itertools.count(1) if contextvars.copy_context().run(finishes_before, target))
        gc.disable()  # or callbacks of the collector would be traced, too, wherever it happens to run
        try:
            assert next(swept) > 300, "the trace has to see the sweep"
        finally:
            gc.enable()

    def test_interrupts_from_a_timer(self):
        """As Ctrl-C arrives: in a process of its own, so that it cannot hit the test runner."""
        script = """
import signal, time
import numpy as np
from autograd import Tensor, is_grad_enabled

def interrupt(*_):
    raise KeyboardInterrupt

def graph():
    y = Tensor(np.ones(1))
    for w in weights:
        w.grad = None
        y = y * w
    return y

weights = [Tensor(np.ones(1), requires_grad=True) for _ in range(2000)]
y = graph()
start = time.perf_counter()
y.backward()
duration = time.perf_counter() - start
signal.signal(signal.SIGALRM, interrupt)
rng = np.random.default_rng(0)
caught = partial = switched_off = 0
for _ in range(200):
    y = graph()
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.1, 1) * duration)
        y.backward()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        caught += 1
    partial += len({w.grad is None for w in weights}) != 1
    if not is_grad_enabled():
        switched_off += 1
        break
print(caught, partial, switched_off)
"""
        result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
        assert not result.stderr
        caught, partial, switched_off = map(int, result.stdout.split())
        assert (partial, switched_off) == (0, 0)
        assert caught >= 10


class TestCopies:
    @pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    def test_leaves_are_copied_with_their_gradients(self, duplicate):
        x = leaf(onp.array([1.0, 2.0], "f4"))
        (x * 3).sum().backward()
        y = duplicate(x)
        assert (y.tolist(), y.grad.tolist(), y.dtype) == ([1.0, 2.0], [3.0, 3.0], onp.float32)
        assert y.requires_grad
        assert not onp.shares_memory(x.data, y.data)
        (y * y).sum().backward()
        assert (x.grad.tolist(), y.grad.tolist()) == ([3.0, 3.0], [5.0, 7.0])
        assert not duplicate(Tensor(1.0)).requires_grad

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
    def test_results_are_not_copied(self, duplicate):
        y = leaf(1.0)
        for _ in range(10_000):
            y = y * 1.0
        with pytest.raises(TypeError, match=r"made by multiply\(.*cannot be copied or pickled; detach\(\) it first"):
            duplicate(y)


class TestThreads:
    def test_separate_graphs_in_separate_threads(self):
        def work(seed, results):
            rng = onp.random.default_rng(seed)
            w = leaf(rng.normal(size=(4, 4)))
            for _ in range(100):
                np.tanh(w @ w + 1).sum().backward()
                with no_grad():
                    w -= 0.01 * w.grad
            results[seed] = (w.tolist(), w.grad.tolist())

        alone, together = {}, {}
        for seed in range(4):
            work(seed, alone)
        threads = [threading.Thread(target=work, args=(seed, together)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert together == alone

    def test_one_graph_can_be_read_by_several_threads(self, rng):
        x = leaf(rng.normal(size=(30, 30)))
        y = x
        for _ in range(30):
            y = np.tanh(y @ x)
        y = y.sum()
        (expected,) = grad(y, x, retain_graph=True)
        found = []
        threads = [threading.Thread(target=lambda: found.extend(grad(y, x, retain_graph=True))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [g.tolist() for g in found] == [expected.tolist()] * 4

    def test_a_graph_made_in_one_thread_can_be_swept_in_another(self):
        x = leaf(3.0)
        y = x * x
        thread = threading.Thread(target=y.backward)
        thread.start()
        thread.join()
        assert x.grad.item() == 6.0
