"""One workload on our side and on the peers', verified and then timed in turns: what `bench pool` and `train` share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .conv import Listener
from .peer import PeerError
from .peers import Kind, our_side, peer_sides, variants
from .reference import relative_error
from .rows import Memory, PeerResult, Timing
from .timing import Contender, Drift, Effort, fastest, interleave, noise, peer_result, timing

OURS = "convgrad"
_RUNS = 3  # after which a process has had all the memory that a workload takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How workloads are measured."""

    threads: Sequence[int]
    isa: str
    dtype: str = "float32"
    memory: str = "reused"  # or 'fresh': every result in memory that comes from the system
    peer_pythons: Sequence[str] = ()
    effort: Effort = field(default_factory=Effort)


class Verified(NamedTuple):
    """What was found of one workload; `timing` is None, and nothing was timed, if our result was wrong."""

    timing: Timing | None
    error: float
    peers: Mapping[str, PeerResult]
    notes: tuple[str, ...]


class Contest:
    """Sides that run for as long as the `with` block, with one number of threads."""

    def __init__(
        self, program: str, kinds: Sequence[Kind], settings: Settings, threads: int, listener: Listener
    ) -> None:
        """program: our side's, in `sides`; kinds: the peers, of which those take part that are found."""
        self._settings, self._threads = settings, threads
        with ExitStack() as stack:
            place = (settings.isa, threads, settings.memory)
            self._ours = our_side(stack, program, *place)
            self._peers, notes = peer_sides(stack, kinds, settings.peer_pythons, *place)
            self._stack = stack.pop_all()
        self._drift = Drift(lambda: float(self._ours.call("fixed_work")))
        for note in notes:
            listener.note(note)
        self.versions = {OURS: self._ours.version.split()[-1]}
        self.versions |= {one.kind.name: one.side.version.split()[-1] for one in self._peers}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def memory(self, arguments: Sequence[Any]) -> dict[str, Memory]:
        """What a few runs of `workload(*arguments, variant)` take of each side: of a peer its first variant, with the
        allocator as it is.
        """
        sides = {OURS: (self._ours, None)}
        sides |= {one.kind.name: (one.side, next(iter(one.kind.variants.values()))) for one in self._peers[::-1]}
        found = {}
        for name, (side, setting) in sides.items():
            before = side.call("peak_bytes")
            side.prepare(name, *arguments, setting)
            side.time(name, _RUNS)
            found[name] = Memory(before=before, peak=side.call("peak_bytes"))
            side.forget(name)
        return found

    def measure(self, arguments: Sequence[Any], exact: NDArray[np.float64], bound: float) -> Verified:
        """Prepares `workload(*arguments, variant)` on every side, compares the results, and times those that are right.

        Raises PeerError if our own side fails.
        """
        ours = Contender(OURS, OURS, self._ours, (*arguments, None))
        error = relative_error(_result(ours), exact)
        if not error <= bound:
            return Verified(None, error, {}, (f"WRONG: the error is {error:.0e}, more than {bound:.0e}",))
        contenders, found, notes = [ours], {}, []
        for kind, label, side, setting in variants(self._peers, bfloat16=False):
            one = Contender(kind.name, f"{kind.name} {label}", side, (*arguments, setting))
            try:
                found[one.name] = label, relative_error(_result(one), exact)
            except PeerError as problem:
                notes.append(f"{one.name} failed: {problem}")
                continue
            if (peer_error := found[one.name][1]) <= bound:
                contenders.append(one)
            else:
                notes.append(f"{one.name} is WRONG: its error is {peer_error:.0e}")
        interleave(contenders, self._settings.effort, self._threads, self._drift.measure)
        confidence = self._settings.effort.confidence
        peers = {}
        for group in dict.fromkeys(one.group for one in contenders[1:]):
            best = fastest(contenders, group)
            peers[group] = peer_result(best, ours, *found[best.name], confidence)
        measured = timing(ours.seconds, confidence)
        return Verified(measured, error, peers, (*noise(measured, self._drift.slowdown()), *notes))


def _result(contender: Contender) -> NDArray[Any]:
    with tempfile.TemporaryDirectory() as folder:
        return contender.result(Path(folder))


@contextmanager
def saved(*arrays: NDArray[Any]) -> Iterator[list[str]]:
    """Files of `numpy.save`, for as long as the `with` block: in memory, where the system has such a place."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        paths = [str(Path(folder, f"{i}.npy")) for i in range(len(arrays))]
        for path, array in zip(paths, arrays, strict=True):
            np.save(path, array)
        yield paths
