"""`autograd.functional`: values and gradients against formulas, in the tails and at kinks too; dtypes; errors."""

import math
import warnings

import numpy
import pytest

from autograd import Tensor, no_grad
from autograd import functional as F
from autograd.checking import check_grads

erf = numpy.vectorize(math.erf, otypes=[float])


def phi(x):
    return 0.5 * (1 + erf(x / math.sqrt(2)))


def logistic(x):
    return 1 / (1 + numpy.exp(-x))


# name -> (keywords, the definition, points where it or a derivative jumps, [(x, derivative at x), ...])
ACTIVATIONS = {
    "identity": ({}, lambda x: x, [], [(0.0, 1.0)]),
    "relu": ({}, lambda x: numpy.maximum(x, 0), [0], [(0.0, 0.0), (-0.0, 0.0), (-1.0, 0.0), (2.0, 1.0)]),
    "leaky_relu": (
        {"negative_slope": 0.2},
        lambda x: numpy.maximum(x, 0) + 0.2 * numpy.minimum(x, 0),
        [0],
        [(0.0, 0.2), (-1.0, 0.2), (1.0, 1.0)],
    ),
    "elu": (
        {"alpha": 1.5},
        lambda x: numpy.maximum(x, 0) + 1.5 * (numpy.exp(numpy.minimum(x, 0)) - 1),
        [0],
        [(0.0, 1.5), (1000.0, 1.0), (-1000.0, 0.0)],
    ),
    "hardtanh": (
        {"min_val": -0.5, "max_val": 2},
        lambda x: numpy.clip(x, -0.5, 2),
        [-0.5, 2],
        [(-0.5, 0.0), (2.0, 0.0), (0.0, 1.0)],
    ),
    "relu6": ({}, lambda x: numpy.clip(x, 0, 6), [0, 6], [(0.0, 0.0), (6.0, 0.0), (3.0, 1.0)]),
    "tanh": ({}, numpy.tanh, [], [(0.0, 1.0)]),
    "sigmoid": ({}, logistic, [], [(0.0, 0.25), (-100.0, math.exp(-100)), (100.0, math.exp(-100))]),
    "silu": ({}, lambda x: x * logistic(x), [], [(0.0, 0.5), (1000.0, 1.0), (-1000.0, 0.0)]),
    "gelu": ({}, lambda x: x * phi(x), [], [(0.0, 0.5), (50.0, 1.0), (-50.0, 0.0)]),
    "softplus": (
        {"beta": 0.7},
        lambda x: numpy.log(1 + numpy.exp(0.7 * x)) / 0.7,
        [],
        [(0.0, 0.5), (1e4, 1.0), (-1e4, 0.0), (math.inf, 1.0), (-math.inf, 0.0)],
    ),
}
REEXPORTED = {
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool2d",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "conv_transpose2d",
    "lp_pool2d",
    "max_pool2d",
    "max_unpool2d",
}
PROBABILITIES = {"softmax", "log_softmax", "one_hot"}
LAYERS = {"linear", "flatten", "dropout", "batch_norm", "layer_norm"}
LOSSES = {
    "cross_entropy",
    "nll_loss",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy_with_logits",
}


def test_every_public_function_has_its_tests_here():
    assert set(F.__all__) == set(ACTIVATIONS) | REEXPORTED | PROBABILITIES | LAYERS | LOSSES
    assert all(getattr(F, name).__module__ == "autograd.functional" for name in set(F.__all__) - REEXPORTED)


# Activations


