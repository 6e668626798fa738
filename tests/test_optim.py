"""`autograd.optim`: every update against the published formula written out in plain NumPy, state, errors, schedules."""

import math

import numpy as np
import pytest

from autograd import Tensor, no_grad, optim
from autograd import functional as F
from autograd.nn import Parameter

LR = 0.1


def sgd(p, gradients, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    velocity = None
    for g in gradients:
        g = g + weight_decay * p
        velocity = g if velocity is None else momentum * velocity + (1 - dampening) * g
        p = p - lr * (g + momentum * velocity if nesterov else velocity if momentum else g)
    return p


def adam(p, gradients, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled=False):
    m = v = np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        p, g = (p - lr * weight_decay * p, g) if decoupled else (p, g + weight_decay * p)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - lr * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


CASES = {
    "sgd": (optim.SGD, sgd, {"lr": LR}),
    "sgd, weight decay": (optim.SGD, sgd, {"lr": LR, "weight_decay": 0.1}),
    "sgd, momentum": (optim.SGD, sgd, {"lr": LR, "momentum": 0.9}),
    "sgd, dampening": (optim.SGD, sgd, {"lr": LR, "momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1}),
    "sgd, nesterov": (optim.SGD, sgd, {"lr": LR, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (optim.Adam, adam, {"lr": LR}),
    "adam, weight decay": (optim.Adam, adam, {"lr": LR, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "adamw": (
        optim.AdamW,
        lambda *args, **keywords: adam(*args, decoupled=True, **keywords),
        {"lr": LR, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.1},
    ),
}


def stepped(optimizer, p, gradients):
    for g in gradients:
        p.grad = Tensor(g)
        optimizer.step()
    return p.data


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(), (3, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_follow_the_formula_in_the_same_memory(case, shape, dtype, rng):
    optimizer, formula, settings = CASES[case]
    start = rng.standard_normal(shape).astype(dtype)
    gradients = [np.asarray(rng.standard_normal(shape)).astype(dtype)[()] for _ in range(5)]
    p = Parameter(np.array(start))
    memory = p.data
    result = stepped(optimizer([p], **settings), p, gradients)
    assert result.dtype == dtype
    if shape:
        assert p.data is memory
    # Five steps of a few float operations each, on numbers near 1.
    expected = formula(np.float64(start), [np.float64(g) for g in gradients], **settings)
    np.testing.assert_allclose(result, expected, rtol=50 * np.finfo(dtype).eps, atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("lr", [0.1, np.float64(0.1), 1])
def test_plain_sgd_subtracts_lr_times_the_gradient_to_the_bit(lr, rng):
    start, g = rng.standard_normal((2, 50)).astype(np.float32)
    p = Parameter(start.copy())
    stepped(optim.SGD([p], lr=lr), p, [g])
    assert p.dtype == np.float32
    np.testing.assert_array_equal(p.data, start - float(lr) * g)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("sgd", [2.0 * 0.8**t for t in range(1, 4)]),
        ("sgd, momentum", [1.6, 0.92, 0.124]),
        ("adam", [1.90000000025, 1.800166486115701, 1.700623392046465]),
    ],
)
def test_known_trajectories_on_a_parabola(case, expected):
    """f(p) = p**2 from p = 2: worked out by hand for SGD; for Adam, what PyTorch 2.13 printed."""
    optimizer, _, settings = CASES[case]
    p = Parameter(np.float64(2))
    opt = optimizer([p], **settings)
    reached = []
    for _ in expected:
        opt.zero_grad()
        (p * p).backward()
        opt.step()
        reached.append(p.item())
    np.testing.assert_allclose(reached, expected, rtol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_every_optimiser_reaches_the_minimum(case, rng):
    optimizer, _, settings = CASES[case]
    target = rng.standard_normal(4)
    p = Parameter(np.zeros(4))
    opt = optimizer([p], **{**settings, "weight_decay": 0.0, "lr": 0.05})
    schedule = optim.CosineAnnealingLR(opt, T_max=300)
    for _ in range(300):
        opt.zero_grad()
        F.mse_loss(p, target, "sum").backward()
        opt.step()
        schedule.step()
    np.testing.assert_allclose(p.data, target, atol=1e-3)


def test_parameters_without_gradient_are_left_alone():
    used, unused, frozen = Parameter(np.ones(2)), Parameter(np.ones(2)), Parameter(np.ones(2), requires_grad=False)
    opt = optim.AdamW([used, unused, frozen])
    (used * 2).sum().backward()
    opt.step()
    assert (used.data != 1).all()
    assert unused.tolist() == frozen.tolist() == [1, 1]
    opt.zero_grad()
    assert used.grad is None
    before = used.tolist()
    opt.step()
    assert used.tolist() == before


def test_gradients_are_not_changed():
    p = Parameter(np.ones(3))
    g = np.array([1.0, 2.0, 3.0])
    for case in CASES:
        optimizer, _, settings = CASES[case]
        stepped(optimizer([p], **settings), p, [g, g])
        assert g.tolist() == [1, 2, 3]


def test_groups_have_settings_of_their_own():
    a, b = Parameter(np.ones(2)), Parameter(np.ones(2))
    opt = optim.SGD([{"params": [a], "lr": 0.5}, {"params": b}], lr=0.1)
    (a + b).sum().backward()
    opt.step()
    assert a.tolist() == [0.5, 0.5]
    assert b.tolist() == [0.9, 0.9]
    c = Parameter(np.ones(2))
    opt.add_param_group({"params": [c], "momentum": 0.9})
    assert [group["momentum"] for group in opt.param_groups] == [0, 0, 0.9]


def test_a_graph_that_kept_a_parameter_notices_the_step():
    p = Parameter(np.array([1.0, 2.0]))
    opt = optim.SGD([p], lr=0.1)
    loss = (p * p).sum()
    loss.backward(retain_graph=True)
    opt.step()
    with pytest.raises(RuntimeError, match="changed"):
        loss.backward()


@pytest.mark.parametrize("case", CASES)
def test_state_dict_continues_the_trajectory_to_the_bit(case, rng):
    optimizer, _, settings = CASES[case]
    gradients = rng.standard_normal((6, 3))
    p, q = Parameter(np.ones(3)), Parameter(np.ones(3))
    stepped(optimizer([p], **settings), p, gradients)

    opt = optimizer([q], **settings)
    stepped(opt, q, gradients[:3])
    state = opt.state_dict()
    resumed = Parameter(q.data.copy())
    other = optimizer([resumed], lr=99)
    other.load_state_dict(state)
    stepped(opt, q, gradients[3:])  # must not reach what was saved
    np.testing.assert_array_equal(stepped(other, resumed, gradients[3:]), p.data)


@pytest.mark.parametrize("case", ["sgd, momentum", "adam"])
def test_what_is_remembered_is_shared_with_nobody(case, rng):
    optimizer, _, settings = CASES[case]
    gradients = rng.standard_normal((3, 3))
    p, q = Parameter(np.ones(3)), Parameter(np.ones(3))
    expected = stepped(optimizer([p], **settings), p, gradients)
    opt = optimizer([q], **settings)

    def wipe(saved):
        for value in saved["state"][0].values():
            if np.ndim(value):
                value[...] = 0

    for g in gradients:
        stepped(opt, q, [g])
        with no_grad():
            q.grad *= 0
        wipe(opt.state_dict())
        saved = opt.state_dict()
        opt.load_state_dict(saved)
        wipe(saved)
    np.testing.assert_array_equal(q.data, expected)


def test_load_state_dict_changes_nothing_when_it_refuses():
    p, q = Parameter(np.ones(3)), Parameter(np.ones((2, 2)))
    good, opt = optim.SGD([p], momentum=0.9), optim.SGD([q], lr=0.5)
    stepped(good, p, [np.ones(3)])
    for state, message in [
        (good.state_dict(), r"velocity of parameter 0 must have shape \(2, 2\), got \(3,\)"),
        (optim.SGD([p, q]).state_dict(), r"groups must have \[1\] parameters, got \[2\]"),
        (optim.Adam([p]).state_dict(), "settings must be"),
        ({**optim.SGD([p]).state_dict(), "state": {7: {}}}, "state has parameter 7"),
        ({"state": {}}, "state_dict must have 'param_groups' and 'state', got {'state': {}}"),
    ]:
        with pytest.raises(ValueError, match=message):
            opt.load_state_dict(state)
        assert opt.param_groups[0]["lr"] == 0.5
        assert not opt.state


P = Parameter(np.ones(2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: optim.SGD([]), ValueError, "SGD: params must not be empty"),
        (lambda: optim.SGD(P), TypeError, "SGD: params must be an iterable"),
        (lambda: optim.SGD([np.ones(2)]), TypeError, "SGD: params must be floating leaf tensors, got array"),
        (lambda: optim.SGD([P * 2]), TypeError, "SGD: params must be floating leaf tensors"),
        (lambda: optim.SGD([P, P]), ValueError, r"SGD: params contains a tensor of shape \(2,\) twice"),
        (lambda: optim.SGD([{"lr": 1}]), TypeError, "SGD: a group must be a dict with 'params', got {'lr': 1}"),
        (lambda: optim.SGD([{"params": [P], "rate": 1}]), ValueError, r"SGD: a group has unknown settings \['rate'\]"),
        (lambda: optim.SGD([P], lr=-1), ValueError, "SGD: lr must be finite and at least 0, got -1"),
        (lambda: optim.SGD([P], lr=math.nan), ValueError, "SGD: lr must be finite and at least 0, got nan"),
        (lambda: optim.SGD([P], lr="fast"), TypeError, "SGD: lr must be a number, got 'fast'"),
        (lambda: optim.SGD([P], momentum=math.inf), ValueError, "SGD: momentum must be finite and at least 0"),
        (lambda: optim.SGD([P], nesterov=True), ValueError, "SGD: nesterov takes momentum > 0 and dampening 0, got 0"),
        (lambda: optim.Adam([P], betas=(0.9, 1)), ValueError, r"Adam: betas must be less than 1, got \(0.9, 1\)"),
        (lambda: optim.Adam([P], betas=0.9), TypeError, "Adam: betas must be a pair of numbers, got 0.9"),
        (lambda: optim.AdamW([P], eps=-1), ValueError, "AdamW: eps must be finite and at least 0, got -1"),
        (lambda: optim.Adam([P], betas=(-1, 0.9)), ValueError, "Adam: betas must be between 0 and 1, got -1"),
        (lambda: optim.SGD(3), TypeError, "SGD: params must be an iterable of parameters or of groups, got 3"),
        (lambda: optim.SGD([P], nesterov=1), TypeError, "SGD: nesterov must be a bool, got 1"),
        (lambda: optim.StepLR(P, 1), TypeError, "StepLR: optimizer must be an Optimizer, got Tensor"),
        (lambda: optim.StepLR(optim.SGD([P]), 0), ValueError, "StepLR: step_size must be at least 1, got 0"),
        (
            lambda: optim.CosineAnnealingLR(optim.SGD([P]), 0),
            ValueError,
            "CosineAnnealingLR: T_max must be at least 1, got 0",
        ),
    ],
)
def test_errors_name_function_argument_and_value(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_step_with_a_wrong_setting_changes_no_parameter():
    a, b = Parameter(np.ones(2)), Parameter(np.ones(2))
    opt = optim.SGD([{"params": [a]}, {"params": [b]}], lr=0.1)
    (a + b).sum().backward()
    opt.param_groups[1]["lr"] = -1
    with pytest.raises(ValueError, match="lr must be finite and at least 0"):
        opt.step()
    assert a.tolist() == b.tolist() == [1, 1]


def test_step_schedule():
    opt = optim.SGD([{"params": [Parameter(np.ones(1))]}, {"params": [Parameter(np.ones(1))], "lr": 2.0}], lr=1.0)
    schedule = optim.StepLR(opt, step_size=2, gamma=0.5)
    rates = []
    for _ in range(5):
        rates.append([group["lr"] for group in opt.param_groups])
        schedule.step()
    assert rates == [[1, 2], [1, 2], [0.5, 1], [0.5, 1], [0.25, 0.5]]


def test_cosine_schedule():
    opt = optim.SGD([Parameter(np.ones(1))], lr=1.0)
    schedule = optim.CosineAnnealingLR(opt, T_max=4, eta_min=0.2)
    rates = []
    for _ in range(7):
        rates.append(opt.param_groups[0]["lr"])
        schedule.step()
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(5)]
    assert rates == pytest.approx([*expected, 0.2, 0.2], rel=1e-15)
