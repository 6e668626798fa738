"""The lens on one gradient: where its terms come from, what it equals, and how it travels.

Sums and identities hold in float64 on layers of every awkward geometry, and in float32; a model whose gradient is not
what the view would show gets an exception instead of the view.
"""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest

import autograd.numpy as anp
from autograd import Primitive, Tensor, lens, nn
from autograd import functional as F

CONV_CASES = [case for case in cases.CONV_CASES if min(case.x_shape) and min(case.weight_shape)]
each_geometry = pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.id)
each_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])


def layer_of(case: cases.ConvCase, dtype: Any = np.float64, padding_mode: str = "zeros") -> nn.Conv2d:
    o, c, *kernel = case.weight_shape
    return nn.Conv2d(
        c * case.groups,
        o,
        tuple(kernel),
        case.stride,
        case.padding,
        case.dilation,
        case.groups,
        padding_mode=padding_mode,
        dtype=dtype,
        rng=1,
    )


def images_of(case: cases.ConvCase, dtype: Any = np.float64) -> Any:
    return np.random.default_rng(2).normal(size=case.x_shape).astype(dtype)


def wavy(layer: Any, x: Any) -> Any:
    """A loss whose gradient is different at every output."""
    return lambda: anp.sum(anp.sin(3 * layer(x)))


class Small(nn.Module):
    """A network with what a user may put between two convolutions."""

    def __init__(self, activation: nn.Module | None = None, dtype: Any = np.float64, rng: int = 0) -> None:
        numbers = np.random.default_rng(rng)
        self.conv = nn.Conv2d(2, 4, 3, padding=1, dtype=dtype, rng=numbers)
        self.norm = nn.BatchNorm2d(4, dtype=dtype)
        self.act = activation or nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(4, 3, 3, stride=2, dtype=dtype, rng=numbers)
        self.dense = nn.Linear(12, 5, dtype=dtype, rng=numbers)

    def forward(self, x: Any) -> Any:
        x = self.pool(self.act(self.norm(self.conv(x))))
        return self.dense(F.flatten(self.second(x), 1))


@pytest.fixture
def small() -> Small:
    return Small()


X = np.random.default_rng(3).normal(size=(6, 2, 12, 12))
Y = np.arange(6) % 5


def loss_of(model: nn.Module, dtype: Any = np.float64) -> Any:
    return lambda: F.cross_entropy(model(X.astype(dtype)), Y)


