"""Timing in turns: every contender once in every round, in random order, until the medians are known well enough.

Where in memory its operands lie makes a call up to 10% faster or slower, and stays so for as long as they lie there.
Every turn therefore begins with new ones: the samples of one run then differ as much as those of different runs do, and
the interval of their median holds for the next run, too.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .peer import Peer
from .rows import PeerResult, Timing

_NOISY = 0.1  # half of an interval's width, relative, from which on a row says so
_SLOWER = 0.1  # by how much the machine must be slower than at its best for a row to say so
_TURN = 10e-3  # seconds: what is shorter is repeated
_FEWEST_ROUNDS = 6  # the least and the greatest of so many samples are the bounds of the median's 95% interval
# Seconds between turns on several threads, in which all processors multiply and add. Virtual processors that wake from
# sleep may find themselves on one core, and it takes tens of milliseconds until they are apart again. Meanwhile GNU
# OpenMP's threads of the turn before end their spinning, 300,000 pauses or 6 to 14 ms.
SETTLE = 40e-3
# The same where NumPy's products take part, after which OpenBLAS's threads spin for 2**28 ticks or 0.1 s.
SETTLE_AFTER_PRODUCTS = 150e-3
_BEFORE_DROPPING = 2  # rounds after which a variant is out that takes this much longer than its group's best
_HOPELESS = 1.25


@dataclass(slots=True)
class Contender:
    """A workload of a side. Of those of one group only the fastest counts, and the slow ones are dropped early."""

    group: str
    name: str  # what the side knows the workload by
    side: Peer
    arguments: Sequence[Any]  # of the side's `workload`
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)  # of one call, round by round

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Within the `with` block the side has the workload, with its operands somewhere else in memory than before."""
        self.side.prepare(self.name, *self.arguments)
        try:
            yield
        finally:
            self.side.forget(self.name)

    def result(self, folder: Path) -> NDArray[Any]:
        """What the workload computes; `folder` is for a file that is read at once. Raises PeerError."""
        path = folder / "result.npy"
        with self.prepared():
            self.side.save(self.name, str(path))
        result: NDArray[Any] = np.load(path)
        return result


@dataclass(frozen=True, slots=True)
class Effort:
    """When to stop: when all intervals are as narrow as asked for, or the time is up."""

    confidence: float = 0.95
    precision: float = 0.02  # half of an interval's width, relative
    seconds: float = 4.0
    rounds: int = 500


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The median, and an interval that contains the population's median with at least that confidence.

    The bounds are order statistics, with ranks from the binomial distribution: no assumption about the distribution.
    With too few samples they are the smallest and the largest.
    """
    ordered = sorted(samples)
    n = len(ordered)
    outside, rank = 0.0, 0
    while rank < n // 2:  # the chance that fewer than rank + 1 samples fall below the median
        outside += math.comb(n, rank) / 2**n
        if 2 * outside > 1 - confidence:
            break
        rank += 1
    low = max(rank - 1, 0)
    return statistics.median(ordered), ordered[low], ordered[n - 1 - low]


def timing(samples: Sequence[float], confidence: float) -> Timing:
    """The median with its interval."""
    median, low, high = median_interval(samples, confidence)
    return Timing(seconds=median, low=low, high=high, samples=len(samples))


def noise(measured: Timing, slowdown: float) -> list[str]:
    """What must be said of a time that is not well known, or was taken while the machine was slow."""
    width = (measured.high - measured.low) / measured.seconds / 2
    notes = [f"noisy: the median is known to {width:.0%}"] if width > _NOISY else []
    return [*notes, f"the machine was {slowdown:.0%} slower than at its best"] if slowdown > _SLOWER else notes


def median_ratio(theirs: Sequence[float], ours: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """The median over the rounds of a ratio, with its interval."""
    return median_interval([one / other for one, other in zip(theirs, ours, strict=True)], confidence)


def fastest(contenders: Sequence[Contender], group: str) -> Contender:
    """The one of a group that counts: that with the least median of those that took part to the end."""
    members = [one for one in contenders if one.group == group]
    rounds = max(len(one.seconds) for one in members)
    return min((one for one in members if len(one.seconds) == rounds), key=lambda one: statistics.median(one.seconds))


def peer_result(best: Contender, ours: Contender, variant: str, error: float, confidence: float) -> PeerResult:
    """What a peer's fastest contender took, beside ours."""
    speedup, low, high = median_ratio(best.seconds, ours.seconds, confidence)
    return PeerResult(
        version=best.side.version,
        variant=variant,
        timing=timing(best.seconds, confidence),
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        error=error,
    )


def interleave(
    contenders: Sequence[Contender],
    effort: Effort,
    threads: int,
    each_round: Callable[[], None],
    settle: float = SETTLE,
) -> None:
    """Fills in the contenders' seconds; `each_round` is called after every round. The first contender is ours. On
    several threads, `settle` seconds pass before each turn.
    """
    for contender in contenders:
        with contender.prepared():
            once = contender.side.time(contender.name, warm=True)
        contender.repeats = max(1, min(round(_TURN / max(once, 1e-9)), 10_000))
    order = random.Random(0)
    running = list(contenders)
    end = time.monotonic() + effort.seconds
    for number in range(1, effort.rounds + 1):
        for contender in order.sample(running, len(running)):
            with contender.prepared():
                if threads > 1:
                    contenders[0].side.call("occupy", settle)
                contender.seconds.append(contender.side.time(contender.name, contender.repeats, warm=True))
        each_round()
        if number == _BEFORE_DROPPING:
            running = [one for one in running if not _hopeless(one, running)]
        if number >= _FEWEST_ROUNDS and (time.monotonic() > end or all(_known(one.seconds, effort) for one in running)):
            return


def _hopeless(contender: Contender, others: Sequence[Contender]) -> bool:
    best = min(statistics.median(other.seconds) for other in others if other.group == contender.group)
    return statistics.median(contender.seconds) > _HOPELESS * best


def _known(samples: Sequence[float], effort: Effort) -> bool:
    median, low, high = median_interval(samples, effort.confidence)
    return high - low <= 2 * effort.precision * median


class Drift:
    """How fast the machine is now, compared with its best, by the time that the same fixed work takes."""

    def __init__(self, work: Callable[[], float]) -> None:
        """work: returns the seconds that it took."""
        self._work = work
        self._best = math.inf
        self._times: list[float] = []

    def measure(self) -> None:
        """Does the work once more."""
        self._times.append(self._work())
        self._best = min(self._best, self._times[-1])

    def slowdown(self) -> float:
        """By how much the work took longer than at best, in the median since this was last asked: 0.1 is 10%."""
        times, self._times = self._times, []
        return statistics.median(times) / self._best - 1 if times else 0.0
