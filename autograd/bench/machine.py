"""What this machine can do at most, measured: multiply-adds and memory bandwidth, the two roofs of a roofline.

Williams, Waterman and Patterson, *Roofline: An Insightful Visual Performance Model for Multicore Architectures*,
Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import kernels

# Bytes of memory gone through again and again: from what a core's own cache holds to far beyond the last-level cache.
_FOOTPRINTS = tuple(2**power for power in range(18, 29, 2))
_BYTES_PER_CALL = 2**26
_STEPS_PER_CALL = 100_000
# The best of so many calls in as many seconds, at least: whatever else runs can only slow one down. Virtual processors
# that wake from sleep may share a core for tens of milliseconds.
_CALLS = 16
_SECONDS = 0.15


class Bandwidth(NamedTuple):
    """Bytes per second, where the memory gone through is `footprint` bytes; a copied byte counts twice."""

    footprint: int
    read: float
    copy: float


class Peak(NamedTuple):
    """The roofs for one instruction set, element type and number of threads."""

    gflops: float  # a multiply-add is two operations
    bandwidths: tuple[Bandwidth, ...]

    def bandwidth(self, footprint: float) -> float:
        """Bytes per second at this footprint, reading or copying, whichever is faster."""
        return self._at(footprint, [max(level.read, level.copy) for level in self.bandwidths])

    def copy_bandwidth(self, footprint: float) -> float:
        """Bytes per second of copying, reads and writes counted, where source and target are `footprint` bytes."""
        return self._at(footprint, [level.copy for level in self.bandwidths])

    def _at(self, footprint: float, values: list[float]) -> float:
        footprints = [math.log2(level.footprint) for level in self.bandwidths]
        return float(np.interp(math.log2(max(footprint, 1)), footprints, values))


@lru_cache
def peak(isa: str, threads: int, dtype: str) -> Peak:
    """The roofs, measured when first asked for, which takes about a second.

    Raises ValueError if this processor does not have the instruction set, and for less than one thread.
    """
    memory = np.ones(_FOOTPRINTS[-1], np.uint8)
    with kernels.use_isa(isa), _threads(threads):
        return Peak(
            _best_rate(lambda: kernels.multiply_adds(dtype, _STEPS_PER_CALL)) / 1e9,
            tuple(_bandwidth(memory[:footprint]) for footprint in _FOOTPRINTS),
        )


def _bandwidth(memory: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> Bandwidth:
    source, target = np.split(memory, 2)
    repeats = max(_BYTES_PER_CALL // memory.size, 1)
    return Bandwidth(
        memory.size,
        _best_rate(lambda: kernels.stream(memory, repeats=repeats)),
        _best_rate(lambda: kernels.stream(source, target, repeats)),
    )


def _best_rate(work: Callable[[], int]) -> float:
    """How much `work` does in a second, at best; it returns how much it did."""
    rates: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(rates) < _CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        done = work()
        rates.append(done / (time.perf_counter() - start))
    return max(rates)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = kernels.get_num_threads()
    kernels.set_num_threads(number)
    try:
        yield
    finally:
        kernels.set_num_threads(before)


def facts() -> dict[str, str]:
    """Processor, processors that this process may use, caches, memory and system, for a report to name."""
    found = {
        "processor": _processor(),
        "processors": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "instruction sets": ", ".join(kernels.supported_isas()),
        "caches": ", ".join(_caches()) or "unknown",
        "system": f"{platform.system()} {platform.machine()}",
    }
    if hasattr(os, "sysconf"):
        found["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    virtual = any(line.startswith("flags") and " hypervisor " in line for line in lines)
    return f"{name} (virtual machine)" if virtual else name


def _caches() -> Iterator[str]:
    """The data caches of the first processor, such as 'L2 1024K'."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            yield f"L{level} {size}"