class TestTapLedger:
    @each_dtype
    @each_geometry
    def test_the_terms_are_those_of_the_formula_and_sum_to_the_gradient(self, case: Any, dtype: Any) -> None:
        layer, x = layer_of(case, dtype), images_of(case, dtype)
        rng = np.random.default_rng(5)
        weight = tuple(int(rng.integers(size)) for size in case.weight_shape)
        ledger = lens.tap_ledger(wavy(layer, x), layer, weight)
        taps = np.ndindex(case.weight_shape[2:])

        wavy(layer, x)().backward()
        assert ledger.gradient == layer.weight.grad.data[weight]
        assert ledger.total == pytest.approx(ledger.gradient, rel=0, abs=ledger.tolerance)
        every = [np.abs(lens.tap_ledger(wavy(layer, x), layer, (*weight[:2], *tap)).term).sum() for tap in taps]
        assert ledger.tolerance == pytest.approx(16 * np.finfo(dtype).eps * max(every), rel=1e-4)
        assert (np.diff(np.abs(ledger.term)) <= 0).all()
        y = layer(x)
        assert len(ledger.term) + ledger.padded == len(y) * y.shape[2] * y.shape[3]
        o, c, u, v = weight
        channel = o // (layer.out_channels // case.groups) * layer.weight.shape[1] + c
        g = 3 * np.cos(3 * y.data)
        np.testing.assert_allclose(
            ledger.upstream, g[ledger.image, o, ledger.row, ledger.column], rtol=8 * np.finfo(dtype).eps, atol=0
        )
        np.testing.assert_array_equal(ledger.pixel, x[ledger.image, channel, ledger.pixel_row, ledger.pixel_column])
        if len(ledger.patches):
            np.testing.assert_array_equal(ledger.patches[:, c, u, v], ledger.pixel[: len(ledger.patches)])

    def test_patches_are_what_the_filter_multiplies(self, small: Small) -> None:
        ledger = lens.tap_ledger(loss_of(small), small.conv, (1, 0, 2, 1), top=10**6)
        outputs = small.conv(X).data[ledger.image, 1, ledger.row, ledger.column]
        expected = np.einsum("kcuv,cuv->k", ledger.patches, small.conv.weight.data[1]) + small.conv.bias.data[1]
        np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
    def test_a_continued_border_counts_the_pixels_that_continue_it(self, mode: str) -> None:
        case = cases.ConvCase("border", (2, 3, 6, 5), (4, 3, 3, 3), padding=2)
        layer, x = layer_of(case, padding_mode=mode), images_of(case)
        ledger = lens.tap_ledger(wavy(layer, x), layer, (3, 2, 0, 0))
        assert ledger.padded == 0
        assert len(ledger.term) == 2 * 8 * 7

    def test_a_weight_that_acts_elsewhere_too_is_refused(self, small: Small) -> None:
        def loss() -> Any:
            return loss_of(small)() + (small.conv.weight**2).sum()

        with pytest.raises(lens.LensError, match=r"tap_ledger: the terms of weight\[0, 0, 0, 0\] add up to the grad"):
            lens.tap_ledger(loss, small.conv, (0, 0, 0, 0))

    def test_gradients_of_the_model_are_left_alone(self, small: Small) -> None:
        lens.tap_ledger(loss_of(small), small.conv, (0, 0, 0, 0))
        assert all(p.grad is None for p in small.parameters())
        assert not small.conv._forward_hooks

    def test_bad_arguments(self, small: Small) -> None:
        loss = loss_of(small)
        with pytest.raises(TypeError, match="tap_ledger: layer must be a Conv2d, got a Linear"):
            lens.tap_ledger(loss, small.dense, (0, 0))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"tap_ledger: weight must be an index into shape \(4, 2, 3, 3\), got \(4"):
            lens.tap_ledger(loss, small.conv, (4, 0, 0, 0))
        with pytest.raises(TypeError, match="tap_ledger: weight must be 4 integers"):
            lens.tap_ledger(loss, small.conv, (1, 2))
        with pytest.raises(ValueError, match=r"loss\(\) must run Conv2d\(2, 4.*once, it ran it 0 times"):
            lens.tap_ledger(loss, Small().conv, (0, 0, 0, 0))
        with pytest.raises(ValueError, match=r"loss\(\) must return one number .*got Tensor"):
            lens.tap_ledger(lambda: small(X), small.conv, (0, 0, 0, 0))
        with pytest.raises(TypeError, match=r"loss\(\) must return a tensor, got a float"):
            lens.tap_ledger(lambda: loss().item(), small.conv, (0, 0, 0, 0))
        small.conv.weight.requires_grad_(False)
        with pytest.raises(ValueError, match="tap_ledger: weight does not require a gradient; is it frozen"):
            lens.tap_ledger(loss, small.conv, (0, 0, 0, 0))
        with pytest.raises(ValueError, match="convolutions: the model has no Conv2d, got Sequential"):
            lens.convolutions(nn.Sequential(nn.Linear(1, 2)))
        assert lens.convolutions(small) == {"conv": small.conv, "second": small.second}


