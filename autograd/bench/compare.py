"""What got faster or slower between two reports, beyond the noise that they themselves state."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .report import ReportError
from .rows import Measurement, Report, Timing

if TYPE_CHECKING:
    from rich.table import Table


# What an interval cannot know, which comes from the rounds of one run: in the next run arrays lie at other addresses.
_BETWEEN_RUNS = 0.02


class Interval(NamedTuple):
    """A ratio of two medians, and its bounds."""

    ratio: float
    low: float
    high: float


class Change(NamedTuple):
    """What happened to one row. Ratios are new times over old ones: above 1 is slower."""

    old: Measurement
    new: Measurement
    time: Interval | None  # None where a result was wrong
    peer: str | None  # of which both reports have the same version, if there is one
    against_peer: Interval | None  # the change of our time over that peer's, measured in turns with it

    @property
    def verdict(self) -> str:
        """'faster', 'slower', 'same', 'wrong' (it was right before) or 'right' (it was wrong before).

        A time has changed if the intervals of both runs are apart, by more than two processes with the same code
        differ. The whole machine may have become slower in between, so where both runs had the same peer, our time over
        the peer's must have changed in the same way.
        """
        if self.time is None:
            return "wrong" if self.old.right and not self.new.right else "right" if self.new.right else "same"
        intervals = [self.time, *([self.against_peer] if self.against_peer else [])]
        if all(interval.low > 1 + _BETWEEN_RUNS for interval in intervals):
            return "slower"
        return "faster" if all(interval.high < 1 - _BETWEEN_RUNS for interval in intervals) else "same"

    @property
    def ratio(self) -> float:
        """The smaller of the changes: what the row has at least become slower by."""
        assert self.time is not None
        if self.against_peer is None:
            return self.time.ratio
        return min(self.time.ratio, self.against_peer.ratio, key=lambda ratio: abs(ratio - 1))

    def fails(self, threshold: float) -> bool:
        """Whether the row became wrong, or slower beyond noise and by more than the threshold (0.05 is 5%)."""
        return self.verdict == "wrong" or (self.verdict == "slower" and self.ratio > 1 + threshold)


class Comparison(NamedTuple):
    """The rows that both reports have, and how many only one has."""

    changes: tuple[Change, ...]
    only_old: int
    only_new: int


def compare(old: Report, new: Report) -> Comparison:
    """Matches the rows of two reports of one benchmark. Raises ReportError if nothing matches."""
    if old.benchmark != new.benchmark:
        raise ReportError(f"the reports are of different benchmarks, {old.benchmark} and {new.benchmark}")
    before = {row.key: row for row in old.rows}
    after = {row.key: row for row in new.rows}
    changes = tuple(_change(row, after[key]) for key, row in before.items() if key in after)
    if not changes:
        raise ReportError("the reports have no row in common")
    return Comparison(changes, len(before) - len(changes), len(after) - len(changes))


def _change(old: Measurement, new: Measurement) -> Change:
    if old.timing is None or new.timing is None:
        return Change(old, new, None, None, None)
    for name in filter(None, (new.best_peer, *new.peers)):
        theirs, ours = old.peers.get(name), new.peers[name]
        if theirs and theirs.version == ours.version:
            against = Interval(
                theirs.speedup / ours.speedup,
                theirs.speedup_low / ours.speedup_high,
                theirs.speedup_high / ours.speedup_low,
            )
            return Change(old, new, _ratio(new.timing, old.timing), name, against)
    return Change(old, new, _ratio(new.timing, old.timing), None, None)


def _ratio(new: Timing, old: Timing) -> Interval:
    return Interval(new.seconds / old.seconds, new.low / old.high, new.high / old.low)


# ---- What is shown ----

_STYLES = {"slower": "red", "wrong": "bold red", "faster": "green", "right": "green", "same": "dim"}


def table(comparison: Comparison) -> Table:
    """A row for each change, for rich to print."""
    from rich.table import Table

    with_peer = any(change.peer for change in comparison.changes)
    shown = Table("problem", "map", "threads", *(["algorithm"] if _algorithm(comparison.changes[0].new) else []))
    for heading in ("old", "new", "time", *(["against peer"] if with_peer else []), ""):
        shown.add_column(heading, justify="right")
    for change in comparison.changes:
        algorithm = _algorithm(change.new)
        shown.add_row(
            change.new.problem,
            change.new.map,
            str(change.new.threads),
            *([algorithm] if algorithm else []),
            *(_milliseconds(row.timing) for row in (change.old, change.new)),
            _percent(change.time),
            *([_percent(change.against_peer)] if with_peer else []),
            change.verdict,
            style=_STYLES[change.verdict],
        )
    return shown


def summary(comparison: Comparison) -> str:
    """How many rows changed, in one line."""
    verdicts = [change.verdict for change in comparison.changes]
    parts = [f"{verdicts.count(verdict)} {verdict}" for verdict in _STYLES if verdict in verdicts]
    for count, name in ((comparison.only_old, "old"), (comparison.only_new, "new")):
        if count:
            parts.append(f"{count} only in the {name} report")
    return ", ".join(parts)


def _algorithm(row: Measurement) -> str:
    return str(getattr(row, "algorithm", ""))


def _milliseconds(timing: Timing | None) -> str:
    return f"{timing.seconds * 1e3:.3f} ms" if timing else "wrong"


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return ""
    ratio, low, high = (100 * (value - 1) for value in interval)
    return f"{ratio:+.1f}% ({low:+.1f} to {high:+.1f})"
