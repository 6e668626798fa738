"""The lens on a trained network, in float32 and on real images: every sum comes out, to the rounding of float32.

The network is that of the default run, trained for a few dozen steps. That a result could be made is itself a check:
the functions raise LensError otherwise. What is asserted here are the margins, and that there was something to see.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from autograd import cross_entropy, lens, nn
from autograd.data import batches, fashion_mnist, normalise
from autograd.learn import network
from autograd.optim import SGD


class Trained(NamedTuple):
    model: nn.Sequential
    film: lens.Film
    x: Any
    y: Any

    def loss(self) -> Any:
        return cross_entropy(self.model(self.x), self.y)

    @property
    def layers(self) -> list[nn.Conv2d]:
        return list(lens.convolutions(self.model).values())


@pytest.fixture(scope="module")
def trained() -> Trained:
    data = fashion_mnist()
    images, labels = normalise(data.train_images[:1280]), data.train_labels[:1280]
    model = network()
    optimizer = SGD(model.parameters(), lr=0.06, momentum=0.5)
    film = lens.Film(optimizer, dict(model.named_parameters()), every=4)
    for x, y in batches(images, labels, batch_size=32, rng=0):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        film.step()
    optimizer.zero_grad()
    return Trained(model, film, normalise(data.test_images[:64]), data.test_labels[:64])


def test_it_has_learned_something(trained: Trained) -> None:
    assert lens.evaluate(trained.model, trained.x, trained.y)[1] > 0.4


def test_the_film(trained: Trained) -> None:
    for name, parameter in trained.model.named_parameters():
        reel = trained.film[name]
        # 40 steps, each of which rounds a weight below 0.5 by 2^-26 and an update below 0.1 by a few units.
        assert reel.discrepancy <= reel.tolerance < 40 * 2**-22
        assert reel.same_memory
        assert reel.from_momentum[1:].any()
        np.testing.assert_array_equal(reel.end, parameter.data)
        assert np.abs(reel.moved).max() > 1e-3


def test_ledgers(trained: Trained) -> None:
    for layer in trained.layers:
        for weight in np.random.default_rng(0).integers(layer.weight.shape, size=(8, 4)).tolist():
            ledger = lens.tap_ledger(trained.loss, layer, weight)
            assert abs(ledger.total - ledger.gradient) <= ledger.tolerance
            assert ledger.tolerance < 1e-4 * np.abs(ledger.term).sum()
            assert len(ledger.term) > 1000


def test_the_dense_layer(trained: Trained) -> None:
    conv1, conv2 = trained.layers
    lens.dense_tie(conv1, trained.x[:4, :, 4:16, 4:16])
    tie = lens.dense_tie(conv2, trained.model[:3](trained.x[:2]).data[:, :, :6, :6])
    assert tie.tolerance < 1e-4 * np.abs(tie.filter_gradient).max()


def test_activation_pooling_and_chain(trained: Trained) -> None:
    model = trained.model
    for number, layer in enumerate(trained.layers, 1):
        act, pool = (dict(model.named_modules())[f"{kind}{number}"] for kind in ("act", "pool"))
        step = lens.activation_step(trained.loss, layer, act)
        np.testing.assert_array_equal(step.gradient_before, np.where(step.mask, step.gradient_after, 0))
        routes = lens.pooling_routes(trained.loss, pool)
        np.testing.assert_array_equal(routes.gradient_input, step.gradient_after)
        path = lens.chain_path(trained.loss, layer.weight)
        np.testing.assert_array_equal(path[-1].gradient, step.filter_gradient)
        np.testing.assert_array_equal(path[-2].gradient, step.gradient_before)
        parts = lens.composite_difference(layer, raw_input(trained, layer))
        assert max(part.ulps_of_terms.max() for part in vars(parts).values()) < 16


def raw_input(trained: Trained, layer: nn.Conv2d) -> Any:
    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    trained.model(trained.x[:8])
    handle.remove()
    return seen[0].data


def test_a_filter_that_is_made_to_die(trained: Trained) -> None:
    layer = trained.layers[0]
    before = layer.bias.data[3]
    layer.bias.data[3] = -100
    try:
        result = lens.saturation(trained.model, layer, trained.model.act1, trained.x, trained.y)
    finally:
        layer.bias.data[3] = before
    assert result.dead.nonzero()[0].tolist() == [3]
    assert result.gradient_norm[3] == 0 < np.delete(result.gradient_norm, 3).min()


def test_central_differences(trained: Trained) -> None:
    weight = trained.layers[0].weight
    result = lens.numeric_gradient(trained.loss, weight, 0)
    # The loss, about 1, is rounded to 2^-24, which is divided by an epsilon of 0.005; ReLU and pooling have kinks.
    assert result.error.max() < 2e-3
    assert np.corrcoef(result.numeric.ravel(), result.analytic.ravel())[0, 1] > 0.99