class TestDenseTie:
    @each_dtype
    @each_geometry
    def test_the_dense_gradient_summed_over_ties_is_the_filter_gradient(self, case: Any, dtype: Any) -> None:
        layer, x = layer_of(case, dtype), images_of(case, dtype)[:, :, :12, :12]
        if layer(x).size * x[0].size > 10**6:
            x = x[:, :, :8, :8]
        tie = lens.dense_tie(layer, x)
        n = len(x)
        assert tie.matrix.shape == tie.ties.shape == (tie.output_conv[0].size, x[0].size)
        used = tie.ties >= 0
        assert not tie.matrix[~used].any()
        np.testing.assert_array_equal(tie.matrix[used], layer.weight.data.reshape(-1)[tie.ties[used]])
        assert (tie.connections, tie.weights) == (used.sum(), layer.weight.size)
        y = x.reshape(n, -1) @ tie.matrix.T + np.repeat(layer.bias.data, tie.output_conv[0, 0].size)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(layer(x).data.reshape(n, -1), y, rtol=0, atol=50 * eps)

        upstream = np.random.default_rng(0).normal(size=tie.output_conv.shape).astype(dtype).reshape(n, -1)
        expected = np.zeros(layer.weight.size)
        every = np.einsum("nr,nc->rc", upstream.astype(np.float64), x.reshape(n, -1).astype(np.float64))
        np.add.at(expected, tie.ties[used], every[used])
        np.testing.assert_allclose(tie.tied_gradient.reshape(-1), expected, rtol=0, atol=tie.tolerance)
        np.testing.assert_allclose(tie.filter_gradient, tie.tied_gradient, rtol=0, atol=tie.tolerance)
        np.testing.assert_allclose(tie.dense_gradient, every, rtol=0, atol=30 * eps * n)
        assert tie.tolerance < 4000 * eps * (1 + np.abs(expected).max())

    def test_one_filter_of_2x2_on_3x3(self) -> None:
        layer = nn.Conv2d(1, 1, 2, bias=False, dtype=np.float64)
        tie = lens.dense_tie(layer, np.ones((1, 1, 3, 3)))
        a, b, c, d, none = 0, 1, 2, 3, -1
        assert tie.ties.tolist() == [
            [a, b, none, c, d, none, none, none, none],
            [none, a, b, none, c, d, none, none, none],
            [none, none, none, a, b, none, c, d, none],
            [none, none, none, none, a, b, none, c, d],
        ]

    def test_a_frozen_layer_and_a_given_upstream(self, small: Small) -> None:
        small.second.weight.requires_grad_(False)
        x = np.random.default_rng(0).normal(size=(2, 4, 6, 6))
        tie = lens.dense_tie(small.second, x, np.ones((2, 3, 2, 2)))
        expected = F.conv2d_weight(x, (3, 4, 3, 3), np.ones((2, 3, 2, 2)), stride=2)
        np.testing.assert_allclose(tie.tied_gradient, expected, rtol=1e-12)

    def test_bad_arguments(self) -> None:
        layer = nn.Conv2d(2, 3, 3)
        with pytest.raises(ValueError, match=r"dense_tie: images must have shape \(N, 2, H, W\), got \(1, 1, 5, 5\)"):
            lens.dense_tie(layer, np.ones((1, 1, 5, 5)))
        with pytest.raises(ValueError, match=r"dense_tie: upstream must have shape \(1, 3, 3, 3\), got \(3, 3\)"):
            lens.dense_tie(layer, np.ones((1, 2, 5, 5)), np.ones((3, 3)))
        with pytest.raises(ValueError, match=r"images of 90 x 90 would have 23232 x 16200 entries, more than 16777216"):
            lens.dense_tie(layer, np.ones((1, 2, 90, 90)))
        with pytest.raises(ValueError, match="dense_tie: padding_mode must be 'zeros', got 'reflect'"):
            lens.dense_tie(nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), np.ones((1, 2, 5, 5)))