def points(rng, jumps):
    x = rng.uniform(-4, 4, (5, 7))
    for jump in jumps:
        x[numpy.abs(x - jump) < 0.01] += 0.1
    return x


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_is_its_formula(name, rng):
    keywords, formula, jumps, _ = ACTIVATIONS[name]
    x = points(rng, jumps)
    function = getattr(F, name)
    numpy.testing.assert_allclose(function(Tensor(x), **keywords).data, formula(x), rtol=1e-14, atol=1e-15)
    numpy.testing.assert_allclose(function(x, **keywords), formula(x), rtol=1e-14, atol=1e-15)
    assert type(function(x, **keywords)) is numpy.ndarray
    numpy.testing.assert_array_equal(function(x.T, **keywords), function(x, **keywords).T)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients_to_second_order(name, rng):
    keywords, _, jumps, _ = ACTIVATIONS[name]
    check_grads(lambda x: getattr(F, name)(x, **keywords), (points(rng, jumps),), order=2)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_derivative_at_kinks_and_in_tails(name):
    keywords, _, _, slopes = ACTIVATIONS[name]
    for point, slope in slopes:
        x = Tensor(numpy.array([point]), requires_grad=True)
        getattr(F, name)(x, **keywords).sum().backward()
        assert x.grad.item() == pytest.approx(slope, rel=1e-14, abs=0), point


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 4), (0, 2)])
def test_activation_keeps_float32(name, shape, rng):
    keywords, formula, _, _ = ACTIVATIONS[name]
    x = Tensor(rng.standard_normal(shape).astype(numpy.float32), requires_grad=True)
    y = getattr(F, name)(x, **keywords)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == numpy.float32
    assert y.shape == x.grad.shape == shape
    # A handful of float32 operations, each of which rounds to 6e-8, on numbers up to about 3.
    numpy.testing.assert_allclose(y.data, formula(x.data.astype(float)), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_passes_nan_and_keeps_the_memory_layout(name, rng):
    keywords = ACTIVATIONS[name][0]
    x = rng.standard_normal((2, 5, 4, 3)).astype(numpy.float32).transpose(0, 3, 1, 2)
    x[1, 2, 4, 3] = math.nan
    y = getattr(F, name)(Tensor(x), **keywords).data
    assert numpy.isnan(y[1, 2, 4, 3])
    assert numpy.isnan(y).sum() == 1
    assert y.strides == x.strides


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("relu", 0, math.inf),
        ("leaky_relu", -math.inf, math.inf),
        ("elu", -1, math.inf),
        ("hardtanh", -1, 1),
        ("relu6", 0, 6),
        ("tanh", -1, 1),
        ("sigmoid", 0, 1),
        ("softplus", 0, math.inf),
    ],
)
def test_activation_of_infinity(name, low, high):
    result = getattr(F, name)(Tensor(numpy.array([-math.inf, math.inf])))
    assert result.tolist() == [low, high]


def test_sigmoid_and_softplus_are_relatively_accurate_in_both_tails():
    x = numpy.array([-700.0, -50, -20, -1e-9, 1e-9, 20, 50, 700])
    e = numpy.exp(-numpy.abs(x))
    numpy.testing.assert_allclose(F.sigmoid(x), numpy.where(x < 0, e, 1) / (1 + e), rtol=4e-16)
    numpy.testing.assert_allclose(F.softplus(x)[:3], e[:3], rtol=2e-9)  # log(1 + e) = e - e**2 / 2, e <= 2e-9
    numpy.testing.assert_allclose(F.softplus(x)[-3:], x[-3:], rtol=2e-10)
    assert F.sigmoid(numpy.float32([-80, 80])).tolist() == pytest.approx([math.exp(-80), 1], rel=3e-7)


