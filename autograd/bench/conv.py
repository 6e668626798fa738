"""`bench conv`: every problem and map, verified, then timed in turns with the peers.

What is measured together, so that it can be compared, is one problem, map and dtype: all of our choices (accuracy
classes, algorithms) and all variants of the peers. Each of our choices becomes a row.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from .machine import Peak, peak
from .peer import Peer, PeerError
from .peers import BFLOAT16, KINDS, PeerSide, available_memory, our_side, peer_sides, variants
from .problem import MAPS
from .reference import error_bound, normal_operands, reference, relative_error, sign_operands, wrong_products
from .rows import Measurement, Row
from .suites import Case
from .timing import (
    SETTLE,
    SETTLE_AFTER_PRODUCTS,
    Contender,
    Drift,
    Effort,
    fastest,
    interleave,
    median_ratio,
    noise,
    peer_result,
    timing,
)

PRECISIONS = ("highest", "high", "medium")
_DENORMALS = ", denormals"  # what the name of a choice ends with where its operands are made of them
_PRODUCT = ", product"  # where NumPy's matrix product takes turns with it
_ALONE = "product alone"  # the name of the product's own workload
_PEER_BOUND = 1e-4  # of the error of a peer, whose class of accuracy is its own affair


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is measured of every problem, and how."""

    maps: Sequence[str] = MAPS
    threads: Sequence[int] = (1,)
    precisions: Sequence[str] = ("highest",)
    dtypes: Sequence[str] = ("float32",)
    isas: Sequence[str] = field(default_factory=lambda: kernels.supported_isas()[:1])
    algorithm: str = ""  # '' for the automatic choice, 'all', or a name
    peers: Sequence[str] = ()
    peer_pythons: Sequence[str] = ()
    memory: str = "reused"  # or 'fresh': every result in memory that comes from the system
    denormals: bool = False
    product: bool = False  # also in turns with a matrix product of as many operations
    effort: Effort = field(default_factory=Effort)


class Listener:
    """What is told while the measurement runs; here nothing is done about it."""

    def begin(self, total: int) -> None:
        """So many steps are to come."""

    def step(self, what: str) -> None:
        """The next problem, map and setting."""

    def note(self, text: str) -> None:
        """Something about the whole run: a peer that is missing, say."""

    def row(self, row: Measurement) -> None:
        """A row is finished."""


@dataclass(slots=True)
class _Choice:
    """One of our workloads, and whether its result was right."""

    name: str
    precision: str
    algorithm: str
    automatic: bool
    explanation: Mapping[str, Any]
    bound: float
    error: float = float("nan")
    fault: str = ""  # what is wrong with the result


class ConvBenchmark:
    """Measures cases with settings; `versions` and `notes` say afterwards what took part and what was left out."""

    def __init__(self, cases: Sequence[Case], settings: Settings, listener: Listener | None = None) -> None:
        """Raises ValueError if a problem does not fit into the memory that is available."""
        self.versions: dict[str, str] = {}
        self.notes: list[str] = []
        self._cases, self._settings, self._listener = cases, settings, listener or Listener()
        _require_memory(cases, settings)

    def run(self) -> list[Row]:
        """All rows. Raises PeerError if our own side does not run."""
        s, rows = self._settings, []
        self._listener.begin(len(s.isas) * len(s.threads) * len(s.dtypes) * len(self._cases) * len(s.maps))
        for isa in s.isas:
            for threads in s.threads:
                roofs = {dtype: peak(isa, threads, dtype) for dtype in s.dtypes}  # while nothing else runs
                with ExitStack() as stack:
                    ours = our_side(stack, "convgrad", isa, threads, s.memory)
                    kinds = [KINDS[name] for name in s.peers]
                    peers, missing = peer_sides(stack, kinds, s.peer_pythons, isa, threads, s.memory)
                    for note in missing:
                        self._note(note)
                    for side in (ours, *(one.side for one in peers)):
                        name, version = side.version.split()
                        self.versions[name] = version
                    drift = Drift(lambda side=ours: side.call("fixed_work"))  # type: ignore[misc]
                    for dtype in s.dtypes:
                        for case in self._cases:
                            for map_name in s.maps:
                                self._listener.step(f"{case.problem} {map_name} {dtype} {isa}, {threads} threads")
                                measurement = _Measurement(
                                    case, map_name, dtype, isa, threads, s, ours, peers, roofs[dtype], drift
                                )
                                for row in measurement.rows():
                                    self._listener.row(row)
                                    rows.append(row)
                                for note in measurement.notes:
                                    self._note(note)
        return rows

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self._listener.note(text)