class TestNumericGradient:
    def test_differences_come_close_at_2p_forward_passes(self) -> None:
        model = Small(nn.Tanh())
        bits = model.conv.weight.data.tobytes()
        result = lens.numeric_gradient(loss_of(model.eval()), model.conv.weight, 2)
        loss_of(model)().backward()
        np.testing.assert_array_equal(result.analytic, model.conv.weight.grad.data[2])
        # Within so small an epsilon no maximum of the pool changes places: the error is its square times a derivative.
        assert result.error.max() < 1e-8
        np.testing.assert_array_equal(result.error, np.abs(result.numeric - result.analytic))
        assert result.forwards == 36
        assert result.epsilon == pytest.approx(6.06e-6, rel=1e-2)
        assert result.speedup == result.numeric_seconds / (result.forward_seconds + result.backward_seconds) > 3
        assert model.conv.weight.data.tobytes() == bits

    def test_in_float32_they_are_coarse(self) -> None:
        model = Small(nn.Tanh(), np.float32).eval()
        result = lens.numeric_gradient(loss_of(model, np.float32), model.conv.weight, 0)
        assert 1e-5 < result.error.max() < 0.05

    def test_the_error_falls_with_epsilon_squared_and_then_rises(self) -> None:
        model = Small(nn.Tanh()).eval()
        curve = lens.error_curve(loss_of(model), model.conv.weight, (1, 0, 1, 1))
        assert curve.error.argmin() not in (0, len(curve.error) - 1)
        assert 1e-8 < curve.best_epsilon < 1e-3
        assert curve.error[0] > 1e4 * curve.error.min() < curve.error[-1]
        two = lens.error_curve(lambda: anp.sum(anp.sin(model.conv(X))), model.conv.weight, (1, 0, 1, 1), [2e-3, 1e-3])
        assert two.error[0] / two.error[1] == pytest.approx(4, rel=1e-3)

    def test_a_linear_loss_has_no_error_but_rounding(self, small: Small) -> None:
        result = lens.numeric_gradient(lambda: small.conv(X).sum(), small.conv.weight, 1)
        np.testing.assert_allclose(result.numeric, result.analytic, rtol=0, atol=1e-12 / result.epsilon)

    def test_a_weight_has_its_bits_back_after_an_error(self, small: Small) -> None:
        calls = []

        def loss() -> Any:
            calls.append(1)
            if len(calls) > 9:
                raise KeyboardInterrupt
            return loss_of(small.eval())()

        bits = small.conv.weight.data.tobytes()
        with pytest.raises(KeyboardInterrupt):
            lens.numeric_gradient(loss, small.conv.weight, repeats=1)
        assert small.conv.weight.data.tobytes() == bits

    def test_bad_arguments(self, small: Small) -> None:
        loss = loss_of(small.eval())
        with pytest.raises(ValueError, match=r"filter must be an index into shape \(4, 2, 3, 3\), got \(4, 0, 0, 0\)"):
            lens.numeric_gradient(loss, small.conv.weight, 4)
        with pytest.raises(ValueError, match=r"numeric_gradient: epsilon 0\.0 is too small to change the weight"):
            lens.numeric_gradient(loss, small.conv.weight, epsilon=0)
        with pytest.raises(TypeError, match="numeric_gradient: parameter must be a tensor, got a Conv2d"):
            lens.numeric_gradient(loss, small.conv)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="error_curve: parameter must be a leaf that requires a gradient"):
            lens.error_curve(loss, small.conv.weight * 2, (0, 0, 0, 0))
        with pytest.raises(ValueError, match="error_curve: epsilons must not be empty"):
            lens.error_curve(loss, small.conv.weight, (0, 0, 0, 0), [])
        with pytest.raises(ValueError, match="numeric_gradient: the loss does not depend on parameter"):
            lens.numeric_gradient(loss, Small().conv.weight)
        dropout = nn.Dropout(0.5, rng=0)
        with pytest.raises(ValueError, match=r"loss\(\) must always return the same, .* is there dropout"):
            lens.numeric_gradient(lambda: dropout(small(X)).sum(), small.conv.weight)


class TestLossSlice:
    def test_the_curve_is_the_loss_and_the_tangent_touches_it(self) -> None:
        model = Small(nn.Tanh()).eval()
        loss = loss_of(model)
        index = (2, 1, 0, 1)
        piece = lens.loss_slice(loss, model.conv.weight, index, lr=0.1, reach=1e-4, points=5)
        assert piece.loss == piece.losses[2] == piece.tangent[2] == loss().item()
        assert piece.weight == piece.weights[2] == model.conv.weight.data[index]
        np.testing.assert_allclose(piece.losses, piece.tangent, rtol=0, atol=1e-7)
        loss().backward()
        assert piece.slope == model.conv.weight.grad.data[index]
        assert piece.next_weight == piece.weight - 0.1 * piece.slope
        model.conv.weight.data[index] = piece.next_weight
        assert loss().item() == piece.next_loss

    def test_a_parabola(self) -> None:
        parameter = nn.Parameter(np.array([3.0, 1.0]))
        piece = lens.loss_slice(lambda: (parameter**2).sum(), parameter, (0,), lr=0.5, reach=3, points=3)
        assert piece.weights.tolist() == [0, 3, 6]
        assert piece.losses.tolist() == [1, 10, 37]
        assert piece.tangent.tolist() == [-8, 10, 28]
        assert (piece.slope, piece.next_weight, piece.next_loss) == (6, 0, 1)
        assert parameter.data.tolist() == [3, 1]

    def test_bad_arguments(self, small: Small) -> None:
        loss = loss_of(small.eval())
        with pytest.raises(ValueError, match=r"loss_slice: points must be odd, .* got 4"):
            lens.loss_slice(loss, small.conv.weight, (0, 0, 0, 0), 0.1, points=4)
        with pytest.raises(ValueError, match="loss_slice: reach must be positive, got 0"):
            lens.loss_slice(loss, small.conv.weight, (0, 0, 0, 0), 0.1, reach=0)
        with pytest.raises(TypeError, match=r"loss_slice: index must be 4 integers, an index into \(4, 2, 3"):
            lens.loss_slice(loss, small.conv.weight, 1, 0.1)


