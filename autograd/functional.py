"""What networks are made of: activations, normalisation, losses, and convolution and pooling under the same roof.

Every function defined here is a composition of differentiable NumPy functions and has no rule of its own: its gradient,
of any order, is what the chain rule makes of it. Names, arguments and defaults are PyTorch's. All take tensors or
arrays, stay in float32 when all of them are, and raise ValueError (a wrong value) or TypeError (a wrong kind) naming
the function, the argument and the value.

Where a formula would overflow or cancel, it is written so that it does not: exponentials are only taken of numbers that
are not positive. The element that softmax subtracts for that purpose cancels out of its result, so that it can be, and
is, a constant of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from . import numpy as np
from .arguments import choice, flag, generator, integer, number
from .conv import conv2d, conv2d_input, conv2d_weight, conv_transpose2d
from .pool import adaptive_avg_pool2d, adaptive_max_pool2d, avg_pool2d, lp_pool2d, max_pool2d, max_unpool2d
from .special import erf
from .tensor import Tensor

# fmt: off
__all__ = [
    "adaptive_avg_pool2d", "adaptive_max_pool2d", "avg_pool2d", "batch_norm", "binary_cross_entropy_with_logits",
    "conv2d", "conv2d_input", "conv2d_weight", "conv_transpose2d", "cross_entropy", "dropout", "elu", "flatten",
    "gelu", "hardtanh", "huber_loss", "identity", "l1_loss", "layer_norm", "leaky_relu", "linear", "log_softmax",
    "lp_pool2d", "max_pool2d", "max_unpool2d", "mse_loss", "nll_loss", "one_hot", "relu", "relu6", "sigmoid", "silu",
    "smooth_l1_loss", "softmax", "softplus", "tanh",
]
# fmt: on

# Activations


def identity(x: Any) -> Any:
    """x itself."""
    return x


def relu(x: Any) -> Any:
    """max(x, 0), with derivative 0 at 0; a NaN stays one. (Nair & Hinton 2010.)"""
    x = _operand("relu", "x", x)
    return np.where(x <= 0, 0, x)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where positive, else negative_slope * x; the derivative at 0 is negative_slope. (Maas et al. 2013.)"""
    x = _operand("leaky_relu", "x", x)
    return np.where(x > 0, x, x * number("leaky_relu", "negative_slope", negative_slope))


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where positive, else alpha * (exp(x) - 1). (Clevert et al. 2016.)"""
    x = _operand("elu", "x", x)
    below = np.where(x > 0, 0, x)
    return np.where(x > 0, x, np.expm1(below) * number("elu", "alpha", alpha))


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """x limited to [min_val, max_val]; the derivative is 0 at and beyond the limits."""
    x = _operand("hardtanh", "x", x)
    low, high = number("hardtanh", "min_val", min_val), number("hardtanh", "max_val", max_val)
    if low >= high:
        raise ValueError(f"hardtanh: min_val must be less than max_val, got {min_val} and {max_val}")
    return np.where(x <= low, low, np.where(x >= high, high, x))


def relu6(x: Any) -> Any:
    """x limited to [0, 6]."""
    return hardtanh(_operand("relu6", "x", x), 0.0, 6.0)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return np.tanh(_operand("tanh", "x", x))


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)), accurate to a few roundings in both tails."""
    x = _operand("sigmoid", "x", x)
    decay = _decay(x)
    return np.where(x < 0, decay, 1) / (decay + 1)


def _decay(x: Any) -> Any:
    """exp(-|x|), which does not overflow. At 0 its derivative is that of exp(-x)."""
    return np.exp(np.where(x < 0, x, -x))


def silu(x: Any) -> Any:
    """x * sigmoid(x), also called swish. (Elfwing et al. 2018.)"""
    x = _operand("silu", "x", x)
    return x * sigmoid(x)


