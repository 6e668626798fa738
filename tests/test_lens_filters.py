"""The lens on what filters have become: dead or alive, for what they stand, and what the network loses without them.

Counts are compared with plain loops and NumPy on the maps that the model itself computes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autograd import cross_entropy, lens, nn

X = np.random.default_rng(3).normal(size=(14, 2, 10, 9))
Y = np.arange(14) % 3


def network(activation: nn.Module | None = None, dtype: Any = np.float64, **settings: Any) -> nn.Sequential:
    rng = np.random.default_rng(0)
    conv = nn.Conv2d(2, 4, 3, **settings, dtype=dtype, rng=rng)
    size = conv(X.astype(dtype)).shape[2:]
    return nn.Sequential(
        {
            "conv": conv,
            "norm": nn.BatchNorm2d(4, dtype=dtype),
            "act": activation or nn.ReLU(),
            "pool": nn.MaxPool2d(2),
            "flatten": nn.Flatten(),
            "dense": nn.Linear(4 * (size[0] // 2) * (size[1] // 2), 3, dtype=dtype, rng=rng),
        }
    )


class TestSaturation:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
    def test_shares_and_gradients(self, dtype: Any) -> None:
        model = network(dtype=dtype)
        model.norm.bias.data[:] = 0, -0.7, 5, -100
        result = lens.saturation(model, model.conv, model.act, X.astype(dtype), Y, batch_size=5)
        assert model.training
        assert all(p.grad is None for p in model.parameters())
        model.eval()
        after = model[:3](X.astype(dtype)).data
        np.testing.assert_allclose(result.zeros_by_position, (after == 0).mean(0))
        np.testing.assert_allclose(result.zeros_by_image, (after == 0).mean((2, 3)))
        np.testing.assert_allclose(result.zeros, (after == 0).mean((0, 2, 3)))
        np.testing.assert_allclose(result.saturated, result.zeros)  # ReLU's slope is 0 there and 1 elsewhere
        assert result.dead.tolist() == [False, False, False, True]
        assert result.zeros[2] < 0.01 < result.zeros[0] < result.zeros[1] < 1 == result.zeros[3]
        cross_entropy(model(X.astype(dtype)), Y).backward()
        expected = np.sqrt((model.conv.weight.grad.data.astype(np.float64) ** 2).sum((1, 2, 3)))
        np.testing.assert_allclose(result.gradient_norm, expected, rtol=100 * np.finfo(dtype).eps)
        assert result.gradient_norm[3] == 0 < result.gradient_norm[:3].min()

    def test_a_smooth_activation_saturates_and_does_not_die(self) -> None:
        model = network(nn.Tanh())
        model.norm.bias.data[:] = 0, 8, -8, 0
        result = lens.saturation(model, model.conv, model.act, X, Y, threshold=1e-3)
        assert not result.dead.any()
        assert (result.zeros == 0).all()
        assert result.saturated[[1, 2]].min() > 0.95
        assert result.saturated[[0, 3]].max() < 0.05
        assert 0 < result.gradient_norm[[1, 2]].max() < result.gradient_norm[[0, 3]].min()

    def test_a_map_of_zeros_that_still_learns_is_not_dead(self) -> None:
        model = network(nn.Identity())
        model.conv.weight.data[1] = 0
        model.conv.bias.data[1] = 0
        result = lens.saturation(model, model.conv, model.act, X, Y)
        assert result.zeros.tolist() == [0, 1, 0, 0]
        assert not result.dead.any()
        assert result.gradient_norm[1] > 0

    def test_bad_arguments(self) -> None:
        model = network()
        with pytest.raises(ValueError, match=r"saturation: images must not be empty, got shape \(0, 2, 10, 9\)"):
            lens.saturation(model, model.conv, model.act, X[:0], Y[:0])
        with pytest.raises(ValueError, match="saturation: there must be as many labels as images, got 14 and 3"):
            lens.saturation(model, model.conv, model.act, X, Y[:3])
        with pytest.raises(ValueError, match="saturation: the activation must take and return maps of 4 filters"):
            lens.saturation(model, model.conv, model.flatten, X, Y)
        with pytest.raises(ValueError, match=r"the model must run ReLU\(\) once, it ran it 0 times"):
            lens.saturation(model, model.conv, nn.ReLU(), X, Y)
        with pytest.raises(TypeError, match="saturation: layer must be a Conv2d, got a ReLU"):
            lens.saturation(model, model.act, model.conv, X, Y)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="saturation: batch_size must be at least 1, got 0"):
            lens.saturation(model, model.conv, model.act, X, Y, batch_size=0)
