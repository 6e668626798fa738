"""The command line of `bench`: each benchmark is a subcommand with a function that adds its arguments."""

from __future__ import annotations

import argparse
import math
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import kernels
from ..arguments import choice
from .compare import compare
from .compare import summary as comparison_summary
from .compare import table as comparison_table
from .contest import Settings as ContestSettings
from .conv import PRECISIONS, ConvBenchmark, Settings
from .graph import node_cost
from .machine import facts
from .peers import KINDS
from .plot import check_picture, plot
from .pool import cases as pool_cases
from .pool import measure as measure_pooling
from .problem import MAPS, Problem
from .report import check_output, read_json, write_csv, write_json
from .rows import Measurement, Report
from .suites import SUITES, Case, read_suite, suite
from .table import Table
from .timing import Effort
from .train import BATCHES
from .train import measure as measure_training

_EXIT_CODES = "Exit codes: 0; 1 if a result was wrong; 2 if nothing could be measured."
_PICTURES = "write pictures, FILE.png, .svg or .pdf: a bar chart, FILE-layers, and of convolutions FILE-roofline"


def add_commands(bench: argparse.ArgumentParser) -> None:
    """The subcommands of `bench`. Each sets `run`, which returns the exit code."""
    commands = bench.add_subparsers(required=True, metavar="WHAT")
    _add_graph(commands)
    _add_conv(commands)
    _add_pool(commands)
    _add_train(commands)
    _add_compare(commands)
    _add_plot(commands)


# ---- graph ----


def _add_graph(commands: Any) -> None:
    says = "the cost of a node, forward and backward"
    graph = commands.add_parser("graph", help=says, description=says.capitalize() + ".")
    graph.add_argument("--peer-python", metavar="PATH", help="an interpreter that has PyTorch, to compare with")
    graph.set_defaults(run=_graph)


def _graph(options: argparse.Namespace) -> int:
    found = node_cost(options.peer_python)
    for cost in filter(None, (found.ours, found.peer)):
        low, high = cost.spread
        print(f"{cost.version:20} {cost.median:6.2f} us per scalar multiply-add (quartiles {low:.2f} to {high:.2f})")
    if found.ratio is not None:
        print(f"{'ratio':20} {found.ratio:6.2f} (median over the rounds)")
    return 0


# ---- conv ----


def _add_conv(commands: Any) -> None:
    conv = commands.add_parser(
        "conv",
        help="convolution and its gradients, problem by problem, beside other libraries",
        description="Verifies and times convolution, its input gradient and its filter gradient, in turns with every "
        "peer that is installed. A problem is written as 'n8c64h56w56 k64r3 s1 p1': n images, c input channels, height "
        "h, width w, k output channels, kernel r (or r3x5), stride s, padding p, dilation d, groups g. n, s, d and g "
        "are 1 unless given, p is 0, w is h.",
        epilog=_EXIT_CODES,
    )
    conv.add_argument("problems", nargs="*", metavar="PROBLEM", help="a convolution, as above")
    conv.add_argument("--suite", nargs="+", default=[], metavar="NAME", help=f"all layers of: {', '.join(SUITES)}")
    conv.add_argument("--file", type=Path, action="append", default=[], help="a text file of problems, one a line")
    conv.add_argument("--batch", metavar="N", help="images in every problem, instead of its own number")
    lists = {
        "map": (",".join(MAPS), "maps"),
        "threads": ("1", "numbers of threads"),
        "precision": ("highest", f"classes of accuracy of float32: {', '.join(PRECISIONS)}"),
        "dtype": ("float32", "float32, float64"),
        "isa": (kernels.supported_isas()[0], f"instruction sets: {', '.join(kernels.supported_isas())}"),
        "peers": (",".join(KINDS), "whom to compare with, if installed; or none"),
    }
    for name, (default, says) in lists.items():
        # The number of threads has a name of its own, because `threads` is for commands that have one.
        conv.add_argument(
            f"--{name}", dest=f"{name}_list", default=default, metavar="A,B,...", help=f"{says} (default: %(default)s)"
        )
    conv.add_argument("--algorithm", default="", metavar="NAME", help="instead of the automatic choice; or: all")
    conv.add_argument(
        "--peer-python", action="append", default=[], metavar="PATH", help="an interpreter to find peers in; repeatable"
    )
    conv.add_argument("--memory", choices=("reused", "fresh"), default="reused", help="where results are written")
    conv.add_argument("--denormals", action="store_true", help="also time inputs full of denormal numbers")
    conv.add_argument("--product", action="store_true", help="also time it in turns with a matrix product of NumPy's")
    effort = Effort()
    limits = {
        "seconds": (effort.seconds, "for a problem and map, at most"),
        "rounds": (effort.rounds, "for a problem and map, at most"),
        "confidence": (effort.confidence, "of the intervals of medians"),
        "within": (effort.precision, "how well medians must be known for the rounds to end, relative"),
    }
    for name, (limit, says) in limits.items():
        conv.add_argument(
            f"--{name}", type=type(limit), default=limit, metavar="N", help=f"{says} (default: %(default)s)"
        )
    _add_outputs(conv)
    conv.set_defaults(run=_conv)


