"""Optimisers: rules that turn gradients into updates of parameters. One rule for filters, dense weights and all else.

Every update is written in place (`p -= ...`): a parameter keeps its memory from the first step to the last, and what is
learned is whatever has been added to it. Formulas and defaults are PyTorch's. Parameters are given as an iterable, or
as several groups, each a dict with "params" and settings of its own. A step first checks the settings of all groups,
which may be changed between steps; if one is wrong, no parameter has changed. Parameters without a gradient are left
alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .arguments import flag, integer, number
from .modes import no_grad
from .tensor import Tensor

__all__ = ["SGD", "Adam", "AdamW", "CosineAnnealingLR", "Optimizer", "StepLR"]


class Optimizer:
    """What all optimisers share. A subclass says how to check its settings and how to update one parameter.

    param_groups: a list of dicts: the parameters, under "params", and their settings.
    state: what is remembered of each parameter, arrays and counts, under the parameter.
    """

    def __init__(self, params: Iterable[Any], defaults: Mapping[str, Any]) -> None:
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self.defaults = dict(defaults)
        if isinstance(params, Tensor | Mapping) or not isinstance(params, Iterable):
            raise TypeError(f"{self._name}: params must be an iterable of parameters or of groups, got {params!r}")
        given = list(params)
        if not given:
            raise ValueError(f"{self._name}: params must not be empty")
        for group in given if isinstance(given[0], Mapping) else [{"params": given}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Adds parameters, `group["params"]`, with settings that replace the defaults."""
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{self._name}: a group must be a dict with 'params', got {group!r}")
        params = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if unknown := group.keys() - self.defaults.keys() - {"params"}:
            raise ValueError(f"{self._name}: a group has unknown settings {sorted(unknown)}")
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for p in params:
            if not isinstance(p, Tensor) or not p.is_leaf or p.dtype.kind != "f":
                raise TypeError(f"{self._name}: params must be floating leaf tensors, got {p!r}")
            if id(p) in known:
                raise ValueError(f"{self._name}: params contains a tensor of shape {p.shape} twice")
            known.add(id(p))
        new = {**self.defaults, **group, "params": params}
        self.check(new)
        self.param_groups.append(new)

    def check(self, group: Mapping[str, Any]) -> None:
        """Raises ValueError or TypeError for settings that make no sense."""
        raise NotImplementedError(f"{self._name}: check is not defined")

    def update(self, p: Tensor, g: Any, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        """Changes p in place, given its gradient, an array, and what `state` remembers of p (at first nothing)."""
        raise NotImplementedError(f"{self._name}: update is not defined")

    def step(self) -> None:
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            self.check(group)
        with no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        self.update(p, p.grad.data, self.state.setdefault(p, {}), group)

    def zero_grad(self) -> None:
        """Forgets the gradients of all parameters."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def state_dict(self) -> dict[str, Any]:
        """A copy of the settings and of the state, in which numbers in order of `param_groups` stand for parameters."""
        numbers = {p: i for i, p in enumerate(p for group in self.param_groups for p in group["params"])}
        return {
            "state": {numbers[p]: copy.deepcopy(state) for p, state in self.state.items()},
            "param_groups": [{**group, "params": [numbers[p] for p in group["params"]]} for group in self.param_groups],
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Takes over settings and state from `state_dict()` of an optimiser whose groups have as many parameters.

        Raises ValueError, and changes nothing, if groups, settings, or shapes of remembered arrays differ.
        """
        if not isinstance(state_dict, Mapping) or not {"param_groups", "state"} <= state_dict.keys():
            raise ValueError(
                f"{self._name}.load_state_dict: state_dict must have 'param_groups' and 'state', got {state_dict!r}"
            )
        groups, states = state_dict["param_groups"], state_dict["state"]
        sizes, expected = ([len(g["params"]) for g in gs] for gs in (groups, self.param_groups))
        if sizes != expected:
            raise ValueError(f"{self._name}.load_state_dict: groups must have {expected} parameters, got {sizes}")
        for group in groups:
            if group.keys() != {"params", *self.defaults}:
                raise ValueError(f"{self._name}.load_state_dict: settings must be {[*self.defaults]}, got {[*group]}")
            self.check(group)
        params = dict(
            zip(
                [key for group in groups for key in group["params"]],
                [p for group in self.param_groups for p in group["params"]],
                strict=True,
            )
        )
        for key, state in states.items():
            if key not in params:
                raise ValueError(f"{self._name}.load_state_dict: state has parameter {key}, which no group has")
            for name, value in state.items():
                if np.ndim(value) and np.shape(value) != params[key].shape:
                    raise ValueError(
                        f"{self._name}.load_state_dict: {name} of parameter {key} must have shape "
                        f"{params[key].shape}, got {np.shape(value)}"
                    )
        for group, loaded in zip(self.param_groups, groups, strict=True):
            group.update({name: value for name, value in loaded.items() if name != "params"})
        self.state = {params[key]: copy.deepcopy(state) for key, state in states.items()}

    def __repr__(self) -> str:
        groups = [{**group, "params": len(group["params"])} for group in self.param_groups]
        return f"{self._name}({', '.join(map(str, groups))})"


class SGD(Optimizer):
    """Gradient descent: p -= lr * g; with momentum (as in Sutskever et al. 2013, in PyTorch's form)

        g += weight_decay * p
        v = momentum * v + (1 - dampening) * g        (the first v is g)
        p -= lr * (g + momentum * v if nesterov else v)

    nesterov takes momentum > 0 and dampening 0.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        settings = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, settings)

    def check(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "momentum", "dampening", "weight_decay"):
            number("SGD", name, group[name], least=0)
        flag("SGD", "nesterov", group["nesterov"])
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov takes momentum > 0 and dampening 0, got {group['momentum']} and {group['dampening']}"
            )

    def update(self, p: Tensor, g: Any, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        # Python's numbers, unlike NumPy's, leave float32 arrays in float32.
        lr, momentum, dampening, weight_decay = (
            float(group[name]) for name in ("lr", "momentum", "dampening", "weight_decay")
        )
        if weight_decay:
            g = g + weight_decay * p.data
        if momentum:
            velocity = momentum * state["velocity"] + (1 - dampening) * g if state else g.copy()
            state["velocity"] = velocity
            g = g + momentum * velocity if group["nesterov"] else velocity
        p -= lr * g


class Adam(Optimizer):
    """Steps of a size that adapts to each element's gradients. (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.)

        g += weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p -= lr * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + eps)

    m and v start at 0, and t counts the steps from 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def check(self, group: Mapping[str, Any]) -> None:
        for name in ("lr", "eps", "weight_decay"):
            number(self._name, name, group[name], least=0)
        betas = group["betas"]
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"{self._name}: betas must be a pair of numbers, got {betas!r}")
        for beta in betas:
            if number(self._name, "betas", beta, 0, 1) == 1:
                raise ValueError(f"{self._name}: betas must be less than 1, got {betas}")

    def update(self, p: Tensor, g: Any, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        weight_decay = float(group["weight_decay"])
        self.adapt(p, g + weight_decay * p.data if weight_decay else g, state, group)

    def adapt(self, p: Tensor, g: Any, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        """The update without the decay of weights."""
        lr, eps = float(group["lr"]), float(group["eps"])
        beta1, beta2 = map(float, group["betas"])
        if not state:
            state.update(step=0, mean=np.zeros_like(g), mean_square=np.zeros_like(g))
        t = state["step"] + 1
        mean = beta1 * state["mean"] + (1 - beta1) * g
        mean_square = beta2 * state["mean_square"] + (1 - beta2) * (g * g)
        state.update(step=t, mean=mean, mean_square=mean_square)
        # The corrections undo that both averages started at 0; applied to numbers, they cost no pass over the arrays.
        step_size = lr / (1 - beta1**t)
        p -= step_size * mean / (np.sqrt(mean_square) / math.sqrt(1 - beta2**t) + eps)


class AdamW(Adam):
    """Adam, with weights decaying apart from the gradient: first p -= lr * weight_decay * p.

    (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2.)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p: Tensor, g: Any, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        p *= 1 - float(group["lr"]) * float(group["weight_decay"])
        self.adapt(p, g, state, group)


class _Schedule:
    """Sets an optimiser's learning rates to `lr(initial)`, a function of the rate it was given and of the epoch."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: optimizer must be an Optimizer, got {optimizer!r}")
        self.optimizer = optimizer
        self.initial = [float(group["lr"]) for group in optimizer.param_groups]
        self.epoch = 0

    def lr(self, initial: float) -> float:
        raise NotImplementedError

    def step(self) -> None:
        """Begins the next epoch."""
        self.epoch += 1
        for group, initial in zip(self.optimizer.param_groups, self.initial, strict=True):
            group["lr"] = self.lr(initial)


class StepLR(_Schedule):
    """The learning rate times gamma after every `step_size` epochs; `step()` ends an epoch."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        super().__init__(optimizer)
        self.step_size = integer("StepLR", "step_size", step_size, least=1)
        self.gamma = number("StepLR", "gamma", gamma, least=0)

    def lr(self, initial: float) -> float:
        return initial * self.gamma ** (self.epoch // self.step_size)


class CosineAnnealingLR(_Schedule):
    """The learning rate going down to eta_min along half a cosine, in T_max epochs; `step()` ends an epoch.

    (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts: it stays at eta_min.)
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        super().__init__(optimizer)
        self.T_max = integer("CosineAnnealingLR", "T_max", T_max, least=1)
        self.eta_min = number("CosineAnnealingLR", "eta_min", eta_min, least=0)

    def lr(self, initial: float) -> float:
        share = (1 + math.cos(math.pi * min(self.epoch, self.T_max) / self.T_max)) / 2
        return self.eta_min + (initial - self.eta_min) * share