class TestActivationStep:
    @each_dtype
    @pytest.mark.parametrize(
        "activation",
        [nn.ReLU(), nn.LeakyReLU(), nn.Tanh(), nn.Sigmoid(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Identity()],
        ids=lambda activation: f"{type(activation).__name__}-{activation.extra_repr()}",
    )
    def test_the_gradient_comes_back_times_the_slope(self, activation: nn.Module, dtype: Any) -> None:
        model = Small(activation, dtype)
        bits = model.conv.weight.data.tobytes()
        step = lens.activation_step(loss_of(model, dtype), model.conv, model.act)
        np.testing.assert_array_equal(step.after, activation(step.before))
        h = 1e-6
        x = step.before.astype(np.float64)
        numeric = (activation(x + h) - activation(x - h)) / (2 * h)
        smooth = np.abs(x) > 1e-5
        np.testing.assert_allclose(step.slope[smooth], numeric[smooth], rtol=0, atol=1e-6)
        expected = step.gradient_after.astype(np.float64) * step.slope
        atol = 20 * np.finfo(dtype).eps * np.abs(step.gradient_after).max()
        np.testing.assert_allclose(step.gradient_before, expected, rtol=0, atol=atol)
        np.testing.assert_array_equal(step.mask, step.slope != 0)
        assert step.filters.tobytes() == step.filters_after_forward.tobytes() == bits
        assert model.conv.weight.data.tobytes() == bits

    def test_relu_is_a_mask_exactly(self, small: Small) -> None:
        step = lens.activation_step(loss_of(small), small.conv, small.act)
        np.testing.assert_array_equal(step.mask, step.before > 0)
        np.testing.assert_array_equal(step.after, np.where(step.mask, step.before, 0))
        np.testing.assert_array_equal(step.gradient_before, np.where(step.mask, step.gradient_after, 0))
        assert 0 < step.mask.mean() < 1

    def test_a_filter_of_zeros_is_not_a_map_of_zeros(self) -> None:
        model = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=np.float64, rng=0), nn.ReLU(), nn.Flatten())
        conv, act = model[0], model[1]
        conv.weight.data[0] = 0
        conv.bias.data[:] = 1, -1000, 0
        weights = np.random.default_rng(1).normal(size=(300, 5))
        step = lens.activation_step(lambda: F.cross_entropy(model(X) @ weights, Y), conv, act)
        assert step.filter_is_zero.tolist() == [True, False, False]
        assert step.map_is_zero.tolist() == [False, True, False]
        assert step.gradient_is_zero.tolist() == [False, True, False]
        np.testing.assert_array_equal(step.after[:, 0], 1)

    def test_what_is_no_elementwise_activation_is_found(self) -> None:
        class Share(nn.Module):
            def forward(self, x: Any) -> Any:
                return F.softmax(x, 1) * 3

        model = Small(Share())
        with pytest.raises(lens.LensError, match="activation_step: the gradient before the activation, and the one af"):
            lens.activation_step(loss_of(model), model.conv, model.act)

    def test_bad_arguments(self, small: Small) -> None:
        with pytest.raises(ValueError, match=r"must keep the shape of the layer's maps, \(6, 4, 12, 12\), it"):
            lens.activation_step(loss_of(small), small.conv, small.pool)
        with pytest.raises(TypeError, match="activation_step: activation must be a Module, got a builtin_function"):
            lens.activation_step(loss_of(small), small.conv, abs)  # type: ignore[arg-type]


