"""The command line of `bench`: each benchmark is a subcommand with a function that adds its arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import kernels
from ..arguments import choice
from .conv import PRECISIONS, ConvBenchmark, Settings
from .graph import node_cost
from .peers import KINDS
from .problem import MAPS, Problem
from .suites import SUITES, Case, read_suite, suite
from .table import Table
from .timing import Effort


def add_commands(bench: argparse.ArgumentParser) -> None:
    """The subcommands of `bench`. Each sets `run`, which returns the exit code."""
    commands = bench.add_subparsers(required=True, metavar="WHAT")
    _add_graph(commands)
    _add_conv(commands)


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
        epilog="Exit codes: 0; 1 if a result was wrong; 2 if nothing could be measured.",
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
        effort=Effort(options.confidence, options.within, options.seconds, options.rounds),
    )
    with Table() as table:
        rows = ConvBenchmark(cases, settings, table).run()
        table.summary(rows)
    return 0 if all(row.right for row in rows) else 1


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
