"""Commits one planted fault: ``faults.py FAULT ISA``. Started by run.py, which looks whether the sanitizer reports it.

Half of the faults are functions of faults.c; the others make the real kernels err, by arrays that are one element too
short, a workspace that lacks a byte, or a result that two threads write at once. Arrays are allocated exactly, since an
access beyond a view that stays inside its base is invisible to every sanitizer, and are too large for NumPy's cache of
small blocks.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from math import prod

import exact
import numpy as np

from autograd import _kernels, kernels
from autograd.geometry import conv2d_geometry, pool2d_geometry


def planted_in_c(name: str) -> None:
    """Call the function ``name`` of faults.c."""
    array = np.empty(1000, np.float32)
    function = getattr(ctypes.CDLL(_kernels.__file__), name)
    function(ctypes.c_void_p(array.ctypes.data), ctypes.c_int64(array.size))


def convolve(short: str | None) -> None:
    """A convolution in which the array ``short`` lacks its last element."""
    g = conv2d_geometry("conv2d", (2, 17, 9, 9), (9, 17, 3, 3), 1, 1)
    sizes = {"x": prod(g.x_shape), "weight": prod(g.weight_shape), "y": prod(g.y_shape)}
    arrays = {name: np.ones(size - (name == short), np.float32) for name, size in sizes.items()}
    kernels._convolve("conv2d", g, arrays["x"], arrays["weight"], None, arrays["y"])


def differentiate(lacking: int) -> None:
    """A filter gradient whose workspace, of which every byte is used, lacks so many bytes at its end."""
    kernels.empty = lambda shape, dtype: exact.empty((shape[0] - lacking,), dtype)
    g = conv2d_geometry("conv2d", (2, 17, 8, 8), (32, 17, 3, 3), 1, 1)
    x, weight, y = (np.ones(shape, np.float32) for shape in (g.x_shape, g.weight_shape, g.y_shape))
    with kernels.use_algorithm("direct"):
        kernels._convolve("conv2d_weight", g, x, weight, None, y)


def pool(short: str | None) -> None:
    """A max pooling in which the array ``short`` lacks its last element."""
    g = pool2d_geometry("max_pool2d", (2, 17, 16, 16), 2)
    sizes = {"x": prod(g.x_shape), "y": prod(g.y_shape)}
    arrays = {name: np.ones(size - (name == short), np.float32) for name, size in sizes.items()}
    offsets = np.empty(g.y_shape, kernels.offset_dtype(g))
    kernels._pool("max_pool2d", _kernels.lib.MAX_POOL2D, g, arrays["x"], arrays["y"], offsets)


def share_a_result() -> None:
    """Two Python threads run one convolution into the same array, again and again."""
    g = conv2d_geometry("conv2d", (2, 17, 30, 30), (9, 17, 3, 3), 1, 1)
    x, weight, y = (np.ones(shape, np.float32) for shape in (g.x_shape, g.weight_shape, g.y_shape))

    def work() -> None:
        for _ in range(20):
            kernels._convolve("conv2d", g, x, weight, None, y)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def commit(fault: str, isa: str) -> None:
    """Commit ``fault``, with the kernels of ``isa``."""
    operation, _, array = fault.partition(":")
    with kernels.use_isa(isa):
        if operation == "conv2d":
            convolve(array)
        elif operation == "max_pool2d":
            pool(array)
        elif operation == "workspace":
            differentiate(lacking=1)
        elif operation == "shared_result":
            share_a_result()
        else:
            planted_in_c(operation)


if __name__ == "__main__":
    if sys.argv[1] == "none":
        convolve(None)
        pool(None)
        differentiate(lacking=0)
        print(*kernels.supported_isas())
    else:
        commit(*sys.argv[1:])
