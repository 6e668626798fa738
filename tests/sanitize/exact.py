"""Workspaces that end where their memory ends: a plugin of pytest, ``-p exact``.

A plan asks for a cache line more than its kernels use, so that they can align what they get. An overrun that stays in
that line is inside the array, where no tool sees it. Here workspaces are aligned already, and lack the line.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autograd import kernels, memory

CACHE_LINE = 64
_libc = ctypes.CDLL(None)


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """``memory.empty`` for results; for a workspace, the only array of bytes, without the room to align it."""
    if dtype is not np.uint8:
        return memory.empty(shape, dtype)
    size = shape[0] - CACHE_LINE
    address = ctypes.c_void_p()
    if _libc.posix_memalign(ctypes.byref(address), ctypes.c_size_t(CACHE_LINE), ctypes.c_size_t(size)):
        raise MemoryError
    block = (ctypes.c_uint8 * size).from_address(address.value or 0)
    weakref.finalize(block, _libc.free, address)
    return np.ndarray((size,), np.uint8, block)


def pytest_configure() -> None:
    kernels.empty = empty
