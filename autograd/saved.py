"""Detects that an array which the graph has kept was changed in place before it was used.

A write through the Tensor interface is entered in a table, with the number that a node made at that moment would have
had: whatever an older node kept of that memory is no longer what it was. This costs nothing while recording, and one
comparison a node while sweeping. In debug mode a checksum also catches writes that bypass the interface.
"""

from __future__ import annotations

import os
import sys
import weakref
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from numpy import ndarray

_PACKAGE = os.path.dirname(__file__)


def caller() -> str:
    """`file:line` of the innermost frame outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Checks(NamedTuple):
    """What a node made in debug mode knows besides: the line that made it, and checksums of the arrays it keeps."""

    line: str
    checksums: list[int]

    @classmethod
    def of(cls, saved: Iterable[Any]) -> Checks:
        return cls(caller(), _checksums(saved))


def _checksums(saved: Iterable[Any]) -> list[int]:
    return [zlib.crc32(value.tobytes()) for value in saved if isinstance(value, ndarray)]


class _Write(NamedTuple):
    number: int
    line: str
    owner: weakref.ref[Any]  # its callback takes the entry out when the memory is freed


class _Writes(dict[int, _Write]):
    """The id of the array that owns the memory -> the last write to it."""

    last = 1  # the number of the last write of all


writes = _Writes()


def _owner(array: Any) -> Any:
    """The last array in the chain of bases; NumPy may put other objects in between."""
    base = array
    while (base := getattr(base, "base", None)) is not None:
        if isinstance(base, ndarray):
            array = base
    return array


def note_write(array: ndarray[Any, Any], number: int) -> None:
    """Says that `array` is about to be written; `number` is lower than that of any node that kept the old values."""
    owner = _owner(array)
    key = id(owner)
    writes[key] = _Write(number, caller(), weakref.ref(owner, lambda _: writes.pop(key, None)))
    writes.last = number


def changed_since(number: int, saved: Sequence[Any], checks: Checks | None) -> str:
    """Where an array was changed that the node of this number had kept, or an empty string."""
    if number > writes.last:
        for value in saved:
            if isinstance(value, ndarray) and (write := writes.get(id(_owner(value)))) and write.number < number:
                return f"at {write.line}"
    if checks and checks.checksums != _checksums(saved):
        return "past the Tensor interface"
    return ""
