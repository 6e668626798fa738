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


class TestTopPatches:
    @pytest.mark.parametrize("settings", [{}, {"padding": 2, "stride": 2}, {"groups": 2, "padding": "same"}])
    def test_they_are_the_places_of_the_largest_answers(self, settings: Any) -> None:
        model = network(**settings)
        top = lens.top_patches(model, model.conv, X, k=3, batch_size=4)
        maps = model.conv(X).data
        strongest = maps.max((2, 3))
        for o in range(4):
            assert top.image[o].tolist() == np.argsort(-strongest[:, o])[:3].tolist()
            np.testing.assert_array_equal(top.response[o], np.sort(strongest[:, o])[::-1][:3])
        for (o, k), response in np.ndenumerate(top.response):
            assert maps[top.image[o, k], o, top.row[o, k], top.column[o, k]] == response
            product = (top.patches[o, k] * model.conv.weight.data[o]).sum() + model.conv.bias.data[o]
            assert product == pytest.approx(response, rel=1e-12)

    def test_boxes_are_the_pixels_that_the_answer_depends_on(self) -> None:
        model = network(padding=1)
        top = lens.top_patches(model, model.conv, X, k=2)
        for (o, k), row in np.ndenumerate(top.row):
            column = top.column[o, k]
            expected = [max(row - 1, 0), min(row + 2, 10), max(column - 1, 0), min(column + 2, 9)]
            assert top.boxes[o, k].tolist() == expected

    def test_boxes_of_a_later_layer_reach_through_those_below(self) -> None:
        rng = np.random.default_rng(0)
        model = nn.Sequential(nn.Conv2d(2, 4, 3, dtype=np.float64, rng=rng), nn.Tanh(), nn.AvgPool2d(2))
        model.append(nn.Conv2d(4, 2, 2, dtype=np.float64, rng=rng))
        top = lens.top_patches(model, model[3], X, k=2)
        top_left = np.stack([2 * top.row, 2 * top.row + 6, 2 * top.column, 2 * top.column + 6], axis=-1)
        np.testing.assert_array_equal(top.boxes, top_left)
        assert top.patches.shape == (2, 2, 4, 2, 2)

    def test_bad_arguments(self) -> None:
        model = network()
        with pytest.raises(ValueError, match="top_patches: k must be between 1 and 14, got 15"):
            lens.top_patches(model, model.conv, X, k=15)
        with pytest.raises(ValueError, match="top_patches: images must not be empty"):
            lens.top_patches(model, model.conv, X[:0], k=1)


class TestClassSelectivity:
    def test_means_and_indices(self) -> None:
        model = network()
        result = lens.class_selectivity(model, model.act, X, Y, classes=4, batch_size=4)
        answers = model.eval()[:3](X).data.mean((2, 3))
        for label in range(3):
            np.testing.assert_allclose(result.means[:, label], answers[label == Y].mean(0))
        assert np.isnan(result.means[:, 3]).all()
        for o in range(4):
            means = result.means[o, :3]
            assert result.preferred[o] == means.argmax()
            others = np.delete(means, means.argmax()).mean()
            assert result.index[o] == pytest.approx((means.max() - others) / (means.max() + others))
            within = sum(((answers[label == Y, o] - means[label]) ** 2).sum() for label in range(3))
            assert result.explained[o] == pytest.approx(
                1 - within / ((answers[:, o] - answers[:, o].mean()) ** 2).sum()
            )

    def test_a_filter_that_answers_to_one_class_alone(self) -> None:
        images = np.zeros((14, 2, 10, 9))
        images[Y == 1] = 1
        conv = nn.Conv2d(2, 3, 3, bias=False, dtype=np.float64)
        conv.weight.data[:] = np.array([1.0, 0.0, -1.0])[:, None, None, None]
        result = lens.class_selectivity(conv, conv, images, Y)
        assert result.preferred.tolist() == [1, 0, 0]
        assert result.explained.tolist() == pytest.approx([1, 0, 1])
        assert result.index[0] == 1
        assert np.isnan(result.index[1:]).all()

    def test_bad_arguments(self) -> None:
        model = network()
        with pytest.raises(ValueError, match=r"layer must return maps \(N, O, h, w\), got shape \(14, 48\)"):
            lens.class_selectivity(model, model.flatten, X, Y)
        with pytest.raises(TypeError, match="class_selectivity: labels must be integers"):
            lens.class_selectivity(model, model.act, X, Y / 2)
        with pytest.raises(ValueError, match="class_selectivity: classes must be at least 3, got 2"):
            lens.class_selectivity(model, model.act, X, Y, classes=2)