def gelu(x: Any, approximate: str = "none") -> Any:
    """x * P(X <= x) for a standard normal X. (Hendrycks & Gimpel 2016.)

    approximate: 'none' for the definition, through erf, or 'tanh' for the authors' approximation
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))).
    """
    x = _operand("gelu", "x", x)
    if choice("gelu", "approximate", approximate, "none", "tanh") == "none":
        return x * (erf(x * math.sqrt(0.5)) * 0.5 + 0.5)
    return x * (np.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) * 0.5 + 0.5)


def softplus(x: Any, beta: float = 1.0) -> Any:
    """log(1 + exp(beta * x)) / beta, without overflow: PyTorch's threshold for the linear part is not needed."""
    beta = number("softplus", "beta", beta)
    if beta == 0:
        raise ValueError("softplus: beta must not be 0")
    x = _operand("softplus", "x", x) * beta
    return (np.where(x < 0, 0, x) + np.log1p(_decay(x))) / beta


# Probabilities


def softmax(x: Any, dim: int = -1) -> Any:
    """exp(x) / sum of exp(x) along `dim`: positive numbers that sum to 1."""
    e = np.exp(_below_largest("softmax", x, dim))
    return e / np.sum(e, axis=dim, keepdims=True)


def log_softmax(x: Any, dim: int = -1) -> Any:
    """The logarithm of `softmax`, accurate where the softmax itself underflows."""
    x = _below_largest("log_softmax", x, dim)
    return x - np.log(np.sum(np.exp(x), axis=dim, keepdims=True))


def _below_largest(function: str, x: Any, dim: int) -> Any:
    """x minus its largest element along `dim`."""
    x = _operand(function, "x", x)
    if not x.shape[_dimension(function, "dim", dim, x)]:
        raise ValueError(f"{function}: x must not be empty along dim {dim}, got shape {x.shape}")
    return x - np.max(_raw(x), axis=dim, keepdims=True)


def one_hot(labels: Any, num_classes: int = -1) -> Any:
    """int64 zeros of shape (*labels.shape, num_classes), but 1 at each label's place.

    num_classes: by default the largest label + 1.
    """
    values = _integers("one_hot", "labels", labels)
    num_classes = integer("one_hot", "num_classes", num_classes, least=-1)
    if num_classes == -1:
        if not values.size:
            raise ValueError("one_hot: num_classes must be given when there are no labels")
        num_classes = int(values.max()) + 1
    _check_labels("one_hot", "labels", values, num_classes)
    hot = (values[..., None] == np.arange(num_classes)).astype(np.int64)
    return Tensor(hot) if isinstance(labels, Tensor) else hot