class TestPoolingRoutes:
    @each_dtype
    @pytest.mark.parametrize("ties", ["first", "split"])
    @pytest.mark.parametrize("case", [case for case in cases.POOL_CASES if min(case.x_shape)], ids=lambda case: case.id)
    def test_the_gradient_goes_to_the_winners(self, case: Any, ties: str, dtype: Any) -> None:
        pool = nn.MaxPool2d(*case[2:6], ceil_mode=case.ceil_mode, ties=ties)
        # Few different values, so that there are ties.
        x = Tensor(np.random.default_rng(0).integers(0, 5, case.x_shape).astype(dtype), requires_grad=True)
        routes = lens.pooling_routes(lambda: anp.sum(anp.sin(3 * pool(x) + 0.5)), pool)
        n, c, height, width = case.x_shape
        index = np.ogrid[:n, :c]
        picked = x.data[index[0][..., None, None], index[1][..., None, None], routes.row, routes.column]
        np.testing.assert_array_equal(picked, routes.output)
        _, positions = F.max_pool2d(x.data, *case[2:6], ceil_mode=case.ceil_mode, return_indices=True)
        np.testing.assert_array_equal(routes.row * width + routes.column, positions)

        sent = np.zeros(case.x_shape)
        wins = np.zeros(case.x_shape, int)
        u, v = np.indices(np.broadcast_to(case.kernel_size, 2)).reshape(2, -1)
        pair = [np.broadcast_to(setting, 2) for setting in (pool.stride, case.padding, case.dilation)]
        for place in np.ndindex(routes.output.shape):
            rows, columns = (
                at * stride - padding + tap * dilation
                for at, tap, stride, padding, dilation in zip(place[2:], (u, v), *pair, strict=True)
            )
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            rows, columns = rows[inside], columns[inside]
            best = x.data[place[:2]][rows, columns] == routes.output[place]
            assert routes.ties[place] == best.sum()
            last = None if ties == "split" else 1
            rows, columns = rows[best][:last], columns[best][:last]
            sent[place[:2]][rows, columns] += routes.gradient_output[place] / len(rows)
            wins[place[:2]][rows, columns] += 1
        np.testing.assert_array_equal(routes.wins, wins)
        np.testing.assert_allclose(routes.gradient_input, sent, rtol=0, atol=60 * np.finfo(dtype).eps)
        assert (routes.gradient_input[wins == 0] == 0).all()

    def test_in_a_network(self, small: Small) -> None:
        routes = lens.pooling_routes(loss_of(small), small.pool)
        assert routes.wins.sum() == routes.output.size
        assert routes.gradient_input.sum() == pytest.approx(routes.gradient_output.sum(), abs=1e-14)
        assert (routes.ties[routes.output > 0] == 1).all()
        assert (routes.ties[routes.output == 0] == 4).all(), "ReLU has made the whole window zero"

    def test_bad_arguments(self, small: Small) -> None:
        with pytest.raises(TypeError, match="pooling_routes: pool must be a MaxPool2d, got a ReLU"):
            lens.pooling_routes(loss_of(small), small.act)  # type: ignore[arg-type]
        first = nn.Sequential(nn.MaxPool2d(2), small.second, nn.Flatten(), small.dense)
        with pytest.raises(ValueError, match="pooling_routes: output does not require a gradient"):
            lens.pooling_routes(lambda: F.cross_entropy(first(np.ones((6, 4, 12, 12))), Y), first[0])
        with pytest.raises(ValueError, match="pooling_routes: the maps must not have a NaN"):
            lens.pooling_routes(lambda: F.cross_entropy(small(X * np.nan), Y), small.pool)


