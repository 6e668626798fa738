"""The table of a benchmark as it grows: a line for each row, on a terminal with a bar below it; at the end means."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from .conv import Listener
from .rows import Measurement, PoolRow, Row, Timing, TrainRow


class Table(Listener):
    """Prints as it is told; a context manager. Plain text where rich is not installed or the output is no terminal."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._heading = ""
        with suppress(ModuleNotFoundError):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            console = Console(soft_wrap=True, highlight=False)
            if console.is_terminal:
                columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
                self._progress = Progress(*columns, console=console, transient=True)

    def __enter__(self) -> Table:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._progress:
            self._progress.stop()

    def begin(self, total: int) -> None:
        if self._progress:
            self._task = self._progress.add_task("", total=total, completed=-1)

    def step(self, what: str) -> None:
        if self._progress:
            self._progress.update(self._task, advance=1, description=what)

    def note(self, text: str) -> None:
        self._print(f"note: {text}")

    def row(self, row: Measurement) -> None:
        heading = f"{row.suite} {row.dtype}, {row.isa}, threads: {row.threads}".strip()
        header, figures = _LAYOUTS[type(row)]
        if heading != self._heading:
            self._print(f"\n{heading}\n{header}", "bold")
            self._heading = heading
        worst = min((peer.speedup for peer in row.peers.values()), default=1.0)
        self._print(_line(row, figures(row)), "red" if not row.right else "yellow" if worst < 1 else "")

    def summary(self, rows: Sequence[Measurement]) -> None:
        """Geometric means of the speed-ups, the row that has the least, and how many are below 1; and reasons."""
        for line in [*_means(rows), *_reasons(rows)]:
            self._print(line)

    def _print(self, text: str, style: str = "") -> None:
        if self._progress:
            self._progress.console.print(text, style=style or None, markup=False)
        else:
            print(text, flush=True)


def _line(row: Measurement, figures: str) -> str:
    if row.timing is None:
        return figures + "; ".join(row.notes)
    for name, peer in row.peers.items():
        figures += f" {peer.speedup:5.2f} {name}" + (f" ({peer.variant})" if peer.variant else "")
    return figures + "".join(f"; {note}" for note in row.notes)


def _conv(row: Any) -> str:
    algorithm = row.algorithm if row.automatic else f"({row.algorithm})"
    line = f"{row.problem:30} {row.map:13} {row.precision:7} {algorithm:16} "
    if row.timing:
        line += (
            f"{_time(row.timing)} {row.gflops:8.1f} {row.fraction_of_roof:7.0%} {row.intensity:6.1f} "
            f"{_bytes(row.workspace_bytes):>7} {row.error:7.0e} "
        )
        line += "" if row.denormals is None else f"denormals x{row.denormals:.2f} "
        line += "" if row.product is None else f"with @ x{row.product:.2f} "
    return line


def _pool(row: Any) -> str:
    line = f"{row.layer:27} {row.problem:29} {row.map:18} "
    if row.timing:
        rate = row.bytes / row.timing.seconds / 1e9
        line += f"{_time(row.timing)} {rate:8.1f} {row.fraction_of_copy:7.0%} {row.error:7.0e} "
    return line


def _train(row: Any) -> str:
    line = f"{row.problem:16} "
    if row.timing:
        used = {"convgrad": row.memory, **row.peer_memory}
        memory = ", ".join(
            f"{_bytes(one.before)} + {_bytes(one.peak - one.before)} {name}" for name, one in used.items()
        )
        line += f"{_time(row.timing)} {row.error:7.0e}  {memory:52}"
    return line


_LAYOUTS: Mapping[type[Measurement], tuple[str, Callable[[Any], str]]] = {
    Row: (
        f"{'problem':30} {'map':13} {'class':7} {'algorithm':16} {'time':>9} {'+-':>4} {'GFLOP/s':>8} {'of roof':>7} "
        f"{'FLOP/B':>6} {'work':>7} {'error':>7}  speed-up",
        _conv,
    ),
    PoolRow: (
        f"{'layer':27} {'problem':29} {'map':18} {'time':>9} {'+-':>4} {'GB/s':>8} {'of copy':>7} {'error':>7}  "
        "speed-up",
        _pool,
    ),
    TrainRow: (
        f"{'network':16} {'time':>9} {'+-':>4} {'error':>7}  {'peak memory: libraries + network and steps':52} "
        "speed-up",
        _train,
    ),
}


def _means(rows: Sequence[Measurement]) -> list[str]:
    groups: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        precision = ""
        if isinstance(row, Row):
            if not row.automatic:
                continue
            precision = f" {row.precision},"
        setting = f"{row.suite} {row.dtype},{precision} {row.isa}, threads: {row.threads}".strip()
        for name, peer in row.peers.items():
            groups.setdefault((setting, row.map, name), []).append(peer.speedup)
        if len(row.peers) > 1 and row.best_peer:
            groups.setdefault((setting, row.map, "the best"), []).append(row.peers[row.best_peer].speedup)
    lines = []
    for (setting, map_name, name), speedups in sorted(groups.items()):
        below = sum(speedup < 1 for speedup in speedups)
        lines.append(
            f"{setting:52} {map_name:13} {name:13} {statistics.geometric_mean(speedups):8.2f} {min(speedups):6.2f} "
            f"{below:4} of {len(speedups)}"
        )
    if lines:
        title = f"{'speed-up over':52} {'map':13} {'peer':13}"
        lines.insert(0, f"\n{title} {'geomean':>8} {'least':>6}  below 1")
    return lines


def _reasons(rows: Sequence[Measurement]) -> list[str]:
    reasons = dict.fromkeys(
        f"  {row.algorithm}: {row.reason}" for row in rows if isinstance(row, Row) and row.automatic
    )
    return ["\nwhy these algorithms", *reasons] if reasons else []


def _time(timing: Timing) -> str:
    return f"{_seconds(timing.seconds):>9} {(timing.high - timing.low) / timing.seconds / 2:4.0%}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} us"


def _bytes(size: int) -> str:
    return f"{size / 2**20:.1f}M" if size >= 2**20 else f"{size / 2**10:.0f}K"