def _conv(options: argparse.Namespace) -> int:
    cases = [Case("", "", 1, Problem.parse(text)) for text in options.problems]
    for name in options.suite:
        cases += suite(name)
    for path in options.file:
        cases += read_suite(path)
    if not cases:
        raise ValueError("name a PROBLEM, a --suite or a --file")
    if options.batch is not None:
        batch = _positive("--batch", options.batch)
        cases = [replace(case, problem=replace(case.problem, batch=batch)) for case in cases]
    if options.algorithm:
        choice("bench conv", "--algorithm", options.algorithm, "all", *kernels.algorithms())
    if not 0 < options.confidence < 1:
        raise ValueError(f"--confidence must be between 0 and 1, got {options.confidence}")
    settings = Settings(
        maps=_words("--map", options.map_list, MAPS),
        threads=[_positive("--threads", word) for word in options.threads_list.split(",")],
        precisions=_words("--precision", options.precision_list, PRECISIONS),
        dtypes=_words("--dtype", options.dtype_list, ("float32", "float64")),
        isas=_words("--isa", options.isa_list, kernels.supported_isas()),
        algorithm=options.algorithm,
        peers=[name for name in _words("--peers", options.peers_list, (*KINDS, "none")) if name != "none"],
        peer_pythons=options.peer_python,
        memory=options.memory,
        denormals=options.denormals,
        product=options.product,
        effort=Effort(options.confidence, options.within, options.seconds, options.rounds),
    )
    _check_outputs(options)
    with Table() as table:
        benchmark = ConvBenchmark(cases, settings, table)
        rows = benchmark.run()
        table.summary(rows)
    return _finish("conv", options, settings, rows, benchmark.versions, benchmark.notes)


# ---- pool and train ----


def _add_pool(commands: Any) -> None:
    pool = commands.add_parser(
        "pool",
        help="max and average pooling of well-known networks, forward and gradient, beside PyTorch",
        description="Verifies and times max and average pooling and their gradients, on layers of well-known networks, "
        "in turns with PyTorch in the better of its memory formats, and says what part of the speed of copying is "
        "reached.",
        epilog=_EXIT_CODES,
    )
    _add_settings(pool, seconds=1.0)
    pool.set_defaults(run=_pool)


def _pool(options: argparse.Namespace) -> int:
    settings = _settings(options)
    with Table() as table:
        rows, versions = measure_pooling(pool_cases(_batch(options)), settings, table)
        table.summary(rows)
    return _finish("pool", options, settings, rows, versions)


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="a whole training step of small networks, its time and memory, beside PyTorch",
        description="Verifies and times training steps (forward, loss, backward, update), in turns with PyTorch in the "
        "better of its memory formats, and measures the memory of a fresh process that makes some.",
        epilog=_EXIT_CODES,
    )
    train.add_argument("networks", nargs="*", metavar="NETWORK", help=f"{', '.join(BATCHES)} (default: all)")
    _add_settings(train, seconds=5.0)
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    for name in options.networks:
        choice("bench train", "NETWORK", name, *BATCHES)
    settings = _settings(options)
    with Table() as table:
        rows, versions = measure_training(options.networks or list(BATCHES), _batch(options), settings, table)
        table.summary(rows)
    return _finish("train", options, settings, rows, versions)