def test_gelu_approximation(rng):
    x = rng.uniform(-4, 4, 20)
    expected = 0.5 * x * (1 + numpy.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    numpy.testing.assert_allclose(F.gelu(x, approximate="tanh"), expected, rtol=1e-13, atol=1e-15)
    assert 0 < numpy.abs(F.gelu(x, approximate="tanh") - F.gelu(x)).max() < 1e-3
    check_grads(lambda x: F.gelu(x, approximate="tanh"), (x,), order=2)


# Probabilities


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_and_log_softmax(dim, rng):
    x = rng.standard_normal((3, 4, 5))
    expected = numpy.exp(x) / numpy.exp(x).sum(dim, keepdims=True)
    numpy.testing.assert_allclose(F.softmax(Tensor(x), dim).data, expected, rtol=1e-14)
    numpy.testing.assert_allclose(F.log_softmax(Tensor(x), dim=dim).data, numpy.log(expected), rtol=1e-13)
    check_grads(lambda x: F.softmax(x, dim), (x,), order=2)
    check_grads(lambda x: F.log_softmax(x, dim), (x,), order=2)


@pytest.mark.parametrize("dtype", [numpy.float32, numpy.float64])
def test_softmax_does_not_overflow(dtype):
    x = Tensor(dtype([[0, 1e4, 1e4 + 1], [-1e38, 0, 1], [-math.inf, 0, 1]]), requires_grad=True)
    high, low = -math.log1p(math.exp(-1)), -math.log1p(math.e)
    log_probabilities = F.log_softmax(x)
    expected = [[high - 1 - 1e4, low, high], [-1e38, low, high], [-math.inf, low, high]]
    numpy.testing.assert_allclose(log_probabilities.data, expected, rtol=4 * numpy.finfo(dtype).eps)
    probabilities = F.softmax(x)
    assert probabilities.dtype == log_probabilities.dtype == dtype
    numpy.testing.assert_allclose(probabilities.data[:, 1:], numpy.exp([[low, high]] * 3), rtol=1e-6)
    log_probabilities[:, 2].sum().backward()
    numpy.testing.assert_allclose(x.grad.data[:, 2], -math.expm1(high), rtol=1e-6)
    assert not x.grad.data[:, 0].any()


def test_one_hot():
    assert F.one_hot([1, 0, 2]).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    hot = F.one_hot(Tensor(numpy.array([[1], [0]])), num_classes=4)
    assert isinstance(hot, Tensor)
    assert hot.dtype == numpy.int64
    assert hot.tolist() == [[[0, 1, 0, 0]], [[1, 0, 0, 0]]]
    assert F.one_hot(numpy.zeros((0,), int), 3).shape == (0, 3)


# Layers


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_linear(lead, rng):
    x, weight, bias = rng.standard_normal((*lead, 4)), rng.standard_normal((5, 4)), rng.standard_normal(5)
    expected = numpy.einsum("...i,oi->...o", x, weight)
    numpy.testing.assert_allclose(F.linear(Tensor(x), weight).data, expected, rtol=1e-13)
    numpy.testing.assert_allclose(F.linear(x, Tensor(weight), bias).data, expected + bias, rtol=1e-13)
    check_grads(F.linear, (x, weight, bias), order=2)


def test_flatten(rng):
    x = Tensor(rng.standard_normal((2, 3, 4, 5)), requires_grad=True)
    for dims, shape in {(): (120,), (1,): (2, 60), (1, 2): (2, 12, 5), (-2, -1): (2, 3, 20), (2, 2): x.shape}.items():
        y = F.flatten(x, *dims)
        assert y.shape == shape
        numpy.testing.assert_array_equal(y.data, x.data.reshape(shape))
    assert F.flatten(numpy.float64(3)).shape == (1,)
    assert F.flatten(numpy.zeros((0, 3, 4)), 1).shape == (0, 12)
    check_grads(lambda x: F.flatten(x, 1), (x.detach().data,), order=2)


def test_dropout_zeroes_a_share_and_scales_the_rest():
    n, p = 100_000, 0.3
    x = Tensor(numpy.full((n // 10, 10), 2.0), requires_grad=True)
    y = F.dropout(x, p, rng=1)
    y.sum().backward()
    kept = y.data != 0
    # Five standard deviations of the number of zeros.
    assert abs((~kept).sum() - n * p) < 5 * math.sqrt(n * p * (1 - p))
    numpy.testing.assert_allclose(y.data[kept], 2 / (1 - p), rtol=1e-15)
    numpy.testing.assert_array_equal(x.grad.data, y.data / 2)


def test_dropout_is_reproducible_whatever_the_layout(rng):
    x = rng.standard_normal((2, 3, 4, 5)).astype(numpy.float32)
    strided = numpy.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    y = F.dropout(strided, 0.5, rng=3)
    assert y.dtype == numpy.float32
    assert y.strides == strided.strides
    numpy.testing.assert_array_equal(y, F.dropout(x, 0.5, rng=3))
    generator = numpy.random.default_rng(3)
    numpy.testing.assert_array_equal(y, F.dropout(x, 0.5, rng=generator))
    assert (F.dropout(x, 0.5, rng=generator) != y).any()
    check_grads(lambda x: F.dropout(x, 0.5, rng=3), (x,), order=2)


def test_dropout_extremes():
    x = Tensor(numpy.array([1.0, math.inf, math.nan]), requires_grad=True)
    assert F.dropout(x, 0.5, training=False) is x
    assert F.dropout(x, 0) is x
    y = F.dropout(x, 1)
    y.sum().backward()
    assert y.tolist() == x.grad.tolist() == [0, 0, 0]


def batch_statistics(x):
    axes = (0, *range(2, x.ndim))
    along = (1, -1, *[1] * (x.ndim - 2))
    return x.mean(axes).reshape(along), x.var(axes).reshape(along), x.size // x.shape[1]


@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 5, 2)])
def test_batch_norm_in_training(shape, rng):
    x, weight, bias = rng.normal(2, 3, shape), rng.standard_normal(3), rng.standard_normal(3)
    running_mean, running_var = rng.standard_normal(3), rng.random(3)
    mean, var, count = batch_statistics(x)
    along = mean.shape
    expected = (x - mean) / numpy.sqrt(var + 1e-3) * weight.reshape(along) + bias.reshape(along)
    means, variances = Tensor(running_mean.copy()), Tensor(running_var.copy())
    memory = means.data
    y = F.batch_norm(Tensor(x), means, variances, weight, bias, training=True, momentum=0.3, eps=1e-3)
    numpy.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-13)
    numpy.testing.assert_allclose(means.data, 0.7 * running_mean + 0.3 * mean.ravel(), rtol=1e-13)
    unbiased = var.ravel() * count / (count - 1)
    numpy.testing.assert_allclose(variances.data, 0.7 * running_var + 0.3 * unbiased, rtol=1e-13)
    assert means.data is memory
    check_grads(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), (x, weight, bias), order=2)


