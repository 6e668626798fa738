"""What a benchmark finds out: a report of rows, one for each problem, map and setting, each with its peers' results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of one call: the median over the rounds, and the bounds of its confidence interval."""

    seconds: float
    low: float
    high: float
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """A peer's time for a row, and the median over the rounds of its time over ours, with its confidence interval."""

    version: str  # "PyTorch 2.13.0+cpu"
    variant: str  # the fastest of the peer's variants for this row: "channels_last, keeps memory"; "" if it has one
    timing: Timing
    speedup: float  # above 1: convgrad takes less time
    speedup_low: float
    speedup_high: float
    error: float  # of the peer's result, as Row.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The most bytes that a fresh process had in memory: with its libraries alone, and after a few runs."""

    before: int
    peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One problem and setting, of any benchmark. `timing` is None if the result was wrong: then nothing was timed."""

    suite: str  # "resnet50"; "" for a problem given by itself
    layer: str  # "layer1.conv2" in the suite; "" where it has no name
    count: int  # how often the layer occurs in its network
    problem: str  # the canonical descriptor, "n8c64h56w56 k64r3 s1 p1"
    map: str  # what is computed: a function of autograd.kernels, or "step"
    dtype: str  # "float32" or "float64"
    isa: str  # "avx512"
    threads: int
    timing: Timing | None
    error: float  # greatest absolute error over the greatest absolute value of the float64 reference
    error_bound: float  # what `error` must not exceed to be right
    peers: Mapping[str, PeerResult] = field(default_factory=dict)  # by name: "PyTorch", "PyTorch bf16", "JAX", ...
    notes: tuple[str, ...] = ()  # "noisy: ...", "machine slower than at its best by 12%", why it is wrong

    @property
    def key(self) -> tuple[Any, ...]:
        """What two reports are matched by."""
        return (self.problem, self.map, self.dtype, self.isa, self.threads)

    @property
    def right(self) -> bool:
        """Whether the result was verified."""
        return self.timing is not None

    @property
    def best_peer(self) -> str | None:
        """The name of the peer that is fastest relative to ours at the same element type, if there is one."""
        names = [name for name in self.peers if not name.endswith("bf16")]
        return min(names, key=lambda name: self.peers[name].speedup, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row(Measurement):
    """One convolution: `map` is "conv2d", "conv2d_input" or "conv2d_weight"."""

    precision: str  # the accuracy class asked for: "highest", "high" or "medium"
    algorithm: str  # what ran
    automatic: bool  # whether it is what the automatic choice takes
    reason: str  # why it was chosen
    flops: int  # of the direct form: a multiply-add is two; products with padding count
    bytes: int  # both operands read once and the result written once
    peak_gflops: float  # of the machine's multiply-adds, measured with this isa, dtype and number of threads
    peak_bandwidth: float  # bytes per second, measured where as many bytes are gone through again and again
    workspace_bytes: int
    denormals: float | None = None  # time with inputs full of denormals over the normal time, if asked for
    product: float | None = None  # time of the convolution and a matrix product over the sum of both, if asked for

    @property
    def key(self) -> tuple[Any, ...]:
        """What two reports are matched by."""
        return (self.problem, self.map, self.dtype, self.isa, self.threads, self.precision, self.algorithm)

    @property
    def intensity(self) -> float:
        """Floating-point operations per byte that must move."""
        return self.flops / max(self.bytes, 1)

    @property
    def gflops(self) -> float:
        """Billions of the direct form's operations per second (more than the peak is possible: Winograd saves some)."""
        return self.flops / self.timing.seconds / 1e9 if self.timing else 0.0

    @property
    def roof_gflops(self) -> float:
        """The roofline at this row's intensity: what the multiply-adds and the memory of this machine allow."""
        return min(self.peak_gflops, self.peak_bandwidth / 1e9 * self.intensity)

    @property
    def fraction_of_roof(self) -> float:
        """`gflops` over `roof_gflops`."""
        return self.gflops / self.roof_gflops if self.roof_gflops else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow(Measurement):
    """One pooling: `map` is "max_pool2d", "max_scatter2d" (its gradient), "avg_pool2d" or "avg_pool2d_adjoint"."""

    bytes: int  # every operand read once and every result written once
    copy_bandwidth: float  # bytes per second of copying, measured where as many bytes are gone through

    @property
    def fraction_of_copy(self) -> float:
        """The bytes that must move in a second, over those that copying moves."""
        return self.bytes / self.timing.seconds / self.copy_bandwidth if self.timing else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRow(Measurement):
    """One training step of a network, `problem`: forward, loss, backward and update."""

    memory: Memory
    peer_memory: Mapping[str, Memory] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that one command measured, and where."""

    benchmark: str  # "conv", "pool", "train"
    command: str  # the command line
    finished: str  # ISO 8601, UTC
    machine: Mapping[str, str]  # processor, cores, memory, system
    versions: Mapping[str, str]  # convgrad, Python, NumPy, and each peer that took part
    settings: Mapping[str, Any]  # confidence, time limit, memory mode, ...
    rows: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()  # of the whole run: peers that were not found, drift
    schema: int = SCHEMA
