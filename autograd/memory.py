"""The reuse pool of large arrays: memory that one result no longer needs serves the next one.

Fresh memory is expensive: the system maps and clears it page by page when it is first written, which can take as long
as computing what is written. The results and the workspace of the kernels therefore lie in blocks that come back to
this pool when the last array that views them is gone, by reference counting alone. What lies idle here is bounded by a
limit, beyond which the sizes that were not used for longest go back to the system first.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arguments import integer

# Bytes below which NumPy's own allocation is quicker than the pool's bookkeeping.
_SMALLEST = 1 << 15
_HUGE = 1 << 22  # bytes from which on large pages are asked for


class CacheInfo(NamedTuple):
    """What the pool has: bytes that lie idle and the most that may, and how many requests it could serve or not."""

    idle: int
    limit: int
    hits: int
    misses: int


class _Block(np.ndarray[Any, np.dtype[np.uint8]]):
    """A block in use. The arrays in it refer to it as their base, and it returns to the pool when they are gone."""

    memory: mmap.mmap | None = None  # stays None in views that others make of a block

    def __del__(self) -> None:
        if self.memory is not None and _give is not None:  # None while the interpreter shuts down
            _give(self.memory)


_lock = threading.RLock()  # a signal handler may drop an array while the same thread is in here
_idle: OrderedDict[int, list[mmap.mmap]] = OrderedDict()  # by size; the size used last is last


class _State:
    limit: int | None = None
    idle = hits = misses = 0


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A C-contiguous array with arbitrary values, like ``numpy.empty``; if it is large, in memory from the pool.

    Raises ``MemoryError`` if the system has no memory even after everything idle was given back to it.
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size < _SMALLEST or get_cache_limit() == 0:
        return np.empty(shape, dtype)
    memory = _take(size)
    block = _Block((len(memory),), np.uint8, memory)
    block.memory = memory
    return np.ndarray(shape, dtype, block)


def _take(size: int) -> mmap.mmap:
    # Eight sizes to every doubling: at most an eighth of a block is unused.
    step = 1 << max(size.bit_length() - 4, 12)
    size = -(-size // step) * step
    with _lock:
        blocks = _idle.get(size)
        if blocks:
            _State.hits += 1
            _State.idle -= size
            return blocks.pop()
        _State.misses += 1
    try:
        return _allocate(size)
    except OSError:
        empty_cache()
    try:
        return _allocate(size)
    except OSError:
        raise MemoryError(f"empty: unable to allocate {size} bytes") from None


def _allocate(size: int) -> mmap.mmap:
    """Memory of its own from the system, which begins at a page and goes back to the system when it is freed."""
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # of a system without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def _give(memory: mmap.mmap) -> None:
    with _lock:
        _idle.setdefault(len(memory), []).append(memory)
        _idle.move_to_end(len(memory))
        _State.idle += len(memory)
        _shrink(get_cache_limit())


def _shrink(limit: int) -> None:
    while _State.idle > limit:
        size, blocks = next(iter(_idle.items()))
        if blocks:
            blocks.pop(0)
            _State.idle -= size
        else:
            del _idle[size]


def get_cache_limit() -> int:
    """The most bytes that may lie idle in the pool.

    It is what ``set_cache_limit`` set, else the environment variable ``AUTOGRAD_CACHE_LIMIT`` (in bytes), else a
    quarter of the machine's memory.
    """
    if _State.limit is None:
        text = os.environ.get("AUTOGRAD_CACHE_LIMIT")
        if text is None:
            _State.limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        elif text.strip().isdecimal():
            _State.limit = int(text)
        else:
            raise ValueError(f"AUTOGRAD_CACHE_LIMIT must be a number of bytes, got {text!r}")
    return _State.limit


def set_cache_limit(n: int) -> None:
    """Let at most ``n`` bytes lie idle in the pool; 0 switches reuse off. What is beyond goes back to the system."""
    _State.limit = integer("set_cache_limit", "n", n, 0)
    with _lock:
        _shrink(_State.limit)


def empty_cache() -> None:
    """Give all memory that lies idle back to the system."""
    with _lock:
        _shrink(0)


def cache_info() -> CacheInfo:
    """What the pool has now."""
    return CacheInfo(_State.idle, get_cache_limit(), _State.hits, _State.misses)


def _start_afresh() -> None:
    """In a forked child: another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