# Layers


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias.

    x: (..., in_features); weight: (out_features, in_features); bias: (out_features,) or None.
    """
    x, weight = _operand("linear", "x", x), _operand("linear", "weight", weight)
    if weight.ndim != 2:
        raise ValueError(f"linear: weight must be (out_features, in_features), got shape {weight.shape}")
    if not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"linear: x must have shape (..., {weight.shape[1]}), got {x.shape}")
    y = x @ weight.T
    if bias is None:
        return y
    bias = _operand("linear", "bias", bias)
    _require_shape("linear", "bias", bias, weight.shape[:1])
    return y + bias


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """x with its axes from start_dim to end_dim, both included, made one."""
    x = _operand("flatten", "x", x)
    if not x.ndim:
        return np.reshape(x, 1)
    start, end = _dimension("flatten", "start_dim", start_dim, x), _dimension("flatten", "end_dim", end_dim, x)
    if start > end:
        raise ValueError(f"flatten: start_dim must not come after end_dim, got {start_dim} and {end_dim}")
    return np.reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def dropout(x: Any, p: float = 0.5, training: bool = True, rng: Any = None) -> Any:
    """x with each element set to 0 with probability p, the others divided by 1 - p. (Srivastava et al. 2014.)

    training: if false, x is returned as it is.
    rng: a `numpy.random.Generator`, which is advanced, or a seed; None draws fresh entropy.
    """
    x = _operand("dropout", "x", x)
    p = number("dropout", "p", p, 0, 1)
    if not flag("dropout", "training", training) or p == 0:
        return x
    # The mask is drawn in the order of the axes and stored in x's memory layout: the same for every layout of x.
    keep = np.empty_like(_raw(x), dtype=bool)
    keep[...] = generator("dropout", rng).random(x.shape, dtype=np.float32) >= p
    return np.where(keep, x, 0) * (1 / (1 - p) if p < 1 else 0.0)


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, one mean and variance a channel. (Ioffe & Szegedy 2015.)

    x: (N, C, ...); everything else is None or (C,).
    training: if true, mean and (biased) variance are those of the batch, and the running statistics, tensors or arrays
    that need no gradient, are moved towards them, in place, by the share `momentum` (the variance unbiased). Otherwise
    they are the running statistics.
    Raises ValueError for training on less than two values a channel.
    """
    x = _operand("batch_norm", "x", x)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: x must have shape (N, C, ...), got {x.shape}")
    eps, momentum = number("batch_norm", "eps", eps, least=0), number("batch_norm", "momentum", momentum, 0, 1)
    per_channel = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for argument, value in per_channel.items():
        if value is not None:
            if not isinstance(value, Tensor | np.ndarray) or value.dtype.kind != "f":
                raise TypeError(f"batch_norm: {argument} must be a floating tensor or array, got {value!r}")
            _require_shape("batch_norm", argument, value, x.shape[1:2])

    along = (1, -1, *[1] * (x.ndim - 2))  # the shape in which a value a channel meets x
    if flag("batch_norm", "training", training):
        count = math.prod(x.shape) // max(x.shape[1], 1)
        if count < 2:
            raise ValueError(f"batch_norm: training takes at least two values a channel, got x of shape {x.shape}")
        # Image by image first: float32 sums of many equally large terms lose accuracy with their number.
        mean = np.mean(_mean_of_images(x), axis=0)
        centred = x - np.reshape(mean, along)
        var = np.mean(_mean_of_images(centred * centred), axis=0)
        if running_mean is not None:
            running_mean += (_raw(mean) - _raw(running_mean)) * momentum
        if running_var is not None:
            running_var += (_raw(var) * (count / (count - 1)) - _raw(running_var)) * momentum
    elif running_mean is None or running_var is None:
        raise ValueError("batch_norm: running_mean and running_var must be given when not training")
    else:
        centred, var = x - np.reshape(running_mean, along), running_var
    scale = 1 / np.sqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    y = centred * np.reshape(scale, along)
    return y if bias is None else y + np.reshape(bias, along)


def _mean_of_images(x: Any) -> Any:
    """(N, C, ...) -> (N, C)."""
    return np.mean(x, axis=tuple(range(2, x.ndim)))


