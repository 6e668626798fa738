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
from autograd import functional as F
from autograd import lens, nn

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

        wavy(layer, x)().backward()
        assert ledger.gradient == layer.weight.grad.data[weight]
        assert ledger.total == pytest.approx(ledger.gradient, rel=0, abs=ledger.tolerance)
        assert ledger.tolerance <= 200 * np.finfo(dtype).eps * np.abs(ledger.term).sum() + 1e-30
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
