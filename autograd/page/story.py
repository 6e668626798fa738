"""What the page tells of a training run: the lens turned on it, section by section.

Every function here returns one section as a dict of numbers, sentences and arrays. Whatever must add up is checked by
the lens, or here, when it is computed: a section that exists is right, and one that is not raises `LensError`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__, lens, nn
from ..conv import conv2d_weight
from ..data import ImageDataset, batches
from ..functional import cross_entropy
from ..learn import ACTIVATIONS, Learned
from ..lens.checks import require_close, rounding
from ..lens.observe import Loss
from ..optim import SGD

Array = NDArray[Any]
Section = dict[str, Any]

LAYER, NEXT = "conv1", "conv2"
LABELS = {"relu": "ReLU", "leaky_relu": "Leaky ReLU", "gelu": "GELU", "identity": "the identity"}

CUT_OFF = -1000  # a bias that no map survives, where large negative numbers become 0

UPDATE = "\N{MINUS SIGN}rate \N{MULTIPLICATION SIGN} gradient"

# So much goes into a page, whatever the size of the images: its size and the time it takes stay the same.
LEDGER_POSITIONS = 32 * 28 * 28
PROBE_PIXELS = 4 * 28 * 28  # in the batch with which single weights are probed, again and again
FILM_NUMBERS = 64 * 16 * 7 * 7
MAP_NUMBERS = 2 * 16 * 28 * 28


def tell(learned: Learned, data: ImageDataset, steps: int = 200, on_section: Callable[[str], None] = print) -> Section:
    """The story of a run: what `autograd.page.write_page` takes.

    data: what the network was trained on. steps: the length of the short trainings in which networks are compared.
    on_section: called with what is computed next.
    """
    told: Section = {}
    for name, section in {
        "run": _run,
        "film": _film,
        "ledger": _ledger,
        "dense": _dense,
        "numeric": _numeric,
        "slices": _slices,
        "activation": _activation,
        "saturation": _saturation,
        "specialisation": _specialisation,
        "pooling": _pooling,
        "chain": _chain,
    }.items():
        on_section(name)
        told[name] = section(learned, data)
    for name, comparison in {"lockstep": _lockstep, "controls": _controls}.items():
        on_section(name)
        told[name] = comparison(learned, data, steps)
    return told


def _run(learned: Learned, data: ImageDataset) -> Section:
    layer = learned.layer
    return {
        "version": __version__,
        "source": data.source,
        "classes": list(data.class_names),
        "images": len(learned.images),
        "held_out": len(learned.test_images),
        "steps": len(learned.losses),
        "batch": learned.batch_size,
        "learning_rate": learned.learning_rate,
        "seed": learned.seed,
        "activation": learned.activation,
        "activation_label": _label(learned.activation),
        "accuracy": learned.epochs[-1].accuracy,
        "seconds": sum(epoch.seconds for epoch in learned.epochs),
        "recording": learned.recording,
        "filters": layer.out_channels,
        "channels": layer.in_channels,
        "kernel": layer.kernel_size,
        "padding": [(size - 1) // 2 for size in layer.kernel_size],
        "weights": layer.weight.size,
    }


def _label(activation: str) -> str:
    return LABELS.get(activation, activation)


def _film(learned: Learned, data: ImageDataset) -> Section:
    reel = learned.film[f"{LAYER}.weight"]
    everything = [learned.film[f"{name}.weight"] for name in lens.convolutions(learned.model)]
    count = min(len(reel.steps), max(8, FILM_NUMBERS // reel.start.size))
    frames = np.unique(np.linspace(0, len(reel.steps) - 1, count).astype(int))
    require_close("film", "the last frame is the filters as they are", reel.end, learned.layer.weight.data, 0)
    return {
        "steps": np.append(reel.steps[frames], len(learned.losses)),
        "rates": reel.lr[frames],
        "weights": np.concatenate([reel.before[frames], reel.end[None]]),
        "gradients": reel.gradient[frames],
        "updates": reel.update[frames],
        "losses": np.array(learned.losses, np.float32),
        "example": _example(reel),
        "discrepancy": max(reel.discrepancy for reel in everything),
        "check": (
            f"For all {sum(r.start.size for r in everything):,} weights of the {sum(len(r.start) for r in everything)} "
            f"filters of both convolutions: end \N{MINUS SIGN} start = the sum of {UPDATE} "
            f"over {len(learned.losses):,} steps, to within "
            f"{max(r.discrepancy for r in everything):.1e}; the first layer's are still at address "
            f"{reel.address:#x}, as at the start."
        ),
        **_momentum(learned, data),
    }


def _example(reel: lens.Reel) -> Section:
    """The middle weight of the filter that moved most."""
    filter = int(np.argmax(np.square(reel.moved).sum(axis=(1, 2, 3))))
    place = (filter, 0, *(size // 2 for size in reel.start.shape[2:]))
    assert reel.sum_from_gradient is not None
    return {
        "filter": filter,
        "start": float(reel.start[place]),
        "moved": float(reel.sum_from_gradient[place]),
        "end": float(reel.end[place]),
    }


def _momentum(learned: Learned, data: ImageDataset, steps: int = 60) -> Section:
    """The first steps of the same training with momentum: how long the two parts of every filter's update are."""
    model = learned.fresh()
    optimizer = SGD(model.parameters(), lr=learned.learning_rate / 4, momentum=0.9)
    film = lens.Film(optimizer, {"filters": lens.convolutions(model)[LAYER].weight})
    for x, labels in _batches(learned, data, steps):
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()
        film.step()
    reel = film["filters"]
    assert reel.from_gradient is not None
    assert reel.from_momentum is not None
    return {
        "momentum_steps": steps,
        "momentum_check": (
            f"At each of {steps} steps the update is {UPDATE} plus the part from earlier "
            f"steps; all parts together are the way the filters went, to within {reel.discrepancy:.1e}."
        ),
        "momentum": {
            "steps": reel.steps,
            "gradient": _lengths(reel.from_gradient).T,
            "momentum": _lengths(reel.from_momentum).T,
        },
    }


