"""Whether operations are recorded, and whether extra checks are made: two switches, local to a thread or task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

recording: ContextVar[bool] = ContextVar("recording", default=True)
debugging: ContextVar[bool] = ContextVar("debugging", default=False)


@contextmanager
def _switched(switch: ContextVar[bool], on: bool) -> Iterator[None]:
    # Not with the token that `set` returns: a signal handled between the two statements would leave the switch set.
    before = switch.get()
    try:
        switch.set(on)
        yield
    finally:
        switch.set(before)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within it (or within a function that it decorates) nothing is recorded: results do not require gradients."""
    with _switched(recording, False):
        yield


@contextmanager
def enable_grad() -> Iterator[None]:
    """Within it recording is on, also inside a `no_grad` block."""
    with _switched(recording, True):
        yield


@contextmanager
def debug() -> Iterator[None]:
    """Within it every node remembers the line that made it, and a checksum of the arrays that it keeps.

    Errors of `backward` then name that line, and writes to a kept array are caught even when they bypass the Tensor
    interface (`tensor.data[...] = ...`). Costs a few microseconds a node and a pass over every kept array.
    """
    with _switched(debugging, True):
        yield


def is_grad_enabled() -> bool:
    """Whether operations on tensors that require gradients are being recorded."""
    return recording.get()