def test_batch_norm_in_evaluation(rng):
    x, weight, bias = rng.normal(2, 3, (4, 3, 5, 2)), rng.standard_normal(3), rng.standard_normal(3)
    mean, var = rng.standard_normal(3), rng.random(3)
    before = mean.copy(), var.copy()
    column = (slice(None), None, None)
    expected = (x - mean[column]) / numpy.sqrt(var[column] + 1e-5)
    numpy.testing.assert_allclose(F.batch_norm(x, mean, var), expected, rtol=1e-12, atol=1e-13)
    expected = expected * weight[column] + bias[column]
    numpy.testing.assert_allclose(F.batch_norm(Tensor(x), mean, var, weight, bias).data, expected, rtol=1e-12)
    numpy.testing.assert_array_equal((mean, var), before)
    check_grads(lambda x, w, b: F.batch_norm(x, mean, var, w, b), (x, weight, bias), order=2)


def test_batch_norm_agrees_with_published_numbers():
    """Numbers printed by PyTorch 2.13 (float64) for the same call."""
    x = Tensor(numpy.arange(8.0).reshape(2, 2, 2) ** 2, requires_grad=True)
    mean, var = numpy.zeros(2), numpy.ones(2)
    y = F.batch_norm(x, mean, var, training=True)
    y.backward(numpy.arange(8.0).reshape(2, 2, 2) ** 3)
    expected = [-0.9999999546485292, -0.9047618637296216, -1.0985208196441842, -0.8305889124138954]
    numpy.testing.assert_allclose(y.data.ravel()[:4], expected, rtol=1e-13)
    expected = [0.36281133169827395, -0.007343020272950132, 0.5976437165001717, -0.36629559935919115]
    numpy.testing.assert_allclose(x.grad.data.ravel()[:4], expected, rtol=1e-12)
    numpy.testing.assert_allclose(mean, [1.05, 2.45], rtol=1e-15)
    numpy.testing.assert_allclose(var, [15.6, 47 + 1 / 3], rtol=1e-15)


def test_batch_norm_in_float32_is_accurate_and_keeps_the_layout(rng):
    x = rng.normal(50, 1, (64, 28, 28, 4)).astype(numpy.float32).transpose(0, 3, 1, 2)
    tensor = Tensor(x, requires_grad=True)
    y = F.batch_norm(tensor, weight=numpy.ones(4, numpy.float32), training=True)
    (y * y).sum().backward()
    assert y.dtype == tensor.grad.dtype == numpy.float32
    assert y.data.strides == tensor.grad.data.strides == x.strides
    mean, var, _ = batch_statistics(x.astype(float))
    # The mean, near 50, rounds to 2e-6 of the deviations, and so may a few partial sums on the way to it.
    numpy.testing.assert_allclose(y.data, (x - mean) / numpy.sqrt(var + 1e-5), atol=4e-5, rtol=1e-6)


def test_batch_norm_changes_no_statistic_when_it_refuses():
    mean, var = numpy.zeros(3), numpy.ones(3)
    with pytest.raises(ValueError, match="at least two values a channel"):
        F.batch_norm(numpy.ones((1, 3, 1, 1)), mean, var, training=True)
    assert mean.tolist() == [0, 0, 0]
    assert var.tolist() == [1, 1, 1]