def _lengths(parts: Array) -> Array:
    """The Euclidean length of every filter's part: (F, O, C, kh, kw) -> (F, O)."""
    lengths: Array = np.sqrt(np.square(parts).sum(axis=(2, 3, 4)))
    return lengths


def _ledger(learned: Learned, data: ImageDataset) -> Section:
    count = max(1, LEDGER_POSITIONS // (learned.images.shape[2] * learned.images.shape[3]))
    images, loss = _batch(learned, data, count)
    layer = learned.layer
    step = lens.activation_step(loss, layer, learned.module("act1"))
    for filter in range(layer.out_channels):  # one ledger a filter is looked at here, and each on the page when drawn
        ledger = lens.tap_ledger(loss, layer, (filter, 0, *(size // 2 for size in layer.kernel_size)), top=0)
        require_close("ledger", "the ledger's gradient", ledger.gradient, step.filter_gradient[ledger.weight], 0)
    # The sum of the absolute values of the terms, which is what rounding is relative to.
    filters, channels, kh, kw = layer.weight.shape
    magnitude = conv2d_weight(
        np.abs(images), (filters, channels, kh, kw), np.abs(step.gradient_before), padding=layer.padding
    )
    return {
        "pixels": images,
        "upstream": step.gradient_before,
        "gradient": step.filter_gradient,
        "tolerance": rounding(step.gradient_before[:, 0].size, magnitude.astype(np.float64), np.float32),
    }


def _dense(learned: Learned, data: ImageDataset) -> Section:
    """The first filter as a dense matrix, on a cut from the middle of the first image that holds it 4 x 4 times."""
    kh, kw = learned.layer.kernel_size
    layer = nn.Conv2d(learned.layer.in_channels, 1, (kh, kw), bias=False, dtype=np.float64)
    layer.weight.data[...] = learned.layer.weight.data[:1]
    size = min(kh + 3, *learned.images.shape[2:])
    top, left = ((extent - size) // 2 for extent in learned.images.shape[2:])
    tie = lens.dense_tie(layer, learned.images[:1, :, top : top + size, left : left + size].astype(np.float64))
    return {
        "size": size,
        "connections": tie.connections,
        "weights": tie.weights,
        "matrix": tie.matrix,
        "ties": tie.ties,
        "dense_gradient": tie.dense_gradient,
        "direct": tie.filter_gradient.ravel(),
        "tolerance": tie.tolerance,
    }


def _numeric(learned: Learned, data: ImageDataset) -> Section:
    """In float64, where central differences are worth looking at."""
    model, loss = _probe(learned, data)
    weight = lens.convolutions(model)[LAYER].weight
    found = [lens.numeric_gradient(loss, weight, filter) for filter in range(len(weight.data))]
    largest = np.unravel_index(np.argmax(np.abs([one.analytic for one in found])), weight.shape)
    curve = lens.error_curve(loss, weight, tuple(map(int, largest)))
    numeric_seconds = sum(one.numeric_seconds for one in found)
    chain_seconds = float(np.median([one.forward_seconds + one.backward_seconds for one in found]))
    return {
        "analytic": np.stack([one.analytic for one in found]),
        "numeric": np.stack([one.numeric for one in found]),
        "epsilon": found[0].epsilon,
        "forwards": sum(one.forwards for one in found),
        "numeric_seconds": numeric_seconds,
        "chain_seconds": chain_seconds,
        "speedup": numeric_seconds / chain_seconds,
        "curve": {"epsilons": curve.epsilons, "error": curve.error, "best": curve.best_epsilon},
    }


def _slices(learned: Learned, data: ImageDataset) -> Section:
    model, loss = _probe(learned, data)
    weight = lens.convolutions(model)[LAYER].weight
    rate = learned.learning_rate
    found = [lens.loss_slice(loss, weight, index, rate, points=9) for index in np.ndindex(weight.shape)]
    return {
        "weights": np.reshape([one.weights for one in found], (*weight.shape, -1)).astype(np.float32),
        "losses": np.reshape([one.losses for one in found], (*weight.shape, -1)).astype(np.float32),
        "slopes": np.reshape([one.slope for one in found], weight.shape),
        "now": np.reshape([one.weight for one in found], weight.shape),
        "next": np.reshape([one.next_weight for one in found], weight.shape),
        "next_loss": np.reshape([one.next_loss for one in found], weight.shape),
        "loss": found[0].loss,
        "rate": rate,
    }


def _activation(learned: Learned, data: ImageDataset) -> Section:
    height, width = learned.images.shape[2:]
    count = max(1, MAP_NUMBERS // (learned.layer.out_channels * height * width))
    images, loss = _batch(learned, data, count)
    step = lens.activation_step(loss, learned.layer, learned.module("act1"))
    return {
        "images": images,
        "before": step.before,
        "after": step.after,
        "slope": step.slope,
        "gradient_after": step.gradient_after,
        "gradient_before": step.gradient_before,
        "cases": _zero_cases(learned, data),
        "check": (
            f"The gradient before {_label(learned.activation)} is the gradient after it times its slope, at all "
            f"{step.before.size:,} places; the filters have the same bits before and after the run."
        ),
    }


def _zero_cases(learned: Learned, data: ImageDataset) -> list[Section]:
    """A filter of zeros, and one whose map is cut off by its bias, beside one as it was learned."""
    altered = copy.deepcopy(learned)
    layer = altered.layer
    assert layer.bias is not None
    layer.weight.data[0] = 0
    layer.bias.data[0] = 0
    layer.bias.data[1] = CUT_OFF
    _, loss = _batch(altered, data, 32)
    step = lens.activation_step(loss, layer, altered.module("act1"))
    names = ("0, set to zeros", f"1, its bias set to {CUT_OFF}", "2, as it was learned")
    return [
        {
            "name": name,
            "filter_is_zero": bool(step.filter_is_zero[i]),
            "map_is_zero": bool(step.map_is_zero[i]),
            "gradient_is_zero": bool(step.gradient_is_zero[i]),
        }
        for i, name in enumerate(names)
    ]


def _saturation(learned: Learned, data: ImageDataset) -> Section:
    found = lens.saturation(learned.model, learned.layer, learned.module("act1"), learned.test_images, data.test_labels)
    cut = copy.deepcopy(learned)
    assert cut.layer.bias is not None
    cut.layer.bias.data[1] = CUT_OFF
    dead = lens.saturation(cut.model, cut.layer, cut.module("act1"), cut.test_images, data.test_labels)
    state = "dead" if dead.dead[1] else "not dead under this activation"
    bins = np.linspace(0, 1, 21)
    return {
        "zeros_by_position": found.zeros_by_position.astype(np.float32),
        "histogram": np.stack([np.histogram(shares, bins)[0] for shares in found.zeros_by_image.T]),
        "zeros": found.zeros,
        "saturated": found.saturated,
        "dead": found.dead,
        "gradient_norm": found.gradient_norm,
        "share_zero": float(found.zeros.mean()),
        "dead_count": int(found.dead.sum()),
        "check": (
            f"{int(found.dead.sum())} of {len(found.dead)} filters are dead over {len(data.test_labels):,} held-out "
            f"images. For comparison filter 1 with its bias set to {CUT_OFF}: {state}, and its gradient over the whole "
            f"set has the length {dead.gradient_norm[1]:g}; with its own bias it has {found.gradient_norm[1]:.3g}."
        ),
    }


def _specialisation(learned: Learned, data: ImageDataset) -> Section:
    model, layer, images, labels = learned.model, learned.layer, learned.test_images, data.test_labels
    best = lens.top_patches(model, layer, images, k=9)
    classes = lens.class_selectivity(model, learned.module("act1"), images, labels, classes=len(data.class_names))
    tuning = lens.orientation_tuning(model, layer, images.shape[1:])
    removed = lens.ablation(model, layer, images, labels)
    reel = learned.film[f"{LAYER}.weight"]
    distance = lens.distance_from_start(reel.start, reel.end)
    worst = int(np.argmax(removed.losses))
    return {
        "patches": best.patches.astype(np.float32),
        "response": best.response,
        "means": classes.means,
        "preferred": classes.preferred,
        "angles": np.degrees(tuning.angles),
        "tuning": tuning.tuning,
        "orientation": np.degrees(tuning.preferred),
        "similarity": lens.filter_similarity(layer),
        "ablation": removed.losses - removed.loss,
        "distance": distance.relative,
        "check": (
            f"With all filters the held-out loss is {removed.loss:.4f} and the accuracy {removed.accuracy:.1%}; "
            f"without filter {worst}, the one that is missed most, {removed.losses[worst]:.4f} and "
            f"{removed.accuracies[worst]:.1%}. The best patches, convolved again one by one, give the responses that "
            "ranked them."
        ),
    }


def _pooling(learned: Learned, data: ImageDataset) -> Section:
    _, loss = _batch(learned, data, 1)
    pool = learned.module("pool1")
    assert isinstance(pool, nn.MaxPool2d)
    routes = lens.pooling_routes(loss, pool)
    tied = np.zeros(routes.input.shape, bool)
    image, channel = np.indices(routes.row.shape)[:2]
    tied[image, channel, routes.row, routes.column] = routes.ties > 1
    windows = routes.row.size
    return {
        "input": routes.input[0],
        "wins": routes.wins[0],
        "tied": tied[0],
        "gradient_output": routes.gradient_output[0],
        "gradient_input": routes.gradient_input[0],
        "check": (
            f"{windows:,} windows, {int((routes.ties > 1).sum()):,} of them with a tie. The gradients sent to the "
            "winners, and 0 elsewhere, are the gradient in front of the pooling, bit for bit: "
            f"{int(np.count_nonzero(routes.gradient_input)):,} of its {routes.gradient_input.size:,} numbers are not 0."
        ),
    }


def _chain(learned: Learned, data: ImageDataset) -> Section:
    images, loss = _batch(learned, data, 8)
    links = lens.chain_path(loss, learned.layer.weight)
    exact = sum(link.exact for link in links)
    difference = lens.composite_difference(learned.layer, images)
    return {
        "images": len(images),
        "links": [
            {
                "operation": link.operation,
                "rule": link.rule,
                "shape": " \N{MULTIPLICATION SIGN} ".join(map(str, link.shape)) or "a number",
                "norm": link.norm,
                "sample": np.asarray(link.sample, float)[:3].tolist(),
                "exact": "exact" if link.exact else "",
                "paths": link.paths,
            }
            for link in links
        ],
        "composite": [
            _ulps(name, part)
            for name, part in {
                "output": difference.output,
                "gradient of the input": difference.input_gradient,
                "gradient of the filters": difference.filter_gradient,
            }.items()
        ],
        "check": f"{len(links)} operations from the loss to the filters; {exact} rules, run alone, gave the same bits.",
    }


def _ulps(name: str, part: lens.Comparison) -> Section:
    return {
        "name": name,
        "count": part.ulps.size,
        "same": float(np.mean(part.ulps == 0)),
        "median": float(np.median(part.ulps)),
        "of_terms": float(part.ulps_of_terms.max()),
    }


def _lockstep(learned: Learned, data: ImageDataset, steps: int) -> Section:
    models: dict[str, nn.Module] = {name: learned.fresh(name) for name in ACTIVATIONS}
    found = lens.lockstep(
        models,
        LAYER,
        "act1",
        learned.images,
        data.train_labels,
        learned.test_images,
        data.test_labels,
        steps=steps,
        batch_size=learned.batch_size,
        lr=learned.learning_rate,
        seed=learned.seed,
        every=max(1, steps // 8),
    )
    rows = zip(
        found.names, found.accuracy[:, -1], found.zeros[:, -1], found.saturated[:, -1], found.dead[:, -1], strict=True
    )
    return {
        "names": list(found.names),
        "steps": found.steps,
        "total_steps": steps,
        "accuracy": found.accuracy,
        "filters": found.filters[:, -1],
        "rows": [
            dict(zip(("name", "accuracy", "zeros", "saturated", "dead"), (row[0], *map(float, row[1:])), strict=True))
            for row in rows
        ],
        "check": f"The {len(models)} networks start with the same bits in every parameter, and see the same batches.",
    }


def _controls(learned: Learned, data: ImageDataset, steps: int) -> Section:
    training: dict[str, Any] = {
        "steps": steps,
        "batch_size": learned.batch_size,
        "lr": learned.learning_rate,
        "seed": learned.seed,
    }
    start = learned.fresh()
    twins = lens.symmetry(start, LAYER, NEXT, learned.images, data.train_labels, **training)
    frozen = lens.frozen_filters(
        start, LAYER, learned.images, data.train_labels, learned.test_images, data.test_labels, **training
    )
    return {
        "steps": steps,
        "distance": twins.distance,
        "control": twins.control,
        "twins": twins.filters,
        "accuracies": {
            "untrained": frozen.start_accuracy,
            "frozen random filters": frozen.frozen_accuracy,
            "learned filters": frozen.learned_accuracy,
        },
        "frozen": frozen.frozen,
        "learned": frozen.learned,
        "check": (
            f"In {steps} steps the twins' weights moved by up to {twins.moved:.3f}, and their largest distance "
            f"was {twins.distance.max():g}. The frozen filters end with the bits they began with; accuracy "
            f"{frozen.frozen_accuracy:.1%} with them, {frozen.learned_accuracy:.1%} with filters that learn."
        ),
    }


def _batch(learned: Learned, data: ImageDataset, count: int) -> tuple[Array, Loss]:
    """The first training images, and the loss of the network on them."""
    images, labels = learned.images[:count], data.train_labels[:count]
    return images, lambda: cross_entropy(learned.model(images), labels)


def _probe(learned: Learned, data: ImageDataset) -> tuple[nn.Sequential, Loss]:
    """A copy of the network in float64, and its loss on a few images: for what runs it thousands of times."""
    model = copy.deepcopy(learned.model).double()
    count = max(1, PROBE_PIXELS // (learned.images.shape[2] * learned.images.shape[3]))
    images, labels = learned.images[:count].astype(np.float64), data.train_labels[:count]
    return model, lambda: cross_entropy(model(images), labels)


def _batches(learned: Learned, data: ImageDataset, steps: int) -> Any:
    """The first batches of the training."""
    loader = batches(learned.images, data.train_labels, batch_size=learned.batch_size, rng=learned.seed)
    return itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps)