def _add_settings(command: argparse.ArgumentParser, seconds: float) -> None:
    """What pool and train have in common."""
    command.add_argument("--batch", metavar="N", help="images, instead of each layer's or network's own number")
    command.add_argument(
        "--threads", dest="threads_list", default="1", metavar="A,B,...", help="numbers of threads (default: 1)"
    )
    command.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    best, *_ = kernels.supported_isas()
    command.add_argument("--isa", choices=kernels.supported_isas(), default=best, help="instruction set")
    command.add_argument(
        "--peer-python", action="append", default=[], metavar="PATH", help="an interpreter to find PyTorch in"
    )
    command.add_argument("--memory", choices=("reused", "fresh"), default="reused", help="where results are written")
    command.add_argument(
        "--seconds", type=float, default=seconds, metavar="N", help="for a row, at most (default: %(default)s)"
    )
    _add_outputs(command)


def _settings(options: argparse.Namespace) -> ContestSettings:
    _check_outputs(options)
    return ContestSettings(
        threads=[_positive("--threads", word) for word in options.threads_list.split(",")],
        isa=options.isa,
        dtype=options.dtype,
        memory=options.memory,
        peer_pythons=options.peer_python,
        effort=Effort(seconds=options.seconds),
    )


def _batch(options: argparse.Namespace) -> int | None:
    return None if options.batch is None else _positive("--batch", options.batch)


# ---- What is written at the end ----


def _add_outputs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", type=Path, metavar="FILE", help="write a report, for bench compare and bench plot")
    command.add_argument("--csv", type=Path, metavar="FILE", help="write the rows as a table")
    command.add_argument("--plot", type=Path, metavar="FILE", help=_PICTURES)


def _check_outputs(options: argparse.Namespace) -> None:
    """Before the measurement, so that it is not lost."""
    for path in filter(None, (options.json, options.csv)):
        check_output(path)
    if options.plot:
        check_picture(options.plot)


def _finish(
    benchmark: str,
    options: argparse.Namespace,
    settings: Settings | ContestSettings,
    rows: Sequence[Measurement],
    versions: Mapping[str, str],
    notes: Sequence[str] = (),
) -> int:
    """Writes what was asked for, and returns the exit code."""
    report = Report(
        benchmark=benchmark,
        command=shlex.join(["python", "-m", "autograd", *sys.argv[1:]]),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=facts(),
        versions={"Python": platform.python_version(), "NumPy": np.__version__, **versions},
        settings=asdict(settings),
        rows=tuple(rows),
        notes=tuple(notes),
    )
    if options.json:
        write_json(report, options.json)
    if options.csv:
        write_csv(report, options.csv)
    if options.plot:
        print("pictures:", *plot(report, options.plot))
    return 0 if all(row.right for row in rows) else 1


# ---- compare and plot ----


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="what became faster or slower between two reports",
        description="Compares two reports of --json, row by row. A time has changed if the intervals of its two "
        "medians do not overlap and, where both reports have the same peer, our time relative to the peer's has "
        "changed likewise.",
        epilog="Exit codes: 0; 1 with --fail-over if a row became slower or wrong; 2 if there is nothing to compare.",
    )
    compare.add_argument("old", type=Path, metavar="OLD.json")
    compare.add_argument("new", type=Path, metavar="NEW.json")
    compare.add_argument(
        "--fail-over", type=_percentage, metavar="5%", help="exit with 1 if a row is slower by more, beyond noise"
    )
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from rich.console import Console

    comparison = compare(read_json(options.old), read_json(options.new))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(comparison_table(comparison))
    console.print(comparison_summary(comparison))
    threshold = options.fail_over
    return int(threshold is not None and any(change.fails(threshold) for change in comparison.changes))


def _percentage(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a percentage such as 5%, got {text!r}")
    return value


def _add_plot(commands: Any) -> None:
    says = "draw a report"
    plot_ = commands.add_parser("plot", help=says, description=says.capitalize() + " that was written with --json.")
    plot_.add_argument("report", type=Path, metavar="REPORT.json")
    plot_.add_argument("--out", type=Path, default=Path("bench.png"), metavar="FILE", help=_PICTURES)
    plot_.set_defaults(run=_plot)


def _plot(options: argparse.Namespace) -> int:
    check_picture(options.out)
    print(*plot(read_json(options.report), options.out))
    return 0


# ---- Words ----


def _positive(argument: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{argument} must be positive, got {text!r}")
    return int(text)


def _words(argument: str, text: str, allowed: Sequence[str]) -> list[str]:
    """Words separated by commas, each once."""
    words = list(dict.fromkeys(text.split(",")))
    for word in words:
        if word not in allowed:
            raise ValueError(f"{argument} must be of {', '.join(allowed)}, got {word!r}")
    return words