def test_layer_norm(rng):
    x, weight, bias = rng.normal(1, 2, (3, 4, 5)), rng.standard_normal((4, 5)), rng.standard_normal((4, 5))
    expected = (x - x.mean((1, 2), keepdims=True)) / numpy.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    numpy.testing.assert_allclose(F.layer_norm(x, (4, 5)), expected, rtol=1e-12, atol=1e-14)
    numpy.testing.assert_allclose(F.layer_norm(x, (4, 5), weight, bias), expected * weight + bias, rtol=1e-12)
    rows = (x - x.mean(2, keepdims=True)) / numpy.sqrt(x.var(2, keepdims=True) + 1e-5)
    numpy.testing.assert_allclose(F.layer_norm(Tensor(x), 5).data, rows, rtol=1e-12, atol=1e-14)
    check_grads(lambda x, w, b: F.layer_norm(x, (4, 5), w, b), (x, weight, bias), order=2)


# Losses


def plain_cross_entropy(logits, target, weight, ignore_index, reduction, smoothing):
    """One element after the other, in Python numbers. logits: (N, C, ...); target: classes, or as logits."""
    batch, classes, *rest = logits.shape
    losses, total = numpy.zeros((batch, *rest)), 0.0
    for place in numpy.ndindex(batch, *rest):
        z = [float(logits[(place[0], c, *place[1:])]) for c in range(classes)]
        log_sum = math.log(sum(math.exp(v) for v in z))
        if target.dtype.kind == "f":
            wanted = [float(target[(place[0], c, *place[1:])]) for c in range(classes)]
            total += 1
        elif target[place] == ignore_index:
            continue
        else:
            wanted = [float(c == target[place]) for c in range(classes)]
            total += weight[target[place]]
        wanted = [(1 - smoothing) * q + smoothing / classes for q in wanted]
        losses[place] = sum(w * q * (log_sum - v) for w, q, v in zip(weight, wanted, z, strict=True))
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / total}[reduction]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["classes", "probabilities"])
@pytest.mark.parametrize("rest", [(), (2, 3)])
def test_cross_entropy(reduction, smoothing, weighted, kind, rest, rng):
    logits = rng.standard_normal((4, 5, *rest))
    weight = rng.uniform(0.5, 2, 5) if weighted else None
    if kind == "classes":
        target = rng.integers(0, 5, (4, *rest))
        target.flat[1] = target.flat[0] = 3
        ignore_index = 3
    else:
        target, ignore_index = rng.dirichlet(numpy.ones(5), (4, *rest)), -100
        target = numpy.ascontiguousarray(numpy.moveaxis(target, -1, 1))
    weights = numpy.ones(5) if weight is None else weight
    expected = plain_cross_entropy(logits, target, weights, ignore_index, reduction, smoothing)

    def loss(logits, target=target):
        return F.cross_entropy(
            logits,
            target,
            weight,
            ignore_index=ignore_index,
            reduction=reduction,
            label_smoothing=smoothing,
        )

    numpy.testing.assert_allclose(loss(Tensor(logits)).data, expected, rtol=1e-12)
    numpy.testing.assert_allclose(loss(logits, Tensor(target)).data, expected, rtol=1e-12)
    check_grads(loss, (logits,), order=2)
    if kind == "probabilities":
        check_grads(loss, (logits, target), order=2)
    if kind == "classes" and not smoothing:
        nll = F.nll_loss(F.log_softmax(logits, 1), target, weight, ignore_index=3, reduction=reduction)
        numpy.testing.assert_allclose(nll, expected, rtol=1e-12)