class TestChainPath:
    @each_dtype
    def test_each_rule_gives_the_next_gradient_down_to_the_filters(self, dtype: Any) -> None:
        model = nn.Sequential(nn.Conv2d(2, 3, 3, dtype=dtype, rng=0), nn.ReLU(), nn.Flatten())
        target = np.random.default_rng(0).normal(size=(6, 300)).astype(dtype)
        path = lens.chain_path(lambda: anp.sum(model(X.astype(dtype)) * target), model[0].weight)
        assert [link.operation for link in path] == ["sum", "multiply", "reshape", "where", "conv2d", "leaf"]
        assert [link.argument for link in path] == ["x", "x", "x", "y", "weight", ""]
        assert [link.paths for link in path] == [0, 1, 1, 1, 1, 1]
        assert all(link.exact for link in path[:-1])
        rules = [link.rule for link in path]
        assert rules[1] == "g * y"
        assert rules[3:] == ["where(condition, 0, g)", "_conv2d_weight(x, g, geometry=geometry)", ""]
        assert [kept.name for kept in path[4].kept] == ["x", "geometry"]
        assert path[4].kept[0].shape == X.shape
        assert path[4].kept[0].norm == pytest.approx(np.linalg.norm(X), rel=1e-6)
        assert path[4].kept[1] == ("geometry", None, None)
        np.testing.assert_array_equal(path[1].gradient, np.ones((6, 300)))
        np.testing.assert_array_equal(path[2].gradient, target)
        np.testing.assert_array_equal(
            path[4].gradient, target.reshape(6, 3, 10, 10) * (model[0](X.astype(dtype)).data > 0)
        )
        anp.sum(model(X.astype(dtype)) * target).backward()
        np.testing.assert_array_equal(path[5].gradient, model[0].weight.grad.data)
        for link in path:
            assert (link.shape, link.dtype) == (link.gradient.shape, link.gradient.dtype)
            assert link.norm == pytest.approx(np.linalg.norm(link.gradient), rel=1e-6)
            np.testing.assert_array_equal(link.sample, link.gradient.ravel()[:8])

    def test_a_value_that_is_used_twice_gets_the_sum(self) -> None:
        weight = nn.Parameter(np.array([1.0, 2.0]))

        def loss() -> Any:
            y = weight * 3
            return (y * y + anp.exp(y)).sum()

        path = lens.chain_path(loss, weight)
        twice = path[-2]
        assert (twice.operation, twice.paths) == ("multiply", 3)  # y * y uses y twice
        np.testing.assert_allclose(twice.gradient, 2 * 3 * weight.data + np.exp(3 * weight.data))
        assert not path[-3].exact
        assert twice.exact

    def test_in_a_network_the_links_carry_the_engines_gradients(self, small: Small) -> None:
        path = lens.chain_path(loss_of(small), small.conv.weight)
        loss_of(small)().backward()
        np.testing.assert_array_equal(path[-1].gradient, small.conv.weight.grad.data)
        step = lens.activation_step(loss_of(small), small.conv, small.act)
        relu = max(i for i, link in enumerate(path) if link.operation == "where")
        np.testing.assert_array_equal(path[relu].gradient, step.gradient_after)
        np.testing.assert_array_equal(path[relu + 1].gradient, step.gradient_before)
        assert [link.operation for link in path].count("conv2d") == 2

    def test_every_rule_of_the_library_has_its_text(self) -> None:
        for primitive in Primitive.registry.values():
            for rule in primitive.rules.values():
                if rule.__module__.startswith("autograd."):
                    text = lens.chain.rule_text(rule)
                    assert text != rule.__qualname__
                    compile(text, "rule", "exec")

    def test_a_rule_without_source(self) -> None:
        scope: dict[str, Any] = {}
        exec("rule = lambda g: 2 * g", scope)
        assert lens.chain.rule_text(scope["rule"]) == "<lambda>"

    def test_bad_arguments(self, small: Small) -> None:
        with pytest.raises(ValueError, match="chain_path: the loss does not depend on parameter"):
            lens.chain_path(loss_of(small), Small().conv.weight)
        with pytest.raises(TypeError, match="chain_path: parameter must be a tensor, got a Conv2d"):
            lens.chain_path(loss_of(small), small.conv)  # type: ignore[arg-type]


class TestCompositeDifference:
    @each_dtype
    @each_geometry
    def test_kernel_and_composition_differ_by_rounding(self, case: Any, dtype: Any) -> None:
        layer, x = layer_of(case, dtype), images_of(case, dtype)
        difference = lens.composite_difference(layer, x)
        for part in (difference.output, difference.input_gradient, difference.filter_gradient):
            assert part.kernel.dtype == part.composite.dtype == part.ulps.dtype == dtype
            # Each side rounds at every addition; of random sign, the roundings of some hundred terms are a few units.
            assert part.ulps_of_terms.max(initial=0) <= 8
            distance = np.abs(part.kernel.astype(np.float64) - part.composite)
            np.testing.assert_allclose(part.ulps * np.spacing(np.abs(part.kernel)), distance, rtol=1.01, atol=0)
        np.testing.assert_array_equal(difference.output.kernel, layer(x).data)

    def test_a_unit_in_the_last_place(self) -> None:
        result = lens.chain._compare(np.array([1.0, 0.0, -3.0]), np.array([1 + 2**-51, 0, -3]), np.array([8.0, 0, 3]))
        assert result.ulps.tolist() == [2, 0, 0]
        assert result.ulps_of_terms.tolist() == [0.25, 0, 0]

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match=r"upstream must have shape \(1, 2, 3, 3\), got \(1,\)"):
            lens.composite_difference(nn.Conv2d(1, 2, 3), np.ones((1, 1, 5, 5)), np.ones(1))
        with pytest.raises(ValueError, match="padding_mode must be 'zeros', got 'circular'"):
            lens.composite_difference(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), np.ones((1, 1, 5, 5)))