def _require_memory(cases: Sequence[Case], settings: Settings) -> None:
    available = available_memory()
    for case in cases:
        for dtype in settings.dtypes:
            # On one side at a time, as files, in a second layout, and in what allocators keep; and in float64 here.
            needed = 8 * case.problem.bytes(np.dtype(dtype).itemsize) + 3 * case.problem.bytes(8)
            if needed > available:
                raise ValueError(
                    f"problem {str(case.problem)!r} needs about {needed / 2**30:.0f} GiB of memory, and "
                    f"{available / 2**30:.0f} GiB are available: use a smaller --batch"
                )


@dataclass(slots=True)
class _Measurement:
    """One problem, map, dtype, instruction set and number of threads."""

    case: Case
    map_name: str
    dtype: str
    isa: str
    threads: int
    settings: Settings
    ours: Peer
    peers: Sequence[PeerSide]
    roofs: Peak
    drift: Drift
    notes: list[str] = field(default_factory=list)  # of the whole run
    _row_notes: list[str] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """Verifies and times all of our choices, beside the peers."""
        choices = self._choices()
        if not choices:
            return []
        # In memory, where the system has such a place: each side reads them again and again.
        shared = Path("/dev/shm")
        with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
            return self._verify_and_time(choices, Path(folder))

    def _choices(self) -> list[_Choice]:
        """Our workloads: for every class the automatic choice, or the algorithm asked for, or all that are accurate
        enough and have not been listed for a better class.
        """
        wanted = self.settings.algorithm
        choices: list[_Choice] = []
        for precision in self.settings.precisions if self.dtype == "float32" else ("highest",):
            automatic = self._explain(precision, "")
            names = [automatic["algorithm"]]
            if wanted == "all":
                names += [name for name in automatic["candidates"] if name not in {one.algorithm for one in choices}]
            elif wanted:
                names = [wanted]
            for name in dict.fromkeys(names):
                if name not in automatic["candidates"]:
                    self.notes.append(f"{name} does not serve {self.case.problem} {self.map_name} {self.dtype}")
                    continue
                explanation = automatic if name == automatic["algorithm"] else self._explain(precision, name)
                if wanted == "all" and not _accurate(explanation["error_class"], precision):
                    continue
                worse = max(precision, explanation["error_class"], key=PRECISIONS.index)
                bound = error_bound(self.dtype, worse)
                automatically = explanation is automatic
                choices.append(_Choice(f"{precision} {name}", precision, name, automatically, explanation, bound))
        return choices

    def _explain(self, precision: str, algorithm: str) -> dict[str, Any]:
        explanation: dict[str, Any] = self.ours.call(
            "explain", self.map_name, asdict(self.case.problem.geometry), self.dtype, precision, algorithm
        )
        return explanation

    def _verify_and_time(self, choices: Sequence[_Choice], folder: Path) -> list[Row]:
        exact, operands = self._operands(sign_operands, folder)
        for choice in choices:
            if wrong_products(self._ours(choice, operands).result(folder), exact):
                choice.fault = "WRONG: a product is missing, or counted twice or at a wrong place"
        exact, operands = self._operands(normal_operands, folder)
        for choice in choices:
            choice.error = relative_error(self._ours(choice, operands).result(folder), exact)
            if not choice.fault and not choice.error <= choice.bound:
                choice.fault = f"WRONG: the error exceeds {choice.bound:.0e}"
        right = [choice for choice in choices if not choice.fault]
        contenders = [self._ours(choice, operands) for choice in right]
        if self.settings.denormals:
            contenders += [self._ours(choice, operands, _DENORMALS) for choice in right]
        if self.settings.product and right:
            contenders += [self._ours(choice, operands, _PRODUCT) for choice in right]
            contenders.append(self._ours(right[0], operands, _ALONE))
        theirs = self._theirs(operands, exact, folder) if right else {}
        del exact
        contenders += [contender for contender, _, _ in theirs.values()]
        if contenders:
            settle = SETTLE_AFTER_PRODUCTS if self.settings.product else SETTLE
            interleave(contenders, self.settings.effort, self.threads, self.drift.measure, settle)
        slowdown = self.drift.slowdown()
        return [self._row(choice, contenders, theirs, slowdown) for choice in choices]

    def _operands(
        self, make: Callable[..., list[NDArray[Any]]], folder: Path
    ) -> tuple[NDArray[np.float64], tuple[str, str]]:
        """The exact result, and two files with the operands."""
        geometry = self.case.problem.geometry
        first, second = make(self.map_name, geometry, self.dtype)
        paths = str(folder / "first.npy"), str(folder / "second.npy")
        for path, operand in zip(paths, (first, second), strict=True):
            np.save(path, operand)
        return reference(self.map_name, first, second, geometry), paths

    def _contender(self, group: str, name: str, side: Peer, operands: tuple[str, str], variant: Any) -> Contender:
        return Contender(group, name, side, (self.map_name, asdict(self.case.problem.geometry), operands, variant))

    def _ours(self, choice: _Choice, operands: tuple[str, str], special: str = "") -> Contender:
        name = special if special == _ALONE else choice.name + special
        variant = {
            "precision": choice.precision,
            "algorithm": "" if choice.automatic else choice.algorithm,
            "denormals": special == _DENORMALS,
            "product": round((self.case.problem.flops / 2) ** (1 / 3)) if special in (_PRODUCT, _ALONE) else 0,
            "alone": special == _ALONE,
        }
        return self._contender(name, name, self.ours, operands, variant)

    def _theirs(
        self, operands: tuple[str, str], exact: NDArray[Any], folder: Path
    ) -> dict[str, tuple[Contender, str, float]]:
        """The variants of the peers that compute the right thing, by name, with their label and error."""
        found = {}
        bfloat16 = "medium" in self.settings.precisions and self.dtype == "float32"
        for kind, label, side, setting in variants(self.peers, bfloat16):
            if not kind.serves(self.case.problem, self.map_name):
                continue
            contender = self._contender(kind.name, f"{kind.name} {label}", side, operands, setting)
            try:
                error = relative_error(contender.result(folder), exact)
            except PeerError as problem:
                self._row_notes.append(f"{contender.name} failed: {problem}")
                continue
            if error <= (error_bound(self.dtype, "medium") if kind is BFLOAT16 else _PEER_BOUND):
                found[contender.name] = contender, label, error
            else:
                self._row_notes.append(f"{contender.name} is WRONG: its error is {error:.0e}")
        return found

    def _row(
        self,
        choice: _Choice,
        contenders: Sequence[Contender],
        theirs: Mapping[str, tuple[Contender, str, float]],
        slowdown: float,
    ) -> Row:
        problem, confidence = self.case.problem, self.settings.effort.confidence
        size = problem.bytes(np.dtype(self.dtype).itemsize)
        by_name = {contender.name: contender for contender in contenders}
        measured, denormals, product, peers = None, None, None, {}
        notes = [choice.fault] if choice.fault else []
        if not choice.fault:
            seconds = by_name[choice.name].seconds
            measured = timing(seconds, confidence)
            notes += noise(measured, slowdown)
            if self.settings.denormals:
                denormals = median_ratio(by_name[choice.name + _DENORMALS].seconds, seconds, confidence)[0]
            if self.settings.product:
                parts = [one + other for one, other in zip(seconds, by_name[_ALONE].seconds, strict=True)]
                product = median_ratio(by_name[choice.name + _PRODUCT].seconds, parts, confidence)[0]
            for group in dict.fromkeys(contender.group for contender, _, _ in theirs.values()):
                best = fastest(contenders, group)
                _, label, error = theirs[best.name]
                peers[group] = peer_result(best, by_name[choice.name], label, error, confidence)
        return Row(
            suite=self.case.suite,
            layer=self.case.layer,
            count=self.case.count,
            problem=str(problem),
            map=self.map_name,
            dtype=self.dtype,
            precision=choice.precision,
            isa=self.isa,
            threads=self.threads,
            algorithm=choice.algorithm,
            automatic=choice.automatic,
            reason=choice.explanation["reason"],
            timing=measured,
            flops=problem.flops,
            bytes=size,
            peak_gflops=self.roofs.gflops,
            peak_bandwidth=self.roofs.bandwidth(size),
            workspace_bytes=choice.explanation["workspace_bytes"],
            error=choice.error,
            error_bound=choice.bound,
            denormals=denormals,
            product=product,
            peers=peers,
            notes=(*notes, *self._row_notes),
        )


def _accurate(error_class: str, precision: str) -> bool:
    return PRECISIONS.index(error_class) <= PRECISIONS.index(precision)
