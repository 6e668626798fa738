"""The lens on training: what the steps of an optimiser add up to, and experiments that train several networks.

In float64 and in float32, with every optimiser, the parts of the updates must sum to what the weights became; what
changes the weights behind the film's back is found out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autograd import cross_entropy, lens, nn, no_grad, optim
from autograd.optim import SGD, Adam, AdamW

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 1, 8, 8))
Y = RNG.integers(0, 3, 24)


def network(activation: type[nn.Module] = nn.ReLU, dtype: Any = np.float64, seed: int = 0) -> nn.Sequential:
    rng = np.random.default_rng(seed)
    return nn.Sequential(
        {
            "conv": nn.Conv2d(1, 4, 3, dtype=dtype, rng=rng),
            "act": activation(),
            "pool": nn.MaxPool2d(2),
            "next": nn.Conv2d(4, 5, 2, dtype=dtype, rng=rng),
            "flatten": nn.Flatten(),
            "dense": nn.Linear(20, 3, dtype=dtype, rng=rng),
        }
    )


OPTIMISERS: dict[str, Any] = {
    "sgd": lambda p: SGD(p, lr=0.1),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9),
    "dampening": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "decay": lambda p: SGD(p, lr=0.1, weight_decay=0.1),
    "momentum-decay": lambda p: SGD(p, lr=0.1, momentum=0.8, weight_decay=0.1, nesterov=True),
    "adam": lambda p: Adam(p, lr=0.01),
    "adam-decay": lambda p: Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1),
}


def descend(model: nn.Module, film: lens.Film, steps: int, dtype: Any = np.float64) -> None:
    for step in range(steps):
        model.zero_grad()
        cross_entropy(model(X[step % 4 :: 4].astype(dtype)), Y[step % 4 :: 4]).backward()
        film.step()


class TestFilm:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
    @pytest.mark.parametrize("name", OPTIMISERS)
    def test_updates_are_the_sum_of_their_parts_and_lead_from_start_to_end(self, name: str, dtype: Any) -> None:
        model = network(dtype=dtype)
        start = model.state_dict()
        film = lens.Film(OPTIMISERS[name](model.parameters()), dict(model.named_parameters()))
        descend(model, film, 20, dtype)
        eps = np.finfo(dtype).eps
        for parameter, end in model.state_dict().items():
            reel = film[parameter]
            assert reel.steps.tolist() == list(range(20))
            np.testing.assert_array_equal(reel.start, start[parameter])
            np.testing.assert_array_equal(reel.end, end)
            np.testing.assert_array_equal(reel.before[0], reel.start)
            np.testing.assert_allclose(reel.before[1:], (reel.before + reel.update)[:-1], rtol=eps, atol=eps / 8)
            parts = reel.from_gradient + reel.from_momentum + reel.from_decay
            # A weight below 1 is rounded by at most eps / 2; the update itself, a tenth of it, by some eps of itself.
            np.testing.assert_allclose(reel.update, parts, rtol=20 * eps, atol=eps)
            sums = reel.sum_from_gradient + reel.sum_from_momentum + reel.sum_from_decay
            np.testing.assert_allclose(sums, reel.moved, rtol=0, atol=20 * 2 * eps)
            assert reel.discrepancy == np.abs(sums - reel.moved).max() <= reel.tolerance < 20 * 4 * eps
            assert np.abs(reel.moved).max() > 0.01
            assert reel.same_memory
            assert reel.address == dict(model.named_parameters())[parameter].data.ctypes.data
        assert bool(reel.from_momentum.any()) == (name not in ("sgd", "decay"))
        assert bool(reel.from_decay.any()) == ("decay" in name or name == "adamw")

    def test_plain_sgd_is_minus_rate_times_gradient_at_every_rate(self) -> None:
        model = network()
        optimizer = SGD(model.parameters(), lr=0.2)
        film = lens.Film(optimizer, {"filters": model.conv.weight})
        schedule = optim.StepLR(optimizer, 1, gamma=0.5)
        for _ in range(3):
            descend(model, film, 2)
            schedule.step()
        reel = film["filters"]
        assert reel.lr.tolist() == [0.2, 0.2, 0.1, 0.1, 0.05, 0.05]
        np.testing.assert_array_equal(reel.from_gradient, -reel.lr[:, None, None, None, None] * reel.gradient)
        np.testing.assert_allclose(reel.update, reel.from_gradient, rtol=0, atol=2**-53)

    def test_momentum_is_what_earlier_gradients_left(self) -> None:
        model = network()
        film = lens.Film(SGD(model.parameters(), lr=0.1, momentum=0.5), {"filters": model.conv.weight})
        descend(model, film, 3)
        reel = film["filters"]
        assert not reel.from_momentum[0].any()
        np.testing.assert_allclose(reel.from_momentum[1], -0.1 * 0.5 * reel.gradient[0], rtol=1e-12)
        expected = -0.1 * (0.5 * reel.gradient[1] + 0.25 * reel.gradient[0])
        np.testing.assert_allclose(reel.from_momentum[2], expected, rtol=1e-12)

    def test_memory_is_bounded_and_the_sums_have_every_step(self) -> None:
        model = network()
        film = lens.Film(SGD(model.parameters(), lr=0.1), {"filters": model.conv.weight}, every=3, limit=8)
        descend(model, film, 100)
        reel = film["filters"]
        assert (film.steps, film.every) == (100, 24)
        assert reel.steps.tolist() == [0, 24, 48, 72, 96]
        assert reel.discrepancy < 1e-15
        np.testing.assert_allclose(reel.sum_from_gradient, reel.end - reel.start, rtol=0, atol=1e-14)

    def test_parameters_without_a_gradient_have_no_frame(self) -> None:
        model = network()
        film = lens.Film(SGD(model.parameters(), lr=0.1), {"filters": model.conv.weight})
        film.step()
        reel = film["filters"]
        assert reel.update.shape == (0, 4, 1, 3, 3)
        np.testing.assert_array_equal(reel.sum_from_gradient, np.zeros((4, 1, 3, 3)))

    def test_an_optimiser_of_the_users_own_is_recorded_without_parts(self) -> None:
        class Sign(SGD):
            def update(self, p: Any, g: Any, state: Any, group: Any) -> None:
                p -= float(group["lr"]) * np.sign(g)

        model = network()
        film = lens.Film(Sign(model.parameters(), lr=0.1), {"filters": model.conv.weight})
        descend(model, film, 2)
        reel = film["filters"]
        np.testing.assert_allclose(np.abs(reel.update[reel.gradient != 0]), 0.1, rtol=1e-12)
        assert reel.from_gradient is reel.sum_from_decay is None

    def test_a_wrong_update_is_found(self) -> None:
        model = network()
        optimizer = SGD(model.parameters(), lr=0.1)
        rule = optimizer.update
        optimizer.update = lambda p, g, state, group: rule(p, 1.001 * g, state, group)  # type: ignore[method-assign]
        film = lens.Film(optimizer, {"filters": model.conv.weight})
        with pytest.raises(lens.LensError, match="step 0 of filters, the update and its parts"):
            descend(model, film, 1)

    def test_a_change_between_the_steps_is_found(self) -> None:
        model = network()
        film = lens.Film(SGD(model.parameters(), lr=0.1), {"filters": model.conv.weight})
        descend(model, film, 2)
        with no_grad():
            model.conv.weight[0, 0, 0, 0] += 0.01
        descend(model, film, 2)
        with pytest.raises(lens.LensError, match="filters, end - start and the sum of all updates"):
            film["filters"]

    def test_other_memory_is_noticed(self) -> None:
        model = network()
        film = lens.Film(SGD(model.parameters(), lr=0.1), {"filters": model.conv.weight})
        descend(model, film, 1)
        assert film["filters"].same_memory
        model.conv.weight.data = model.conv.weight.data.copy()
        descend(model, film, 1)
        assert not film["filters"].same_memory

    def test_bad_arguments(self) -> None:
        model = network()
        optimizer = SGD(model.conv.parameters(), lr=0.1)
        with pytest.raises(TypeError, match="Film: optimizer must be an Optimizer, got 3"):
            lens.Film(3, {})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="Film: parameters must be a dict of at least one tensor by name"):
            lens.Film(optimizer, {})
        with pytest.raises(ValueError, match=r"Film: the optimizer does not update dense\.weight"):
            lens.Film(optimizer, {"dense.weight": model.dense.weight})
        with pytest.raises(ValueError, match="Film: limit must be at least 2, got 1"):
            lens.Film(optimizer, dict(model.conv.named_parameters()), limit=1)
        with pytest.raises(KeyError, match="no parameter is called 'conv', there are weight, bias"):
            lens.Film(optimizer, dict(model.conv.named_parameters()))["conv"]


class TestFit:
    def test_it_descends_by_plain_sgd_and_a_seed_fixes_every_bit(self) -> None:
        models = [network(), network(), network()]
        losses = [
            lens.fit(model, X, Y, 60, 8, lr=0.1, seed=seed) for model, seed in zip(models, (1, 1, 2), strict=True)
        ]
        assert losses[0][-5:].mean() < 0.7 * losses[0][:5].mean()
        np.testing.assert_array_equal(losses[0], losses[1])
        assert (losses[0] != losses[2]).any()
        for name, value in models[0].state_dict().items():
            np.testing.assert_array_equal(value, models[1].state_dict()[name])
        assert all(p.grad is None for p in models[0].parameters())
        loss, accuracy = lens.evaluate(models[0], X, Y, batch_size=7)
        output = models[0](X).data
        assert loss == pytest.approx(cross_entropy(output, Y), rel=1e-12)
        assert accuracy == (output.argmax(1) == Y).mean() > 0.5

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match="fit: images must not be empty"):
            lens.fit(network(), X[:0], Y[:0], 1)
        with pytest.raises(ValueError, match=r"fit: the loss is (nan|inf) in step \d+; try a smaller lr than 1e\+200"):
            lens.fit(network(nn.Identity), X, Y, 30, lr=1e200)


ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "identity": nn.Identity}


class TestLockstep:
    def test_the_models_differ_by_their_activation_alone(self) -> None:
        models = {name: network(activation) for name, activation in ACTIVATIONS.items()}
        together = lens.lockstep(models, "conv", "act", X, Y, X[:10], Y[:10], steps=7, batch_size=8, lr=0.2, every=3)
        assert together.names == tuple(ACTIVATIONS)
        assert together.steps.tolist() == [0, 3, 6, 7]
        np.testing.assert_array_equal(together.filters[0, 0], together.filters[1, 0])
        assert together.filters.shape == (3, 4, 4, 1, 3, 3)
        for i, (name, activation) in enumerate(ACTIVATIONS.items()):
            alone = network(activation)
            np.testing.assert_array_equal(together.losses[i], lens.fit(alone, X, Y, 7, 8, lr=0.2))
            np.testing.assert_array_equal(together.filters[i, -1], alone.conv.weight.data)
            np.testing.assert_array_equal(models[name].conv.weight.data, alone.conv.weight.data)
            assert together.accuracy[i, -1] == lens.evaluate(alone, X[:10], Y[:10])[1]
            maps = lens.saturation(alone, alone.conv, alone.act, X[:10], Y[:10])
            assert together.zeros[i, -1] == pytest.approx(maps.zeros.mean())
            assert together.dead[i, -1] == maps.dead.mean()
            assert together.saturated[i, -1] == pytest.approx(maps.saturated.mean())
        assert together.zeros[0].min() > 0 == together.zeros[1:].max()

    def test_models_that_start_differently_are_refused(self) -> None:
        models = {"a": network(), "b": network(seed=1)}
        with pytest.raises(ValueError, match="the models must start with the same values, 'b' differs from 'a'"):
            lens.lockstep(models, "conv", "act", X, Y, X, Y)
        with pytest.raises(ValueError, match="lockstep: the model has no module 'conv9', its modules are conv, act"):
            lens.lockstep({"a": network()}, "conv9", "act", X, Y, X, Y)
        with pytest.raises(TypeError, match="lockstep: models must be a dict of at least one Module by name"):
            lens.lockstep({}, "conv", "act", X, Y, X, Y)


class TestSymmetry:
    @pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
    @pytest.mark.parametrize("consumer", ["next", "dense"])
    def test_twins_stay_twins(self, consumer: str, dtype: Any) -> None:
        model = network(dtype=dtype)
        if consumer == "dense":
            rng = np.random.default_rng(0)
            model = nn.Sequential({**dict(model[:3].named_children()), "flatten": nn.Flatten()})
            model.dense = nn.Linear(36, 3, dtype=dtype, rng=rng)
        state = model.state_dict()
        result = lens.symmetry(model, "conv", consumer, X.astype(dtype), Y, pair=(1, 2), steps=30, batch_size=8, lr=0.2)
        # Both get the same products in the same order, but the order of sums may depend on where a channel stands.
        assert result.distance.max() <= 30 * np.finfo(dtype).eps
        assert result.moved > 0.01
        assert result.control[0] == 0
        assert result.control[-1] > 0.01
        assert result.filters.shape == (2, 1, 3, 3)
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, state[name])

    def test_bad_arguments(self) -> None:
        model = network()
        with pytest.raises(ValueError, match=r"pair must be two different filters of one group, got \(1, 1\)"):
            lens.make_twins(model.conv, model.next, (1, 1))
        with pytest.raises(ValueError, match=r"make_twins: pair must be an index into shape \(4, 4\), got \(0, 4\)"):
            lens.make_twins(model.conv, model.next, (0, 4))
        with pytest.raises(ValueError, match="consumer must be a Conv2d without groups, or a Linear, that takes 4"):
            lens.make_twins(model.conv, model.pool)
        grouped = nn.Conv2d(2, 4, 3, groups=2)
        with pytest.raises(ValueError, match=r"two different filters of one group, got \(1, 2\)"):
            lens.make_twins(grouped, model.next, (1, 2))


class TestFrozenFilters:
    def test_the_rest_learns_and_the_frozen_stay(self) -> None:
        model = network()
        state = model.state_dict()
        result = lens.frozen_filters(model, "conv", X, Y, X, Y, steps=40, batch_size=8, lr=0.2)
        np.testing.assert_array_equal(result.frozen, state["conv.weight"])
        np.testing.assert_array_equal(result.start, state["conv.weight"])
        assert np.abs(result.learned - result.start).max() > 0.01
        assert result.frozen_losses[0] == result.learned_losses[0]
        assert result.learned_losses[-5:].mean() < result.learned_losses[:5].mean()
        assert result.frozen_losses[-5:].mean() < result.frozen_losses[:5].mean()
        assert result.start_accuracy == lens.evaluate(model, X, Y)[1] < result.learned_accuracy
        assert result.frozen_accuracy > result.start_accuracy
        assert model.conv.weight.requires_grad
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, state[name])

    def test_bad_arguments(self) -> None:
        with pytest.raises(TypeError, match="frozen_filters: layer must be a Conv2d, got a Linear"):
            lens.frozen_filters(network(), "dense", X, Y, X, Y)