def test_cross_entropy_agrees_with_published_numbers():
    """Numbers printed by PyTorch 2.13 (float64) for the same call."""
    logits = Tensor(numpy.array([[1.0, 2, 3], [0, -1, 4], [2, 2, 2]]), requires_grad=True)
    loss = F.cross_entropy(logits, [2, 0, -100], [1.0, 2, 3], label_smoothing=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(1.392747642152713, rel=1e-14)
    expected = [
        [0.046354734552599655, 0.13797659640502505, -0.18433133095762477],
        [-0.21130627210557532, -0.03136135437774061, 0.24266762648331594],
        [0, 0, 0],
    ]
    numpy.testing.assert_allclose(logits.grad.data, expected, rtol=1e-13)


def test_cross_entropy_of_one_element(rng):
    logits = rng.standard_normal(5)
    expected = math.log(numpy.exp(logits).sum()) - logits[2]
    assert F.cross_entropy(Tensor(logits), 2).item() == pytest.approx(expected, rel=1e-14)
    assert F.cross_entropy(Tensor(logits), numpy.int64(2), reduction="none").shape == ()


def test_cross_entropy_gradient_is_softmax_minus_target(rng):
    logits = Tensor(rng.standard_normal((4, 5)), requires_grad=True)
    labels = numpy.array([0, 1, 4, 4])
    F.cross_entropy(logits, labels).backward()
    expected = (F.softmax(logits.detach()).data - numpy.eye(5)[labels]) / 4
    numpy.testing.assert_allclose(logits.grad.data, expected, atol=1e-16)


def test_cross_entropy_of_extreme_logits():
    logits = Tensor(numpy.float32([[1e4, 0, -1e4], [3e38, -3e38, 0], [-math.inf, 0, 1]]), requires_grad=True)
    with warnings.catch_warnings():
        # 3e38 - -3e38 is infinite in float32: that log-probability is -inf indeed.
        warnings.filterwarnings("ignore", "overflow", RuntimeWarning)
        losses = F.cross_entropy(logits, [1, 0, 2], reduction="none")
    assert losses.dtype == numpy.float32
    numpy.testing.assert_allclose(losses.data, [1e4, 0, math.log1p(math.exp(-1))], rtol=1e-6)
    losses.sum().backward()
    assert logits.grad.dtype == numpy.float32
    third = 1 / (1 + math.e)
    numpy.testing.assert_allclose(logits.grad.data, [[1, -1, 0], [0, 0, 0], [0, third, -third]], atol=1e-6)


def test_impossible_classes_do_not_disturb_other_targets():
    logits = Tensor(numpy.array([[-math.inf, 0, 0], [-math.inf, 1, 1]]), requires_grad=True)
    loss = F.cross_entropy(logits, [1, -100])
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), rel=1e-15)
    numpy.testing.assert_allclose(logits.grad.data, [[0, -0.5, 0.5], [0, 0, 0]], rtol=1e-15)


def test_the_mean_of_nothing_is_nan():
    with pytest.warns(RuntimeWarning, match="invalid value"):
        loss = F.cross_entropy(Tensor(numpy.ones((2, 3))), [-100, -100])
    assert math.isnan(loss.item())
    assert F.cross_entropy(Tensor(numpy.ones((2, 3))), [-100, -100], reduction="sum").item() == 0


