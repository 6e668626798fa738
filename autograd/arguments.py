"""Checks of what users pass in: each returns the value in one standard form, or names function, argument and value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def number(function: str, argument: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """A finite real number, as a Python float, which never changes the dtype of an array that meets it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{function}: {argument} must be a number, got {value!r}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result) or not least <= result <= most:
        limits = f"between {least:g} and {most:g}"
        if most == math.inf:
            limits = "finite" if least == -math.inf else f"finite and at least {least:g}"
        raise ValueError(f"{function}: {argument} must be {limits}, got {value}")
    return result


def integer(function: str, argument: str, value: Any, least: int | None = None, most: int | None = None) -> int:
    """An integer within limits and 64 bits, as a Python one; a bool is none. `most` takes a `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{function}: {argument} must be an integer, got {value!r}")
    if least is not None and most is not None and not least <= value <= most:
        raise ValueError(f"{function}: {argument} must be between {least} and {most}, got {value}")
    if least is not None and value < least:
        raise ValueError(f"{function}: {argument} must be at least {least}, got {value}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{function}: {argument} must fit into 64 bits, got {value}")
    return int(value)


def choice(function: str, argument: str, value: Any, *choices: str) -> str:
    """One of the given words."""
    if not isinstance(value, str) or value not in choices:
        words = " or ".join([", ".join(map(repr, choices[:-1])), repr(choices[-1])])
        raise ValueError(f"{function}: {argument} must be {words}, got {value!r}")
    return value


def flag(function: str, argument: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool):
        raise TypeError(f"{function}: {argument} must be a bool, got {value!r}")
    return bool(value)


def floating_dtype(function: str, value: Any) -> np.dtype[Any]:
    """A floating dtype."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except (TypeError, ValueError):
        raise TypeError(f"{function}: dtype must be floating, got {value!r}") from None
    if dtype.kind != "f":
        raise TypeError(f"{function}: dtype must be floating, got {dtype}")
    return dtype


def generator(function: str, rng: Any) -> np.random.Generator:
    """The `numpy.random.Generator` that `rng` is, or that it seeds; None draws fresh entropy."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{function}: rng must be a numpy Generator, a seed or None, got {rng!r}") from error
