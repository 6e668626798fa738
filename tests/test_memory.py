"""The reuse pool: memory comes back when the last view is gone, is bounded, and is given back when asked."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from autograd import Tensor, conv2d, memory

LARGE = (256, 1024)


@pytest.fixture(autouse=True)
def _fresh_pool() -> Iterator[None]:
    limit = memory.get_cache_limit()
    memory.empty_cache()
    yield
    memory.set_cache_limit(limit)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_serves_again_when_the_last_view_is_gone() -> None:
    array = memory.empty(LARGE, np.float32)
    assert (array.shape, array.dtype) == (LARGE, np.float32)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    before, view = address(array), array[3:5].T
    del array
    assert memory.cache_info().idle == 0  # the view still needs it
    assert address(memory.empty(LARGE, np.float32)) != before
    memory.empty_cache()
    del view
    assert memory.cache_info().idle >= 4 * 256 * 1024
    assert address(memory.empty(LARGE, np.float32)) == before


def test_blocks_in_use_never_overlap() -> None:
    rng = np.random.default_rng(0)
    live = {}
    for step in range(2000):
        if live and rng.random() < 0.5:
            key = rng.choice(list(live))
            assert (live.pop(key) == key % 251).all()
        else:
            live[step] = memory.empty((int(rng.integers(1, 1 << 18)),), np.uint8)
            live[step][...] = step % 251


def test_views_of_the_base_do_not_return_it_early() -> None:
    array = memory.empty(LARGE, np.float32)
    assert array.base is not None
    part = array.base[10:20]
    del part
    gc.collect()
    assert memory.cache_info().idle == 0


def test_rows_are_aligned_to_cache_lines() -> None:
    for size in (1 << 15, 100_001, 1 << 20):
        assert address(memory.empty((size,), np.uint8)) % 64 == 0


def test_at_most_an_eighth_of_a_block_is_unused() -> None:
    for size in (65_537, 1_000_000, (1 << 20) + 1):
        array = memory.empty((size,), np.uint8)
        assert array.base is not None
        assert size <= array.base.nbytes <= size * 9 / 8


def test_small_arrays_do_not_come_from_the_pool() -> None:
    assert memory.empty((10,), np.float64).base is None
    assert memory.empty((0, 5), np.float64).shape == (0, 5)


def test_the_limit_bounds_what_lies_idle() -> None:
    memory.set_cache_limit(3 << 20)
    arrays = [memory.empty((1 << 20,), np.uint8) for _ in range(5)]
    arrays.append(memory.empty((1 << 19,), np.uint8))
    del arrays
    assert 2 << 20 < memory.cache_info().idle <= 3 << 20
    memory.set_cache_limit(0)
    assert memory.cache_info().idle == 0
    memory.empty(LARGE, np.float32)
    assert memory.cache_info().idle == 0


def test_what_is_given_back_leaves_the_process() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs /proc")
    array = memory.empty((100 << 20,), np.uint8)
    array[...] = 1
    del array
    before = resident()
    memory.empty_cache()
    assert resident() < before - (90 << 20)


def test_convolutions_reuse_memory_and_change_no_result() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((4, 16, 40, 40)), Tensor(rng.standard_normal((32, 16, 3, 3)), requires_grad=True)
    first = conv2d(x, w, padding=1).data.copy()
    hits = memory.cache_info().hits
    for _ in range(3):
        assert np.array_equal(conv2d(x, w, padding=1).data, first)
    assert memory.cache_info().hits > hits


def test_threads_share_the_pool() -> None:
    failures = []

    def work(number: int) -> None:
        for step in range(300):
            array = memory.empty((40_000 + step % 3 * 40_000,), np.uint8)
            array[...] = number
            if not (array == number).all():
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_bad_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="set_cache_limit: n must be at least 0, got -1"):
        memory.set_cache_limit(-1)
    with pytest.raises(TypeError, match="set_cache_limit: n must be an integer"):
        memory.set_cache_limit(1.5)  # type: ignore[arg-type]
    code = "import autograd; autograd.memory.cache_info()"
    environment = {**os.environ, "AUTOGRAD_CACHE_LIMIT": "much"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "AUTOGRAD_CACHE_LIMIT must be a number of bytes, got 'much'" in result.stderr


def test_dropping_arrays_at_exit_is_silent() -> None:
    code = "import autograd, numpy, sys; sys.kept = autograd.memory.empty((100000,), numpy.uint8)"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