DIFFERENCES = {
    "mse_loss": ({}, lambda d: d**2),
    "l1_loss": ({}, abs),
    "smooth_l1_loss": ({"beta": 0.6}, lambda d: d**2 / 1.2 if abs(d) < 0.6 else abs(d) - 0.3),
    "huber_loss": ({"delta": 0.6}, lambda d: d**2 / 2 if abs(d) < 0.6 else 0.6 * (abs(d) - 0.3)),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_losses_of_differences(name, rng):
    keywords, formula = DIFFERENCES[name]
    loss = getattr(F, name)
    x, y = rng.standard_normal((3, 4)), rng.standard_normal((3, 4))
    x[0, 0] = y[0, 0] + 0.001
    expected = numpy.vectorize(formula)(x - y)
    numpy.testing.assert_allclose(loss(Tensor(x), y, reduction="none", **keywords).data, expected, rtol=1e-12)
    numpy.testing.assert_allclose(loss(x, Tensor(y), reduction="sum", **keywords).data, expected.sum(), rtol=1e-13)
    numpy.testing.assert_allclose(loss(x, y, **keywords), expected.mean(), rtol=1e-13)
    check_grads(lambda x, y: loss(x, y, **keywords), (x, y), order=2)
    tied = Tensor(y.astype(numpy.float32), requires_grad=True)
    total = loss(tied, tied.detach(), **keywords)
    total.backward()
    assert total.dtype == tied.grad.dtype == numpy.float32
    assert not tied.grad.data.any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_binary_cross_entropy_with_logits(reduction, rng):
    x, target = rng.standard_normal((3, 4)), rng.random((3, 4))
    weight, positive = rng.random(4), rng.uniform(0.5, 2, 4)
    p = logistic(x)
    loss = F.binary_cross_entropy_with_logits
    for w, k in [(None, None), (weight, positive)]:
        losses = -(1 if k is None else k) * target * numpy.log(p) - (1 - target) * numpy.log(1 - p)
        losses = losses * (1 if w is None else w)
        expected = {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]
        numpy.testing.assert_allclose(loss(Tensor(x), target, w, reduction, k).data, expected, rtol=1e-12)
    check_grads(lambda x, t: loss(x, t, weight, reduction, positive), (x, target), order=2)


def test_binary_cross_entropy_with_logits_in_the_tails():
    x = numpy.array([-1000.0, -40, 40, 1000])
    small = math.exp(-40)
    loss = F.binary_cross_entropy_with_logits
    for target, expected in [(0, [0, small, 40, 1000]), (1, [1000, 40, small, 0])]:
        numpy.testing.assert_allclose(loss(x, numpy.full(4, float(target)), reduction="none"), expected, rtol=1e-15)


# Errors

X = numpy.ones((2, 3))
NCHW = numpy.ones((2, 3, 4, 4))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.relu("no"), TypeError, "relu: x must be a tensor or an array of real numbers, got 'no'"),
        (lambda: F.sigmoid(None), TypeError, "sigmoid: x must be .* got None"),
        (lambda: F.tanh(numpy.ones(2, complex)), TypeError, "tanh: x must be .* got array"),
        (lambda: F.relu(numpy.ma.ones(3)), TypeError, "relu: x must be .* got masked_array"),
        (lambda: F.leaky_relu(X, "a"), TypeError, "leaky_relu: negative_slope must be a number, got 'a'"),
        (lambda: F.elu(X, True), TypeError, "elu: alpha must be a number, got True"),
        (lambda: F.hardtanh(X, 1, 1), ValueError, "hardtanh: min_val must be less than max_val, got 1 and 1"),
        (lambda: F.softplus(X, 0), ValueError, "softplus: beta must not be 0"),
        (lambda: F.gelu(X, "exact"), ValueError, "gelu: approximate must be 'none' or 'tanh', got 'exact'"),
        (lambda: F.softmax(X, 2), ValueError, r"softmax: dim must name an axis of x, whose shape is \(2, 3\), got 2"),
        (lambda: F.softmax(X, 1.0), TypeError, "softmax: dim must be an integer, got 1.0"),
        (lambda: F.log_softmax(X[:, :0]), ValueError, "log_softmax: x must not be empty along dim -1"),
        (lambda: F.one_hot([0, 3], 3), ValueError, "one_hot: labels must be classes from 0 to 2, got 3"),
        (lambda: F.one_hot([-1], 3), ValueError, "one_hot: labels must be classes from 0 to 2, got -1"),
        (lambda: F.one_hot([0.5]), TypeError, "one_hot: labels must be integers, got dtype float64"),
        (lambda: F.one_hot(numpy.zeros(0, int)), ValueError, "one_hot: num_classes must be given"),
        (lambda: F.elu(X, 10**400), ValueError, "elu: alpha must be finite, got 1000"),
        (lambda: F.relu([[1], [2, 3]]), TypeError, r"relu: x must be .* got \[\[1\], \[2, 3\]\]"),
        (lambda: F.linear(X, numpy.ones((4, 2))), ValueError, r"linear: x must have shape \(..., 2\), got \(2, 3\)"),
        (lambda: F.linear(X, X[0]), ValueError, r"linear: weight must be \(out_features, .* got shape \(3,\)"),
        (lambda: F.linear(X, numpy.ones((4, 3)), numpy.ones(3)), ValueError, r"linear: bias .*\(4,\), got \(3,\)"),
        (lambda: F.flatten(X, 1, 0), ValueError, "flatten: start_dim must not come after end_dim, got 1 and 0"),
        (lambda: F.flatten(X, 5), ValueError, "flatten: start_dim must name an axis .* got 5"),
        (lambda: F.dropout(X, 1.5), ValueError, "dropout: p must be between 0 and 1, got 1.5"),
        (lambda: F.dropout(X, math.nan), ValueError, "dropout: p must be between 0 and 1, got nan"),
        (lambda: F.dropout(X, rng="seed"), TypeError, "dropout: rng must be a numpy Generator, .* got 'seed'"),
        (lambda: F.dropout(X, rng=-1), ValueError, "dropout: rng must be a numpy Generator, .* got -1"),
        (lambda: F.batch_norm(X[0]), ValueError, r"batch_norm: x must have shape \(N, C, ...\), got \(3,\)"),
        (lambda: F.batch_norm(NCHW), ValueError, "batch_norm: running_mean and running_var must be given"),
        (lambda: F.batch_norm(NCHW, weight=X[0, :2], training=True), ValueError, r"weight .*\(3,\), got \(2,\)"),
        (
            lambda: F.batch_norm(NCHW, [0, 0, 0], [1, 1, 1]),
            TypeError,
            r"running_mean must be a floating tensor .*\[0, 0, 0\]",
        ),
        (
            lambda: F.batch_norm(NCHW, training=True, eps=-1),
            ValueError,
            "batch_norm: eps must be finite and at least 0, got -1",
        ),
        (lambda: F.layer_norm(X, 2), ValueError, r"layer_norm: normalized_shape .*\(2, 3\), got \(2,\)"),
        (lambda: F.layer_norm(X, 3, X), ValueError, r"layer_norm: weight must have shape \(3,\), got \(2, 3\)"),
        (lambda: F.cross_entropy(X, [0, 3]), ValueError, "cross_entropy: target must be classes from 0 to 2, got 3"),
        (lambda: F.cross_entropy(X, [0, -1]), ValueError, "cross_entropy: target must be classes .* got -1"),
        (lambda: F.cross_entropy(X, [0]), ValueError, r"cross_entropy: target must have shape \(2,\), got \(1,\)"),
        (lambda: F.cross_entropy(X, [0.0, 1.0]), ValueError, r"cross_entropy: target must have shape \(2, 3\)"),
        (
            lambda: F.cross_entropy(X, [True, False]),
            TypeError,
            "cross_entropy: target must be integers, got dtype bool",
        ),
        (lambda: F.cross_entropy(X, [0, 1], [1.0]), ValueError, r"cross_entropy: weight must have shape \(3,\)"),
        (lambda: F.cross_entropy(X, [0, 1], reduction="avg"), ValueError, "cross_entropy: reduction .* got 'avg'"),
        (lambda: F.cross_entropy(X, [0, 1], label_smoothing=2), ValueError, "label_smoothing must be between .* got 2"),
        (lambda: F.cross_entropy(numpy.float64(1), 0), ValueError, r"cross_entropy: input must be \(C,\)"),
        (lambda: F.cross_entropy(X[:, :0], [0, 0]), ValueError, "cross_entropy: input must be .* with C > 0"),
        (lambda: F.nll_loss(X, [3, 0]), ValueError, "nll_loss: target must be classes from 0 to 2, got 3"),
        (lambda: F.mse_loss(X, X[:, :1]), ValueError, r"mse_loss: target must have shape \(2, 3\), got \(2, 1\)"),
        (lambda: F.l1_loss(X, X, "max"), ValueError, "l1_loss: reduction must be 'mean', 'sum' or 'none', got 'max'"),
        (lambda: F.huber_loss(X, X, delta=0), ValueError, "huber_loss: delta must be positive, got 0"),
        (lambda: F.smooth_l1_loss(X, X, beta=-1), ValueError, "smooth_l1_loss: beta must be positive, got -1"),
        (
            lambda: F.cross_entropy(X, [0, 1], ignore_index=[1]),
            TypeError,
            "cross_entropy: ignore_index must be an integer",
        ),
        (
            lambda: F.binary_cross_entropy_with_logits(X, X, numpy.ones(2)),
            ValueError,
            r"logits: weight must broadcast to shape \(2, 3\), got \(2,\)",
        ),
        (lambda: F.binary_cross_entropy_with_logits(X, X[0]), ValueError, r"logits: target .*\(2, 3\), got \(3,\)"),
    ],
)
def test_errors_name_function_argument_and_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_is_recorded_without_gradients(rng):
    x = Tensor(rng.standard_normal((3, 4)), requires_grad=True)
    with no_grad():
        assert not F.cross_entropy(F.gelu(x), [0, 1, 2]).requires_grad
    assert F.cross_entropy(F.gelu(x), [0, 1, 2]).requires_grad
