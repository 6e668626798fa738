"""The sides of `bench conv`: ours, and every peer that is installed, with the variants of which the best one counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import kernels
from .peer import Peer, PeerError
from .problem import Problem

_SIDES = Path(__file__).parent / "sides"

# The C library's allocator returns large blocks to the system, and fresh memory is slow: for results that are written
# for the first time that can be half of the time. Told to keep what it has, it is at its best.
_KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_MMAP_THRESHOLD_": str(2**40),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TOP_PAD_": str(2**26),
}
_FRESH_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": str(2**17)}

# What caps the peers at an instruction set as `AUTOGRAD_ISA` caps us.
_CAPS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "generic": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "DNNL_MAX_CPU_ISA": "SSE41",
        "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
        "OPENBLAS_CORETYPE": "Core2",
    },
}
_SMALL = 2 * 10**8  # operations up to which peers take part that are hundreds of times slower


@dataclass(frozen=True, slots=True)
class Kind:
    """A peer: its program in `sides`, and what it can do."""

    name: str
    program: str
    package: str  # the distribution to install
    variants: Mapping[str, Any]  # label -> the side's setting
    forward_only: bool = False
    small_only: bool = False
    plain_only: bool = False  # neither groups nor dilation
    capped: bool = True  # whether it obeys a cap of the instruction set

    def serves(self, problem: Problem, map_name: str) -> bool:
        """Whether it takes part in a row."""
        return (
            (map_name == "conv2d" or not self.forward_only)
            and (problem.flops <= _SMALL or not self.small_only)
            and ((problem.groups == 1 and problem.dilation == (1, 1)) or not self.plain_only)
        )


_LAYOUTS = ("channels_last", "contiguous")
KINDS = {
    "torch": Kind("PyTorch", "pytorch", "torch", {name: {"layout": name, "dtype": ""} for name in _LAYOUTS}),
    "jax": Kind("JAX", "jax", "jax", {"NHWC": "NHWC", "NCHW": "NCHW"}),
    "onnxruntime": Kind(
        "onnxruntime", "onnxruntime", "onnxruntime and onnx", {"": None}, forward_only=True, capped=False
    ),
    "scipy": Kind("SciPy", "scipy", "scipy", {"": None}, forward_only=True, small_only=True, plain_only=True),
    "composite": Kind("composite", "composite", "convgrad", {"": None}, small_only=True),
}
BFLOAT16 = Kind("PyTorch bf16", "pytorch", "torch", {name: {"layout": name, "dtype": "bfloat16"} for name in _LAYOUTS})


@dataclass(frozen=True, slots=True)
class PeerSide:
    """A peer that runs, with one setting of the allocator, whose label is '' if there is only one."""

    kind: Kind
    allocator: str
    side: Peer


def environment(isa: str, threads: int, memory: str) -> dict[str, str]:
    """The variables that all sides have in common: threads, instruction set, and whether memory is fresh."""
    variables = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "OPENBLAS", "MKL")}
    variables["AUTOGRAD_ISA"] = isa
    if isa != kernels.supported_isas()[0]:
        variables |= _CAPS.get(isa, {})
    if memory == "fresh":
        variables |= {"AUTOGRAD_CACHE_LIMIT": "0"} | _FRESH_MEMORY
    return variables


def our_side(stack: ExitStack, program: str, isa: str, threads: int, memory: str) -> Peer:
    """A program of `sides` that uses this package, in an interpreter of its own."""
    return _start(stack, _import(program), sys.executable, isa, threads, memory)


def peer_sides(
    stack: ExitStack, kinds: Sequence[Kind], pythons: Sequence[str], isa: str, threads: int, memory: str
) -> tuple[list[PeerSide], list[str]]:
    """The peers of those kinds that are installed in one of the interpreters or in this one, and why others are not."""
    found, notes = [], []
    capped = isa != kernels.supported_isas()[0]
    for kind in kinds:
        if capped and not kind.capped:
            notes.append(f"{kind.name} is left out: it cannot be kept to {isa}")
            continue
        allocators: dict[str, dict[str, str]] = {"": {}}
        if kind.package == "torch" and memory == "reused":
            allocators = {"": {}, "keeps memory": _KEEP_MEMORY}
        reason = ""
        for python in [sys.executable] if kind.package == "convgrad" else [*pythons, sys.executable]:
            try:
                for label, variables in allocators.items():
                    side = _start(stack, _program(kind), python, isa, threads, memory, variables)
                    found.append(PeerSide(kind, label, side))
            except PeerError as error:
                reason = str(error)
            else:
                break
        else:
            notes.append(f"{kind.name} was not found (pip install {kind.package}): {reason}")
    return found, notes


def variants(sides: Sequence[PeerSide], bfloat16: bool) -> Iterator[tuple[Kind, str, Peer, Any]]:
    """All variants of the peers: kind, label, side and the side's setting."""
    for one in sides:
        for kind in (one.kind, BFLOAT16) if bfloat16 and one.kind.program == BFLOAT16.program else (one.kind,):
            for label, setting in kind.variants.items():
                yield kind, ", ".join(filter(None, (label, one.allocator))), one.side, setting


def _import(program: str) -> str:
    return f"from {__package__}.sides.{program} import *"


def _program(kind: Kind) -> str:
    if kind.package == "convgrad":
        return _import(kind.program)
    return (_SIDES / f"{kind.program}.py").read_text(encoding="utf-8")


def _start(
    stack: ExitStack,
    program: str,
    python: str,
    isa: str,
    threads: int,
    memory: str,
    variables: Mapping[str, str] | None = None,
) -> Peer:
    side = Peer(program, python, environment(isa, threads, memory) | dict(variables or {}), threads)
    stack.callback(side.close)
    side.call("use_threads", threads)
    return side


def available_memory() -> int:
    """Bytes that the system could give to new processes."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        fields = dict(line.split(":") for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024