class TestOrientationTuning:
    def test_a_filter_of_bars_prefers_their_angle(self) -> None:
        angles = np.array([0, np.pi / 4, np.pi / 2, 3 * np.pi / 4])
        rows, columns = np.mgrid[-3:4, -3:4]
        across = rows * np.cos(angles)[:, None, None] + columns * np.sin(angles)[:, None, None]
        conv = nn.Conv2d(1, 5, 7, dtype=np.float64, rng=0)
        conv.weight.data[:4, 0] = np.cos(2 * np.pi * across / 8)
        conv.weight.data[4] = 1 / 49
        result = lens.orientation_tuning(conv, conv, (1, 20, 20))
        np.testing.assert_allclose(np.exp(2j * result.preferred[:4]), np.exp(2j * angles), atol=1e-6)
        assert (result.tuning[:4].argmax(1) == [0, 4, 8, 12]).all()
        assert result.responses.max(2).argmax(1)[:4].tolist() == [1] * 4
        assert result.selectivity[:4].min() > 0.4
        assert result.selectivity[4] < 0.05
        assert result.responses.shape == (5, 5, 16)

    def test_the_answer_to_a_linear_filter_is_its_amplitude(self) -> None:
        """Of a wave, a filter leaves a wave: its root mean square is the amplitude over sqrt(2)."""
        conv = nn.Conv2d(2, 1, 3, dtype=np.float64, rng=0)
        result = lens.orientation_tuning(conv, conv, (2, 8, 8), orientations=4, frequencies=[0.2], phases=5)
        rows, columns = np.mgrid[:3, :3]
        for angle, response in zip(result.angles, result.responses[0, 0], strict=True):
            wave = np.exp(2j * np.pi * 0.2 * (rows * np.cos(angle) + columns * np.sin(angle)))
            assert response == pytest.approx(abs((conv.weight.data[0].sum(0) * wave).sum()) / np.sqrt(2), rel=1e-10)

    def test_bad_arguments(self) -> None:
        conv = nn.Conv2d(1, 2, 3)
        with pytest.raises(ValueError, match=r"frequencies must be between 0 and 0\.5, got 0\.7"):
            lens.orientation_tuning(conv, conv, (1, 8, 8), frequencies=[0.7])
        with pytest.raises(ValueError, match="orientation_tuning: phases must be at least 3, got 2"):
            lens.orientation_tuning(conv, conv, (1, 8, 8), phases=2)
        with pytest.raises(ValueError, match=r"image_shape must be \(C, H, W\), got \(8, 8\)"):
            lens.orientation_tuning(conv, conv, (8, 8))  # type: ignore[arg-type]


class TestSimilarityAndDistance:
    def test_cosines(self) -> None:
        conv = nn.Conv2d(1, 4, 2, dtype=np.float64)
        conv.weight.data[:, 0] = [[[1, 0], [0, 0]], [[-3, 0], [0, 0]], [[1, 1], [0, 0]], [[0, 0], [0, 0]]]
        half = np.sqrt(0.5)
        expected = [[1, -1, half, 0], [-1, 1, -half, 0], [half, -half, 1, 0], [0, 0, 0, 0]]
        np.testing.assert_allclose(lens.filter_similarity(conv), expected, atol=1e-15)

    def test_distances(self) -> None:
        start = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]]).reshape(3, 1, 1, 2)
        end = np.array([[6.0, 8.0], [0.0, 1.0], [0.0, 2.0]]).reshape(3, 1, 1, 2)
        distance = lens.distance_from_start(start, end)
        np.testing.assert_allclose(distance.norm, [5, np.sqrt(2), 2])
        np.testing.assert_allclose(distance.relative, [1, np.sqrt(2), np.inf])
        np.testing.assert_allclose(distance.cosine, [1, 0, 0], atol=1e-15)
        with pytest.raises(ValueError, match=r"end must have start's shape \(3, 1, 1, 2\), got \(2, 1, 1, 2\)"):
            lens.distance_from_start(start, end[:2])


class TestAblation:
    def test_it_is_the_network_with_a_filter_of_zeros(self) -> None:
        model = network()
        result = lens.ablation(model, model.conv, X, Y, batch_size=5)
        assert not model.conv._forward_hooks
        model.eval()
        for o in range(4):
            state = model.state_dict()
            model.conv.weight.data[o] = 0
            model.conv.bias.data[o] = 0
            output = model(X).data
            assert result.losses[o] == pytest.approx(cross_entropy(output, Y), rel=1e-12)
            assert result.accuracies[o] == pytest.approx((output.argmax(1) == Y).mean())
            model.load_state_dict(state)
        assert (result.loss, result.accuracy) == lens.evaluate(model, X, Y)
        assert result.loss == pytest.approx(cross_entropy(model(X).data, Y))
        assert len(set(result.losses.tolist())) == 4
