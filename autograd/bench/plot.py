"""Pictures of a report: a roofline with a dot for each row, and bars for each layer beside the peers'."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .report import ReportError, check_output, write_file
from .rows import Measurement, PoolRow, Report, Row, Timing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAPS = {
    "conv2d": ("forward", "o"),
    "conv2d_input": ("input gradient", "s"),
    "conv2d_weight": ("weight gradient", "^"),
}
# Okabe and Ito's colours, which people who do not see all colours can tell apart; ours first.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442", "#999999")
_LIMIT_LINE: dict[str, Any] = {"color": "0.3", "lw": 1, "ls": "--"}


def check_picture(path: Path) -> None:
    """Raises OSError or ValueError if the pictures of a report cannot be written beside this path."""
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"a picture's name must end in .png, .svg or .pdf, got {str(path)!r}")
    check_output(path)


def plot(report: Report, path: Path) -> list[Path]:
    """Writes the pictures of a report and returns their paths: NAME.png becomes NAME-roofline.png and NAME-layers.png.

    A roofline is drawn of convolutions only. Raises ReportError if no row was timed.
    """
    check_picture(path)
    rows = [row for row in report.rows if row.timing]
    if not rows:
        raise ReportError("the report has no row with a time to draw")
    figures = {"layers": _layers(rows)}
    if convolutions := [row for row in rows if isinstance(row, Row) and row.roof_gflops]:
        figures["roofline"] = _roofline(convolutions)
    written = []
    for name, figure in figures.items():
        content = io.BytesIO()
        figure.savefig(content, format=path.suffix[1:])
        written.append(path.with_stem(f"{path.stem}-{name}"))
        write_file(written[-1], content.getvalue())
    return written


def _setting(row: Measurement) -> str:
    precision = f", class {row.precision}" if isinstance(row, Row) else ""
    return f"{row.dtype}{precision}, {row.isa}, {row.threads} thread{'s' * (row.threads > 1)}"


def _subject(rows: Sequence[Measurement]) -> str:
    return ", ".join(dict.fromkeys(row.suite for row in rows if row.suite)) or "convgrad"


# ---- Roofline ----


def _roofline(rows: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    settings = list(dict.fromkeys(map(_setting, rows)))
    colours = dict(zip(dict.fromkeys(row.algorithm for row in rows), itertools.cycle(_COLOURS), strict=False))
    figure = Figure(figsize=(2.5 + 7 * len(settings), 6), layout="constrained", dpi=120)
    figure.suptitle(f"{_subject(rows)}: roofline", fontsize=15)
    panels = figure.subplots(1, len(settings), squeeze=False, sharex=True, sharey=True)[0]
    _scales(panels[0], rows)
    for axes, setting in zip(panels, settings, strict=True):
        chosen = [row for row in rows if _setting(row) == setting]
        _roofs(axes, chosen)
        for row in chosen:
            _, marker = _MAPS[row.map]
            axes.plot(
                row.intensity, row.gflops, marker, ms=8, color=colours[row.algorithm], mec="white", mew=0.8, alpha=0.9
            )
        axes.set_title(setting, fontsize=13)
        axes.set_xlabel("operations per byte that must move", fontsize=12)
    panels[0].set_ylabel("GFLOP/s of the direct form", fontsize=12)
    present = {row.map for row in rows}
    keys = [("o", colour, name) for name, colour in colours.items()]
    keys += [(marker, "0.4", name) for map_name, (name, marker) in _MAPS.items() if map_name in present]
    handles = [
        Line2D([], [], marker=marker, color=colour, label=name, ls="", ms=8, mec="white")
        for marker, colour, name in keys
    ]
    in_a_line = min(len(handles), 5)  # what fits the width
    figure.legend(handles=handles, loc="outside lower center", ncols=in_a_line, frameon=False, fontsize=11)
    return figure


def _scales(axes: Axes, rows: Sequence[Row]) -> None:
    """Logarithmic axes with all dots, and with the ridges where the roofs of memory and of multiply-adds meet."""
    ridges = [row.peak_gflops / row.peak_bandwidth * 1e9 for row in rows]
    x = [*ridges, *(row.intensity for row in rows)]
    y = [row.gflops for row in rows]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(min(x) / 2, max(x) * 2)
    axes.set_ylim(min(y) / 2, max(*y, *(row.peak_gflops for row in rows)) * 1.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")


def _roofs(axes: Axes, rows: Sequence[Row]) -> None:
    """The measured limits: multiply-adds, and memory, which is the slower the more bytes a problem goes through."""
    peak = max(row.peak_gflops for row in rows)
    bandwidths = [row.peak_bandwidth / 1e9 for row in rows]
    slow, fast = min(bandwidths), max(bandwidths)
    x = np.geomspace(*axes.get_xlim(), 500)
    for bandwidth in (slow, fast):
        axes.plot(x, np.minimum(peak, bandwidth * x), color="0.25", lw=1.5)
    axes.fill_between(x, np.minimum(peak, slow * x), np.minimum(peak, fast * x), color="0.9", lw=0)
    text: dict[str, Any] = {"textcoords": "offset points", "color": "0.25", "fontsize": 11}
    axes.annotate(f"multiply-adds: {peak:.0f} GFLOP/s", (peak / slow, peak), (4, 5), **text)
    labels = {slow: f"memory\n{slow:.0f} GB/s", fast: f"in cache\n{fast:.0f} GB/s"}
    if fast < 2 * slow:  # too close to each other for two labels
        labels = {slow: f"memory\n{slow:.0f} to {fast:.0f} GB/s"}
    for bandwidth, label in labels.items():
        height = math.sqrt(peak * max(axes.get_ylim()[0], bandwidth * x[0]))  # the middle of what is seen
        axes.annotate(label, (height / bandwidth, height), (8, 0), va="top", **text)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


# ---- Bars ----


class _Bars(NamedTuple):
    """How the bars of one kind of row are drawn: a rate, or the time itself where no rate is usual."""

    label: str
    work: float | None  # what a rate is of, in units of the label
    limit: float | None = None  # a dashed line
    limit_name: str = ""


def _bars(row: Measurement) -> _Bars:
    if isinstance(row, Row):
        return _Bars("GFLOP/s", row.flops / 1e9, row.peak_gflops or None, "peak of multiply-adds")
    if isinstance(row, PoolRow):
        return _Bars("GB/s", row.bytes / 1e9, row.copy_bandwidth / 1e9, "copying")
    return _Bars("milliseconds", None)


def _layers(rows: Sequence[Measurement]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    maps = list(dict.fromkeys(row.map for row in rows))
    settings = list(dict.fromkeys(map(_setting, rows)))
    groups = {place: [r for r in rows if (r.map, _setting(r)) == place] for place in itertools.product(maps, settings)}
    width = min(max(6, 3 + 0.6 * max(map(len, groups.values()))), 24)
    figure = Figure(figsize=(width * len(settings), 1 + 3.2 * len(maps)), layout="constrained", dpi=120)
    figure.suptitle(f"{_subject(rows)}: {_bars(rows[0]).label}", fontsize=15)
    peers = dict.fromkeys(name for row in rows for name in row.peers)
    colours = dict(zip(["convgrad", *peers], itertools.cycle(_COLOURS), strict=False))
    panels = figure.subplots(len(maps), len(settings), squeeze=False, sharey=True)
    for axes, group in zip(panels.flat, groups.values(), strict=True):
        if group:
            _panel(axes, group, colours)
        else:
            axes.set_axis_off()
    handles: list[Artist] = [Patch(color=colour, label=name) for name, colour in colours.items()]
    if _bars(rows[0]).limit:
        handles.append(Line2D([], [], label=_bars(rows[0]).limit_name, **_LIMIT_LINE))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=12)
    return figure


def _panel(axes: Axes, rows: Sequence[Measurement], colours: Mapping[str, str]) -> None:
    """One group of bars for each layer, ours first, with the medians' intervals as whiskers."""
    sides: dict[str, list[Timing | None]] = {"convgrad": [row.timing for row in rows]}
    for name in colours:
        if any(name in row.peers for row in rows):
            sides[name] = [row.peers[name].timing if name in row.peers else None for row in rows]
    width = 0.8 / len(sides)
    places = np.arange(len(rows))
    for i, (name, timings) in enumerate(sides.items()):
        heights = np.array([_height(row, timing) for row, timing in zip(rows, timings, strict=True)])
        middle = heights[:, 0]
        whiskers = np.abs(heights[:, 1:] - middle[:, None]).T
        offset = (i - (len(sides) - 1) / 2) * width
        axes.bar(places + offset, middle, width, color=colours[name], yerr=whiskers, ecolor="0.3")
    limits = [limit for row in rows if (limit := _bars(row).limit)]
    if len(limits) == len(rows):
        axes.step([-0.5, *places + 0.5], [limits[0], *limits], where="pre", **_LIMIT_LINE)
    title, _ = _MAPS.get(rows[0].map, (rows[0].map.replace("_", " "), ""))
    axes.set_title(f"{title} ({_setting(rows[0])})", fontsize=12, loc="left")
    axes.set_ylabel(_bars(rows[0]).label)
    axes.set_xticks(places, [_label(row) for row in rows], rotation=30, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.grid(axis="y", color="0.93")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(row: Measurement) -> str:
    name = row.layer or row.problem
    return f"{name} ({row.algorithm})" if isinstance(row, Row) and not row.automatic else name


def _height(row: Measurement, timing: Timing | None) -> tuple[float, float, float]:
    """The bar, and the lower and the upper end of its whisker; nothing where a peer has no result."""
    if timing is None:
        return (np.nan, np.nan, np.nan)
    work = _bars(row).work
    middle, *ends = (
        1e3 * seconds if work is None else work / seconds for seconds in (timing.seconds, timing.low, timing.high)
    )
    return (middle, min(ends), max(ends))