def layer_norm(
    x: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """(x - mean) / sqrt(var + eps) * weight + bias, over the last axes of each element. (Ba et al. 2016.)

    normalized_shape: the shape of x's last axes, which weight and bias, if given, share.
    """
    x = _operand("layer_norm", "x", x)
    sizes = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
    shape = tuple(integer("layer_norm", "normalized_shape", size) for size in sizes)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(f"layer_norm: normalized_shape must be the end of x's shape {x.shape}, got {shape}")
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    centred = x - np.mean(x, axis=axes, keepdims=True)
    y = centred / np.sqrt(
        np.mean(centred * centred, axis=axes, keepdims=True) + number("layer_norm", "eps", eps, least=0)
    )
    if weight is not None:
        weight = _operand("layer_norm", "weight", weight)
        _require_shape("layer_norm", "weight", weight, shape)
        y = y * weight
    if bias is not None:
        bias = _operand("layer_norm", "bias", bias)
        _require_shape("layer_norm", "bias", bias, shape)
        y = y + bias
    return y


# Losses


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """The cross-entropy of the distributions softmax(input) relative to the target.

    input: logits, (C,), (N, C) or (N, C, d1, ...).
    target: classes, integers of input's shape without C, or probabilities, floating of input's shape.
    weight: (C,), a factor for each class.
    ignore_index: a target class that does not count (for classes only).
    reduction: 'mean', 'sum' or 'none'. With target classes the mean is weighted, by the targets' weights.
    label_smoothing: this share of each target is spread evenly over all classes. (Szegedy et al. 2016.)
    """
    input = _operand("cross_entropy", "input", input)
    axis = _class_axis("cross_entropy", input)
    smoothing = number("cross_entropy", "label_smoothing", label_smoothing, 0, 1)
    log_probabilities = log_softmax(input, axis)
    classes = input.shape[axis]
    target = _operand("cross_entropy", "target", target)
    if target.dtype.kind == "f":
        _require_shape("cross_entropy", "target", target, input.shape)
        weighted = _weighted("cross_entropy", log_probabilities, weight, axis)
        losses = -np.sum(weighted * (target * (1 - smoothing) + smoothing / classes), axis=axis)
        return _reduced("cross_entropy", losses, reduction)
    losses, weights = _class_losses("cross_entropy", log_probabilities, target, weight, ignore_index)
    if smoothing:
        spread = -np.mean(_weighted("cross_entropy", log_probabilities, weight, axis), axis=axis)
        counted = _raw(target) != ignore_index
        losses = losses * (1 - smoothing) + np.where(counted, spread, 0) * smoothing
    return _reduced("cross_entropy", losses, reduction, weights)


def nll_loss(input: Any, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> Any:
    """Minus the log-probability of the target class; `cross_entropy` is this of `log_softmax`.

    input: log-probabilities, (C,), (N, C) or (N, C, d1, ...); target: classes, integers of input's shape without C.
    weight, ignore_index and reduction: as in `cross_entropy`.
    """
    input = _operand("nll_loss", "input", input)
    losses, weights = _class_losses("nll_loss", input, target, weight, ignore_index)
    return _reduced("nll_loss", losses, reduction, weights)


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """(input - target)**2. Both have one shape; reduction is 'mean', 'sum' or 'none'."""
    input, target = _pair("mse_loss", input, target)
    return _reduced("mse_loss", np.square(input - target), reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """|input - target|, with derivative 0 at 0. Both have one shape; reduction is 'mean', 'sum' or 'none'."""
    input, target = _pair("l1_loss", input, target)
    return _reduced("l1_loss", np.absolute(input - target), reduction)


def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Any:
    """The difference d of input and target as d**2 / (2 * beta) up to beta, as |d| - beta / 2 beyond."""
    if not (beta := number("smooth_l1_loss", "beta", beta)) > 0:
        raise ValueError(f"smooth_l1_loss: beta must be positive, got {beta}")
    input, target = _pair("smooth_l1_loss", input, target)
    return _reduced("smooth_l1_loss", _huber(input - target, beta) / beta, reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Any:
    """The difference d of input and target as d**2 / 2 up to delta, as delta * (|d| - delta / 2) beyond.

    (Huber 1964.)
    """
    if not (delta := number("huber_loss", "delta", delta)) > 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    input, target = _pair("huber_loss", input, target)
    return _reduced("huber_loss", _huber(input - target, delta), reduction)


def _huber(difference: Any, delta: float) -> Any:
    # The nearest point of [-delta, delta], c, makes both cases one formula: c * (d - c / 2).
    near = np.clip(difference, -delta, delta)
    return near * (difference - near * 0.5)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """-(pos_weight * target * log(p) + (1 - target) * log(1 - p)) * weight, where p = sigmoid(input).

    input: logits; target: probabilities of the same shape; weight, pos_weight: arrays that broadcast against them.
    """
    function = "binary_cross_entropy_with_logits"
    input, target = _pair(function, input, target)
    positive = target * softplus(-input)
    if pos_weight is not None:
        positive = positive * _broadcastable(function, "pos_weight", pos_weight, input.shape)
    losses = positive + (1 - target) * softplus(input)
    if weight is not None:
        losses = losses * _broadcastable(function, "weight", weight, input.shape)
    return _reduced(function, losses, reduction)


def _class_axis(function: str, input: Any) -> int:
    axis = 0 if input.ndim == 1 else 1
    if not input.ndim or not input.shape[axis]:
        raise ValueError(f"{function}: input must be (C,), (N, C) or (N, C, d1, ...) with C > 0, got {input.shape}")
    return axis


def _class_losses(function: str, log_probabilities: Any, target: Any, weight: Any, ignore_index: int) -> Any:
    """Minus the weighted log-probabilities of the target classes, 0 where ignored; and these weights."""
    axis = _class_axis(function, log_probabilities)
    shape = log_probabilities.shape
    labels = _integers(function, "target", target)
    ignore_index = integer(function, "ignore_index", ignore_index)
    _require_shape(function, "target", labels, (*shape[:axis], *shape[axis + 1 :]))
    counted = labels != ignore_index
    _check_labels(function, "target", labels[counted], shape[axis])
    labels = np.where(counted, labels, 0)
    picked = np.squeeze(np.take_along_axis(log_probabilities, np.expand_dims(labels, axis), axis), axis)
    weights = np.asarray(counted, dtype=log_probabilities.dtype)
    if weight is not None:
        weight = _operand(function, "weight", weight)
        _require_shape(function, "weight", weight, (shape[axis],))
        weights = weights * weight[labels]
    return np.where(counted, -picked, 0) * weights, weights


def _weighted(function: str, log_probabilities: Any, weight: Any, axis: int) -> Any:
    if weight is None:
        return log_probabilities
    weight = _operand(function, "weight", weight)
    _require_shape(function, "weight", weight, (log_probabilities.shape[axis],))
    return log_probabilities * np.reshape(weight, (-1, *[1] * (log_probabilities.ndim - axis - 1)))


def _reduced(function: str, losses: Any, reduction: str, weights: Any = None) -> Any:
    """The losses, their sum, or their mean, weighted if there are weights; the mean of nothing is NaN."""
    choice(function, "reduction", reduction, "mean", "sum", "none")
    if reduction == "none":
        return losses
    if reduction == "sum":
        return np.sum(losses)
    return np.mean(losses) if weights is None else np.sum(losses) / np.sum(weights)


def _pair(function: str, input: Any, target: Any) -> tuple[Any, Any]:
    """input and target, of one shape: broadcasting them is nearly always a mistake."""
    input, target = _operand(function, "input", input), _operand(function, "target", target)
    _require_shape(function, "target", target, input.shape)
    return input, target


# Arguments


def _raw(x: Any) -> Any:
    return x.data if isinstance(x, Tensor) else x


def _operand(function: str, argument: str, x: Any) -> Any:
    """x as a tensor or an array of real numbers."""
    if isinstance(x, Tensor):
        return x
    try:
        array = np.asarray(x)
    except ValueError:  # nested sequences of different lengths
        array = None
    if array is None or array.dtype.kind not in "fiub" or isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{function}: {argument} must be a tensor or an array of real numbers, got {x!r}")
    return array


def _integers(function: str, argument: str, x: Any) -> Any:
    array = np.asarray(_raw(_operand(function, argument, x)))
    if array.dtype.kind not in "iu":
        raise TypeError(f"{function}: {argument} must be integers, got dtype {array.dtype}")
    return array


def _dimension(function: str, argument: str, dim: Any, x: Any) -> int:
    """dim as the number of one of x's axes."""
    axis, ndim = integer(function, argument, dim), len(x.shape)
    if not -ndim <= axis < ndim:
        raise ValueError(f"{function}: {argument} must name an axis of x, whose shape is {x.shape}, got {dim}")
    return axis % ndim


def _require_shape(function: str, argument: str, array: Any, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{function}: {argument} must have shape {shape}, got {array.shape}")


def _broadcastable(function: str, argument: str, array: Any, shape: tuple[int, ...]) -> Any:
    array = _operand(function, argument, array)
    pairs = zip(reversed(array.shape), reversed(shape), strict=False)
    if len(array.shape) > len(shape) or any(n not in (1, m) for n, m in pairs):
        raise ValueError(f"{function}: {argument} must broadcast to shape {shape}, got {array.shape}")
    return array


def _check_labels(function: str, argument: str, labels: Any, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise ValueError(f"{function}: {argument} must be classes from 0 to {classes - 1}, got {wrong.flat[0]}")
