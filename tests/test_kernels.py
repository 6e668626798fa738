"""The compiled kernels against slow references, on every instruction set of this machine, and their other promises.

The promises: the same bits for every layout and number of threads, no effect on the process's floating-point mode,
safety after a fork and under several Python threads, and an exception for everything else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from cases import CONV_CASES, POOL_CASES, ConvCase, PoolCase

from autograd import Tensor, explain_conv, kernels
from autograd.geometry import Conv2dGeometry, Pool2dGeometry, conv2d_geometry, pool2d_geometry

DTYPES = [np.float32, np.float64]
MAPS = ["conv2d", "conv2d_input", "conv2d_weight"]
# Large enough for several blocks of pixels, chunks of channels and panels, and for work to be shared between threads.
LARGE_CONV_CASES = [
    ConvCase("3x3", (2, 40, 30, 31), (50, 40, 3, 3), padding=1),
    ConvCase("many-tiles", (1, 40, 139, 140), (12, 40, 3, 3), padding=((0, 2), (-1, 1))),
    ConvCase("3x3-strided", (2, 40, 33, 30), (40, 40, 3, 3), stride=2, padding=1),
    ConvCase("1x1-strided-past-caches", (1, 560, 44, 45), (24, 560, 1, 1), stride=2),
    ConvCase("1x1-one-block", (3, 150, 7, 8), (130, 150, 1, 1)),
    ConvCase("1x1-several-chunks", (4, 150, 17, 16), (130, 150, 1, 1)),
    ConvCase("1x1-padded-and-strided", (3, 140, 16, 17), (129, 140, 1, 1), stride=2, padding=1),
    ConvCase("1x1-aliased-sources", (2, 1024, 9, 8), (100, 1024, 1, 1)),
    ConvCase("1x1-aliased-gradients", (1, 32, 10, 11), (1024, 32, 1, 1)),
    ConvCase("deep", (2, 300, 14, 13), (70, 300, 3, 3), padding=1),
    ConvCase("3x3-cropped", (2, 24, 62, 63), (70, 24, 3, 3), padding=((2, -1), (0, 1))),
    ConvCase("few-channels", (2, 3, 60, 61), (33, 3, 7, 7), stride=2, padding=3),
    ConvCase("one-channel", (3, 1, 30, 29), (6, 1, 5, 5), padding=2),
    ConvCase("few-results", (2, 40, 33, 61), (3, 40, 7, 5), stride=2, padding=((-1, 3), (2, 0))),
    ConvCase("groups", (2, 36, 28, 27), (48, 9, 3, 3), padding=1, groups=4),
    ConvCase("narrow-groups", (2, 40, 30, 31), (40, 4, 3, 3), padding=1, groups=10),
    ConvCase("groups-in-turns", (2, 48, 33, 42), (48, 8, 3, 3), stride=2, padding=1, groups=6),
    ConvCase("groups-of-a-vector", (1, 96, 15, 40), (96, 16, 3, 3), padding=1, groups=6),
    ConvCase("groups-of-two-vectors", (3, 192, 16, 15), (192, 32, 3, 3), padding=1, groups=6),
    ConvCase("depthwise", (2, 70, 40, 41), (70, 1, 3, 3), padding=1, groups=70),
    ConvCase("depthwise-multiplier", (2, 40, 40, 41), (80, 1, 3, 3), stride=2, padding=1, groups=40),
    ConvCase("depthwise-long-rows", (1, 40, 3, 1500), (40, 1, 3, 3), padding=1, groups=40),
    ConvCase("depthwise-16", (2, 16, 30, 31), (16, 1, 3, 3), padding=1, groups=16),
    ConvCase("depthwise-8", (2, 8, 30, 31), (8, 1, 3, 3), padding=1, groups=8),
    ConvCase("depthwise-4", (2, 4, 30, 31), (4, 1, 3, 3), padding=1, groups=4),
    ConvCase("depthwise-far-strided", (1, 70, 190, 191), (70, 1, 3, 3), stride=2, padding=1, groups=70),
    ConvCase("depthwise-past-caches", (1, 64, 130, 129), (64, 1, 1, 3), padding=(0, 1), groups=64),
]


@pytest.fixture(params=kernels.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with kernels.use_isa(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def conv_operands(case: ConvCase, dtype: Any) -> tuple[Conv2dGeometry, Any, Any, Any, Any]:
    g = conv2d_geometry("conv2d", *case[1:])
    rng = np.random.default_rng(0)
    shapes = (g.x_shape, g.weight_shape, (g.out_channels,), g.y_shape)
    x, weight, bias, y = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    return g, x, weight, bias, y


def pool_operands(case: PoolCase, dtype: Any) -> tuple[Pool2dGeometry, Any, Any]:
    g = pool2d_geometry("pool", *case[1:])
    rng = np.random.default_rng(0)
    return g, rng.standard_normal(g.x_shape).astype(dtype), rng.standard_normal(g.y_shape).astype(dtype)


def compute(library: Any, map_name: str, g: Conv2dGeometry, x: Any, weight: Any, bias: Any, y: Any) -> Any:
    """One map of a convolution by ``library``: the kernels or the reference."""
    if map_name == "conv2d":
        return library.conv2d(x, weight, bias, g)
    if map_name == "conv2d_input":
        return library.conv2d_input(y, weight, g)
    return library.conv2d_weight(x, y, g)


@cache
def reference_map(map_name: str, case: ConvCase, dtype: Any) -> tuple[Any, Any]:
    """The values of one map, and the sums of the absolute values of the products that they are sums of."""
    g, *operands = conv_operands(case, dtype)
    values = compute(reference, map_name, g, *operands)
    return values, compute(reference, map_name, g, *(abs(operand) for operand in operands))


def terms(map_name: str, g: Conv2dGeometry) -> int:
    """How many numbers make one value of the result, at most."""
    taps = g.kernel[0] * g.kernel[1]
    return {
        "conv2d": taps * g.in_channels // g.groups + 1,
        "conv2d_input": taps * g.out_channels // g.groups,
        "conv2d_weight": g.batch * g.output[0] * g.output[1],
    }[map_name]


def candidates(map_name: str, g: Conv2dGeometry, dtype: Any) -> Iterator[kernels.ConvExplanation]:
    """Every algorithm that serves one map of ``g``, in use while it is the turn of its explanation."""
    for name in kernels.explain(map_name, g, dtype).candidates:
        with kernels.use_algorithm(name):
            yield kernels.explain(map_name, g, dtype)


def assert_sum_close(
    actual: Any, expected: Any, magnitudes: Any, terms: int, how: kernels.ConvExplanation | None = None
) -> None:
    """``actual`` is a sum of ``terms`` products; ``magnitudes`` is the sum of their absolute values.

    The rounding error of such a sum is at most ``terms`` units of half an epsilon of the magnitudes. The roundings of a
    long sum partly cancel, so that 16 epsilons are asked of all sums, whereas any misplaced product is wrong by far
    more. An algorithm of class 'high' may err by 2e-5 in float32, which is 168 epsilons; in class 'medium' rounding
    both factors to 8 bits adds 2**-7. Winograd's algorithms combine the values of a neighbourhood, so that their
    errors are measured by the largest of the magnitudes.
    """
    assert actual.shape == expected.shape
    relative = min(terms + 1, 16) * np.finfo(actual.dtype).eps
    if how and how.algorithm.startswith("winograd"):
        relative, magnitudes = 16 * np.finfo(actual.dtype).eps, np.max(magnitudes, initial=0)
    if how and how.error_class == "high":
        relative = 168 * np.finfo(actual.dtype).eps
    if how and how.error_class == "medium":
        relative += 2.0**-7
    bound = relative * magnitudes + np.finfo(actual.dtype).smallest_normal
    np.testing.assert_array_less(np.abs(actual - expected), bound, f"{how.map} by {how.algorithm}" if how else "")


# ---- Convolution: values ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CONV_CASES + LARGE_CONV_CASES, ids=lambda case: case.id)
def test_every_algorithm(case: ConvCase, dtype: Any, isa: str) -> None:
    g, *operands = conv_operands(case, dtype)
    for map_name in MAPS:
        expected, magnitudes = reference_map(map_name, case, dtype)
        for how in candidates(map_name, g, dtype):
            actual = compute(kernels, map_name, g, *operands)
            assert_sum_close(actual, expected, magnitudes, terms(map_name, g), how)


@pytest.mark.parametrize("case", CONV_CASES, ids=lambda case: case.id)
def test_conv_maps_are_adjoint(case: ConvCase) -> None:
    g, x, weight, _, y = conv_operands(case, np.float64)
    forward = np.vdot(kernels.conv2d(x, weight, None, g), y)
    scale = np.vdot(reference.conv2d(abs(x), abs(weight), None, g), abs(y))
    for other in (np.vdot(x, kernels.conv2d_input(y, weight, g)), np.vdot(weight, kernels.conv2d_weight(x, y, g))):
        # Every form sums the same products in float64, in another order.
        assert abs(forward - other) <= 16 * np.finfo(np.float64).eps * scale


def test_empty_batch_has_zero_weight_gradient() -> None:
    g = conv2d_geometry("conv2d", (0, 3, 6, 6), (4, 3, 3, 3))
    gradient = kernels.conv2d_weight(np.empty(g.x_shape), np.empty(g.y_shape), g)
    np.testing.assert_array_equal(gradient, np.zeros(g.weight_shape))


def test_nan_and_infinity_stay_where_they_belong(isa: str) -> None:
    g = conv2d_geometry("conv2d", (1, 3, 9, 9), (5, 3, 3, 3), 1, 1)
    _, x, weight, _, _ = conv_operands(ConvCase("", g.x_shape, g.weight_shape, 1, 1), np.float32)
    x[0, 1, 4, 4], x[0, 2, 0, 0] = np.nan, np.inf
    y = kernels.conv2d(x, weight, None, g)
    expected = np.ones((9, 9), bool)
    expected[3:6, 3:6] = expected[:2, :2] = False
    np.testing.assert_array_equal(np.isfinite(y), np.broadcast_to(expected, y.shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LARGE_CONV_CASES, ids=lambda case: case.id)
def test_every_algorithm_puts_nan_and_infinity_where_direct_does(case: ConvCase, dtype: Any, isa: str) -> None:
    g, *operands = conv_operands(case, dtype)
    for position, value in enumerate((np.nan, np.inf, -np.inf)):
        # Of the input, the filters, the bias and the output's gradient, each has one such value in each round.
        changed = [operand.copy() for operand in operands]
        for operand in changed:
            operand.flat[operand.size * (2 * position + 1) // 7] = value
        for map_name in MAPS:
            with kernels.use_algorithm("direct"):
                expected = compute(kernels, map_name, g, *changed)
            for how in candidates(map_name, g, dtype):
                actual = compute(kernels, map_name, g, *changed)
                for kind in (np.isnan, np.isposinf, np.isneginf):
                    np.testing.assert_array_equal(kind(actual), kind(expected), f"{map_name} by {how.algorithm}")


def test_long_sums_keep_their_digits() -> None:
    g = conv2d_geometry("conv2d", (4, 1, 200, 200), (1, 1, 1, 1))
    x, y = np.full(g.x_shape, 0.1, np.float32), np.ones(g.y_shape, np.float32)
    # One running sum of 160,000 terms loses three more digits than sums of short sums do.
    np.testing.assert_allclose(kernels.conv2d_weight(x, y, g), 160_000 * float(np.float32(0.1)), rtol=2e-6)


# ---- Convolution: promises ----


def layouts(array: Any) -> Iterator[Any]:
    """The values of ``array`` in every kind of layout."""
    yield np.ascontiguousarray(array)
    yield np.asfortranarray(array)
    yield np.ascontiguousarray(array.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    yield np.ascontiguousarray(array[:, ::-1, ::-1])[:, ::-1, ::-1]
    yield np.repeat(array, 2, axis=3)[:, :, :, ::2]
    yield array.astype(array.dtype.newbyteorder())
    unaligned = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    yield unaligned
    read_only = array.copy()
    read_only.flags.writeable = False
    yield read_only
    yield array.view(type("Subclass", (np.ndarray,), {}))


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_layout_changes_no_bit(dtype: Any) -> None:
    g, x, weight, bias, y = conv_operands(ConvCase("", (2, 5, 7, 6), (4, 5, 3, 3), 2, 1), dtype)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (lambda x, w, b: kernels.conv2d(x, w, b, g), (x, weight, bias)),
        (lambda y, w: kernels.conv2d_input(y, w, g), (y, weight)),
        (lambda x, y: kernels.conv2d_weight(x, y, g), (x, y)),
    ]
    for call, arguments in calls:
        expected = bits(call(*arguments))
        for position, argument in enumerate(arguments):
            variants = layouts(argument) if argument.ndim == 4 else [np.repeat(argument, 3)[::3]]
            for variant in variants:
                changed = (*arguments[:position], variant, *arguments[position + 1 :])
                assert bits(call(*changed)) == expected


def test_zero_strides() -> None:
    g = conv2d_geometry("conv2d", (2, 3, 5, 5), (4, 3, 3, 3))
    x, weight = np.broadcast_to(np.float32(0.3), g.x_shape), np.broadcast_to(np.float32(0.7), g.weight_shape)
    np.testing.assert_array_equal(kernels.conv2d(x, weight, None, g), kernels.conv2d(x.copy(), weight.copy(), None, g))


def test_size_one_dimensions_with_odd_strides() -> None:
    storage = np.arange(60, dtype=np.float32)
    x = np.lib.stride_tricks.as_strided(storage, (1, 1, 4, 5), (4 * 7, 4 * 13, 4 * 5, 4))
    weight = np.ones((2, 1, 3, 3), np.float32)
    g = conv2d_geometry("conv2d", x.shape, weight.shape)
    np.testing.assert_array_equal(kernels.conv2d(x, weight, None, g), kernels.conv2d(x.copy(), weight, None, g))


def test_memory_map(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 5, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    g = conv2d_geometry("conv2d", x.shape, (2, 3, 3, 3))
    weight = np.ones(g.weight_shape, np.float32)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(kernels.conv2d(mapped, weight, None, g), kernels.conv2d(x, weight, None, g))


def test_results_are_channels_last() -> None:
    g, x, weight, _, y = conv_operands(ConvCase("", (2, 5, 7, 6), (4, 5, 3, 3)), np.float32)
    for result in (kernels.conv2d(x, weight, None, g), kernels.conv2d_input(y, weight, g)):
        assert result.transpose(0, 2, 3, 1).flags.c_contiguous
        assert np.shares_memory(kernels.channels_last(result), result)
    assert kernels.conv2d_weight(x, y, g).flags.c_contiguous


def maps_of(case: ConvCase, dtype: Any = np.float32) -> list[bytes]:
    g, *operands = conv_operands(case, dtype)
    return [bits(compute(kernels, map_name, g, *operands)) for map_name in MAPS]


def all_maps_of(case: ConvCase) -> dict[tuple[str, str], bytes]:
    """The bits of every map by every algorithm."""
    g, *operands = conv_operands(case, np.float32)
    return {
        (map_name, how.algorithm): bits(compute(kernels, map_name, g, *operands))
        for map_name in MAPS
        for how in candidates(map_name, g, np.float32)
    }


@pytest.mark.parametrize("case", LARGE_CONV_CASES, ids=lambda case: case.id)
def test_threads_and_repetition_change_no_bit(case: ConvCase, isa: str) -> None:
    kernels.set_num_threads(1)
    expected = all_maps_of(case)
    for threads in (2, 3, 4, 2):
        kernels.set_num_threads(threads)
        assert all_maps_of(case) == expected


@pytest.mark.parametrize("case", LARGE_CONV_CASES, ids=lambda case: case.id)
def test_splitting_a_call_changes_no_bit(case: ConvCase, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = all_maps_of(case)
    kernels._plan.cache_clear()
    monkeypatch.setattr(kernels, "_NANOSECONDS_PER_CALL", 1.0)
    assert all_maps_of(case) == expected
    kernels._plan.cache_clear()


def test_two_python_threads_at_once() -> None:
    kernels.set_num_threads(2)
    cases = LARGE_CONV_CASES * 4
    expected = [maps_of(case) for case in cases]
    with ThreadPoolExecutor(3) as executor:
        assert list(executor.map(maps_of, cases)) == expected


def test_denormals_count_as_zero_and_only_inside(isa: str) -> None:
    g = conv2d_geometry("conv2d", (2, 32, 30, 30), (32, 32, 3, 3))
    weight = np.ones(g.weight_shape, np.float32)
    tiny = np.float32(1e-40)
    for threads in (1, 2):
        kernels.set_num_threads(threads)
        y = kernels.conv2d(np.full(g.x_shape, tiny), weight, None, g)
        np.testing.assert_array_equal(y, 0)
        assert tiny * np.float32(0.5) > 0, "the process's own arithmetic keeps denormals"
        assert (np.full(8, tiny) * np.float32(0.5) > 0).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_after_use() -> None:
    kernels.set_num_threads(2)
    case = LARGE_CONV_CASES[0]
    expected = maps_of(case)
    for _ in range(5):
        child = os.fork()
        if child == 0:
            os._exit(0 if maps_of(case) == expected else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert maps_of(case) == expected


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


SMALL_CALL = """
import numpy as np
from autograd import Tensor, explain_conv, kernels
from autograd.geometry import conv2d_geometry
g = conv2d_geometry("conv2d", (2, 64, 40, 40), (64, 64, 3, 3))
x, w = np.ones(g.x_shape, np.float32), np.ones(g.weight_shape, np.float32)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_import_starts_nothing() -> None:
    code = """
import os, signal, sys, numpy, cffi
def state():
    return len(os.listdir("/proc/self/task")), [signal.getsignal(s) for s in (1, 2, 15)], dict(os.environ)
before = state()
import autograd.kernels
assert state() == before
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
def test_fewer_threads_when_they_cannot_be_had() -> None:
    code = (
        SMALL_CALL
        + """
import os, resource
expected = kernels.conv2d(x, w, None, g)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
kernels.set_num_threads(64)
assert (kernels.conv2d(x, w, None, g) == expected).all()
assert len(os.listdir("/proc/self/task")) < 40
"""
    )
    result = run_python(code, OPENBLAS_NUM_THREADS="1", AUTOGRAD_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr


# ---- Convolution: choices and rejections ----


def test_isa_cap() -> None:
    supported = kernels.supported_isas()
    assert supported[-1] == "generic"
    for name in supported:
        result = run_python("from autograd import kernels; print(kernels.isa())", AUTOGRAD_ISA=name)
        assert result.stdout.strip() == name
    result = run_python("from autograd import kernels; kernels.isa()", AUTOGRAD_ISA="sse9")
    assert "ValueError: AUTOGRAD_ISA must be one of" in result.stderr
    with pytest.raises(ValueError, match=r"use_isa: name must be one of .*, got 'sse9'"), kernels.use_isa("sse9"):
        pass


def test_isa_is_restored() -> None:
    before = kernels.isa()
    with kernels.use_isa("generic"):
        assert kernels.isa() == "generic"
    assert kernels.isa() == before


@pytest.mark.skipif(sys.platform != "linux", reason="asks where the threads in /proc may run")
def test_workers_leave_the_processor_of_the_caller() -> None:
    """Where there is none to spare: in a process of its own, which has two processors."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one processor")
    code = f"""
import os
two = set(sorted(os.sched_getaffinity(0))[:2])
os.sched_setaffinity(0, two)
{SMALL_CALL}
kernels.set_num_threads(2)
before = set(os.listdir("/proc/self/task"))
kernels.conv2d(x, w, None, g)
workers = set(os.listdir("/proc/self/task")) - before
allowed = [os.sched_getaffinity(int(worker)) for worker in workers]
assert len(allowed) == 1 and len(allowed[0]) == 1 and allowed[0] < two, allowed
assert os.sched_getaffinity(0) == two
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_number_of_threads() -> None:
    kernels.set_num_threads(3)
    assert kernels.get_num_threads() == 3
    for wrong in (0, -1, 257):
        with pytest.raises(ValueError, match=f"set_num_threads: n must be between 1 and 256, got {wrong}"):
            kernels.set_num_threads(wrong)
    for kind in (True, 1.0, "2", None):
        with pytest.raises(TypeError, match="set_num_threads: n must be an integer"):
            kernels.set_num_threads(kind)  # type: ignore[arg-type]
    result = run_python("from autograd import kernels; print(kernels.get_num_threads())", AUTOGRAD_NUM_THREADS="5")
    assert result.stdout.strip() == "5"
    for wrong_text in ("0", "many", "-1", "2.5", ""):
        result = run_python("from autograd import kernels; kernels.get_num_threads()", AUTOGRAD_NUM_THREADS=wrong_text)
        assert f"AUTOGRAD_NUM_THREADS must be between 1 and 256, got {wrong_text!r}" in result.stderr


def test_choice_of_algorithm_is_visible() -> None:
    dense = conv2d_geometry("conv2d", (1, 4, 8, 8), (4, 4, 3, 3))
    depthwise = conv2d_geometry("conv2d", (1, 4, 8, 8), (4, 1, 3, 3), groups=4)
    for name in MAPS:
        assert "depthwise" not in kernels.explain(name, dense, np.float32).candidates
        assert kernels.explain(name, depthwise, np.float64).algorithm == "depthwise"
        with kernels.use_algorithm("direct"):
            assert kernels.explain(name, depthwise, np.float32).algorithm == "direct"
    with kernels.use_algorithm("depthwise"), pytest.raises(ValueError, match="conv2d: algorithm depthwise does not"):
        kernels.conv2d(np.ones(dense.x_shape), np.ones(dense.weight_shape), None, dense)
    with pytest.raises(ValueError, match="use_algorithm: name must be"), kernels.use_algorithm("magic"):
        pass
    with pytest.raises(ValueError, match="explain: map_name must be"):
        kernels.explain("conv3d", dense, np.float32)
    with pytest.raises(TypeError, match="explain: dtype must be float32 or float64"):
        kernels.explain("conv2d", dense, np.float16)


def test_the_first_of_several_algorithms_that_serves_is_used() -> None:
    dense = conv2d_geometry("conv2d", (1, 4, 8, 8), (4, 4, 3, 3))
    with kernels.use_algorithm("depthwise", "direct"):
        how = kernels.explain("conv2d", dense, np.float32)
        assert (how.algorithm, how.reason) == ("direct", "asked for: depthwise, direct")
        with kernels.use_algorithm():
            assert kernels.explain("conv2d", dense, np.float32).reason != how.reason


def test_algorithms_are_forced_by_the_environment() -> None:
    code = "import autograd; print([how.algorithm for how in autograd.explain_conv((8, 64, 56, 56), (64, 64, 3, 3))])"

    def run(names: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "AUTOGRAD_ALGORITHM": names}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    assert run("direct").stdout == "['direct', 'direct', 'direct']\n"
    assert run("depthwise, winograd_2x2").stdout == "['winograd_2x2', 'winograd_2x2', 'winograd_2x2']\n"
    assert "algorithm depthwise does not serve conv2d of" in run("depthwise").stderr
    assert "AUTOGRAD_ALGORITHM must be of" in run("magic").stderr


def test_float32_precision_permits_algorithms() -> None:
    geometry = conv2d_geometry("conv2d", (2, 64, 28, 28), (64, 64, 3, 3), padding=1)
    classes = ["highest", "high", "medium"]
    for precision in classes:
        with kernels.set_float32_precision(precision):
            assert kernels.get_float32_precision() == precision
            for name in MAPS:
                how = kernels.explain(name, geometry, np.float32)
                assert how.precision == precision
                assert classes.index(how.error_class) <= classes.index(precision)
                assert how.algorithm in how.candidates
                assert kernels.explain(name, geometry, np.float64).error_class == "highest"
            assert (kernels.explain("conv2d", geometry, np.float32).error_class == "highest") == (
                precision == "highest"
            )
        assert kernels.get_float32_precision() == "highest"
    kernels.set_float32_precision("high")
    assert kernels.get_float32_precision() == "high"
    kernels.set_float32_precision("highest")
    with pytest.raises(ValueError, match="set_float32_precision: precision must be 'highest', 'high' or 'medium', got"):
        kernels.set_float32_precision("low")


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_automatic_choice_is_as_accurate_as_its_class(precision: str) -> None:
    case = ConvCase("3x3", (2, 64, 28, 28), (64, 64, 3, 3), padding=1)
    g, *operands = conv_operands(case, np.float32)
    with kernels.set_float32_precision(precision):
        for name in MAPS:
            expected, magnitudes = reference_map(name, case, np.float32)
            actual = compute(kernels, name, g, *operands)
            assert_sum_close(actual, expected, magnitudes, terms(name, g), kernels.explain(name, g, np.float32))
            if precision == "highest":
                with kernels.use_algorithm("direct"):
                    direct = compute(kernels, name, g, *operands)
                # No worse than the direct sum, up to the luck of one draw.
                assert np.abs(actual - expected).max() <= 1.5 * np.abs(direct - expected).max()


@pytest.mark.parametrize("value", [np.finfo(np.float32).max, 2.0**62, 2.0**-100, np.finfo(np.float32).tiny])
def test_numbers_that_bfloat16_cannot_hold_are_not_lost(value: float) -> None:
    """The largest float32 numbers round to infinity in bfloat16, and parts of small ones underflow."""
    g = conv2d_geometry("conv2d", (1, 32, 6, 6), (32, 32, 3, 3), padding=1)
    x, weight = np.ones(g.x_shape, np.float32), np.zeros(g.weight_shape, np.float32)
    x[0, 0, 0, 0] = value * 1.0000001 if value < 1 else value
    weight[:, :, 1, 1] = np.eye(32)
    y = np.zeros(g.y_shape, np.float32)
    y[0, 0, 0, 0] = 1
    for name in MAPS:
        for how in candidates(name, g, np.float32):
            if "bf16" not in how.algorithm or (how.error_class == "medium" and value < 2.0**100):
                continue
            if name == "conv2d_weight":
                assert kernels.conv2d_weight(x, y, g)[0, 0, 1, 1] == x[0, 0, 0, 0]
            else:
                actual = kernels.conv2d(x, weight, None, g) if name == "conv2d" else kernels.conv2d_input(x, weight, g)
                np.testing.assert_array_equal(actual, x, how.algorithm)


@pytest.mark.parametrize("name", MAPS)
def test_six_products_of_parts_are_no_worse_than_the_direct_sum(name: str) -> None:
    case = ConvCase("deep", (1, 256, 14, 14), (64, 256, 3, 3), padding=1)
    g, *operands = conv_operands(case, np.float32)
    if "direct_bf16x6" not in kernels.explain(name, g, np.float32).candidates:
        pytest.skip("this processor has no products of bfloat16 numbers")
    with kernels.use_algorithm("direct"):
        expected = compute(kernels, name, g, *(operand.astype(np.float64) for operand in operands))
        direct = compute(kernels, name, g, *operands)
    with kernels.use_algorithm("direct_bf16x6"):
        actual = compute(kernels, name, g, *operands)
    assert np.abs(actual - expected).mean() <= np.abs(direct - expected).mean()
    assert kernels.explain(name, g, np.float32).algorithm != "direct_bf16x6", "it serves on request only"


def test_explain_conv_takes_arrays_tensors_and_shapes() -> None:
    x, weight = np.ones((2, 3, 8, 8)), Tensor(np.ones((4, 3, 3, 3)), requires_grad=True)
    explanations = explain_conv(x, weight, stride=2, padding=1)
    assert [how.map for how in explanations] == list(MAPS)
    assert explanations == explain_conv((2, 3, 8, 8), (4, 3, 3, 3), 2, 1, dtype=np.float64)
    assert all(how.workspace_bytes > 0 and how.reason and how.isa == kernels.isa() for how in explanations)
    with pytest.raises(ValueError, match="explain_conv: "):
        explain_conv((2, 3, 8, 8), (4, 5, 3, 3))


def test_rejected_dtypes() -> None:
    g = conv2d_geometry("conv2d", (1, 2, 4, 4), (3, 2, 3, 3))
    x, weight, y = np.ones(g.x_shape), np.ones(g.weight_shape), np.ones(g.y_shape)
    for dtype in (bool, np.int32, np.complex64, np.float16, np.longdouble, object, "U1", [("a", np.float32)]):
        wrong = np.zeros(g.x_shape, dtype)
        with pytest.raises(TypeError, match=r"conv2d: x must be float32 or float64, got "):
            kernels.conv2d(wrong, weight, None, g)
    with pytest.raises(TypeError, match=r"conv2d: x and weight must have one dtype, got float64 and float32"):
        kernels.conv2d(x, weight.astype(np.float32), None, g)
    with pytest.raises(TypeError, match=r"conv2d: x and bias must have one dtype, got float64 and float32"):
        kernels.conv2d(x, weight, np.ones(3, np.float32), g)
    with pytest.raises(TypeError, match=r"conv2d_input: y and weight must have one dtype"):
        kernels.conv2d_input(y.astype(np.float32), weight, g)
    with pytest.raises(TypeError, match=r"conv2d_weight: x and y must have one dtype"):
        kernels.conv2d_weight(x, y.astype(np.float32), g)
    with pytest.raises(TypeError, match=r"conv2d: x must not be a masked array"):
        kernels.conv2d(np.ma.masked_array(x), weight, None, g)
    for wrong in ([[1.0]], None, 1.0):
        with pytest.raises(TypeError, match=r"conv2d: weight must be a NumPy array, got "):
            kernels.conv2d(x, wrong, None, g)  # type: ignore[arg-type]


def test_rejected_shapes() -> None:
    g = conv2d_geometry("conv2d", (1, 2, 4, 4), (3, 2, 3, 3))
    x, weight, y = np.ones(g.x_shape), np.ones(g.weight_shape), np.ones(g.y_shape)
    with pytest.raises(ValueError, match=r"conv2d: x must have shape \(1, 2, 4, 4\), got \(1, 2, 4, 5\)"):
        kernels.conv2d(np.ones((1, 2, 4, 5)), weight, None, g)
    with pytest.raises(ValueError, match=r"conv2d: bias must have shape \(3,\), got \(4,\)"):
        kernels.conv2d(x, weight, np.ones(4), g)
    with pytest.raises(ValueError, match=r"conv2d_input: y must have shape"):
        kernels.conv2d_input(y[:, :, :1], weight, g)
    with pytest.raises(ValueError, match=r"conv2d_weight: y must have shape"):
        kernels.conv2d_weight(x, y[0], g)
    with pytest.raises(ValueError, match=r"channels_last: array must have 4 dimensions, got shape \(2,\)"):
        kernels.channels_last(np.ones(2))


def test_c_refuses_inconsistent_geometry() -> None:
    good = conv2d_geometry("conv2d", (1, 2, 4, 4), (3, 2, 3, 3))
    fields = {name: getattr(good, name) for name in Conv2dGeometry.__slots__}
    for wrong in (
        {"groups": 0},
        {"groups": 2},
        {"stride": (0, 1)},
        {"kernel": (0, 3)},
        {"dilation": (1, -1)},
        {"batch": -1},
        {"output": (2**62, 2)},
        {"output": (2**40, 2**40)},
        {"stride": (1, 2**40)},
        {"batch": 2**62},
    ):
        with pytest.raises(ValueError, match="explain: geometry is"):
            kernels.explain("conv2d", Conv2dGeometry(**{**fields, **wrong}), np.float32)


# ---- Pooling ----


# Large enough for several pieces of planes, for bands of rows, and for tiles side by side.
LARGE_POOL_CASES = [
    PoolCase("narrow-pixels-in-pieces", (1, 5, 45, 40), 3, stride=2, padding=1),
    PoolCase("narrow-windows", (3, 6, 28, 28), 2),
    PoolCase("bands-that-cut-windows", (1, 50, 23, 30), 2),
    PoolCase("wide-tiles", (1, 200, 5, 6), 3, stride=2),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", POOL_CASES + LARGE_POOL_CASES, ids=lambda case: case.id)
def test_max_pool(case: PoolCase, dtype: Any, isa: str) -> None:
    g, x, y = pool_operands(case, dtype)
    awkward = np.random.default_rng(1).integers(-2, 2, g.x_shape).astype(dtype)
    awkward[awkward == -2] = -np.inf
    awkward[np.random.default_rng(2).random(g.x_shape) < 0.1] = np.nan
    for values in (x, awkward):
        best, offsets = kernels.max_pool2d(values, g)
        expected, expected_offsets = reference.max_pool2d(values, g)
        np.testing.assert_array_equal(best, expected)
        np.testing.assert_array_equal(offsets, expected_offsets)
        np.testing.assert_array_equal(kernels.max_gather2d(values, offsets, g), expected)
        scattered = reference.max_scatter2d(y, offsets, g)
        # At most a window's worth of values, of size below 5, meets in a cell.
        tolerance = 5 * g.kernel[0] * g.kernel[1] * np.finfo(dtype).eps
        np.testing.assert_allclose(kernels.max_scatter2d(y, offsets, g), scattered, rtol=0, atol=tolerance)
    assert offsets.dtype == (np.uint16 if case.id == "wide-offsets" else np.uint8)


@pytest.mark.parametrize("count_include_pad", [True, False])
@pytest.mark.parametrize("divisor_override", [None, 3, -2])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "case", [case for case in POOL_CASES + LARGE_POOL_CASES if case.dilation == 1], ids=lambda case: case.id
)
def test_avg_pool(case: PoolCase, dtype: Any, divisor_override: int | None, count_include_pad: bool, isa: str) -> None:
    g, x, y = pool_operands(case, dtype)
    options = (count_include_pad, divisor_override)
    terms = g.kernel[0] * g.kernel[1]
    assert_sum_close(
        kernels.avg_pool2d(x, g, *options),
        reference.avg_pool2d(x, g, *options),
        abs(reference.avg_pool2d(abs(x), g, *options)),
        terms,
    )
    assert_sum_close(
        kernels.avg_pool2d_adjoint(y, g, *options),
        reference.avg_pool2d_adjoint(y, g, *options),
        abs(reference.avg_pool2d_adjoint(abs(y), g, *options)),
        terms,
    )


def test_maximum_in_every_position_and_lane(isa: str) -> None:
    channels = 70
    g = pool2d_geometry("max_pool2d", (9 * channels, channels, 3, 3), 3)
    x = np.zeros(g.x_shape, np.float32)
    for image, (position, lane) in enumerate(np.ndindex(9, channels)):
        x[image, lane, position // 3, position % 3] = 1
    best, offsets = kernels.max_pool2d(x, g)
    expected = np.zeros((9, channels, channels), int)
    expected[:, range(channels), range(channels)] = np.arange(9)[:, None]
    np.testing.assert_array_equal(offsets.reshape(9, channels, channels), expected)
    assert best.sum() == 9 * channels


def test_max_pool_rules(isa: str) -> None:
    g = pool2d_geometry("max_pool2d", (1, 1, 1, 4), (1, 4))

    def pool(*values: float) -> tuple[float, int]:
        best, offset = kernels.max_pool2d(np.array(values, np.float32).reshape(1, 1, 1, 4), g)
        return best.item(), offset.item()

    assert pool(1, 2, 2, 1) == (2, 1), "the first of equals"
    assert pool(0.0, -0.0, 0.0, -0.0)[1] == 0, "zeros of both signs are equal"
    assert pool(np.nan, 3, np.nan, 1)[1] == 2, "the last of several NaNs"
    assert pool(-np.inf, -np.inf, -np.inf, -np.inf) == (-np.inf, 0)
    assert pool(0, 0, 1e-40, 0)[1] == 2, "denormals are compared exactly"


def test_padding_never_wins() -> None:
    g = pool2d_geometry("max_pool2d", (1, 1, 2, 2), 3, 1, 1)
    best, offsets = kernels.max_pool2d(np.full((1, 1, 2, 2), -np.inf), g)
    assert (best == -np.inf).all()
    np.testing.assert_array_equal(offsets.ravel(), [4, 3, 1, 0])


def test_scatter_adds() -> None:
    g = pool2d_geometry("max_pool2d", (1, 1, 1, 3), (1, 2), 1)
    _, offsets = kernels.max_pool2d(np.array([1.0, 3.0, 2.0]).reshape(1, 1, 1, 3), g)
    np.testing.assert_array_equal(kernels.max_scatter2d(np.ones(g.y_shape), offsets, g).ravel(), [0, 2, 0])


@pytest.mark.parametrize("offset", [4, 255, 0], ids=["beyond-window", "largest", "in-padding"])
def test_foreign_offsets(offset: int, isa: str) -> None:
    g = pool2d_geometry("max_pool2d", (1, 3, 2, 2), 2, 2, 1)
    _, offsets = kernels.max_pool2d(np.ones(g.x_shape), g)
    offsets[0, 1, 0, 0] = offset
    for function, array in ((kernels.max_gather2d, np.ones(g.x_shape)), (kernels.max_scatter2d, np.ones(g.y_shape))):
        with pytest.raises(ValueError, match=f"{function.__name__}: offsets must name cells of their windows"):
            function(array, offsets, g)


def test_rejected_pool_arguments() -> None:
    g = pool2d_geometry("max_pool2d", (1, 2, 4, 4), 2)
    x, y = np.ones(g.x_shape), np.ones(g.y_shape)
    _, offsets = kernels.max_pool2d(x, g)
    with pytest.raises(TypeError, match="max_pool2d: x must be float32 or float64, got int64"):
        kernels.max_pool2d(x.astype(int), g)
    with pytest.raises(ValueError, match=r"avg_pool2d: x must have shape \(1, 2, 4, 4\)"):
        kernels.avg_pool2d(y, g)
    with pytest.raises(TypeError, match="max_gather2d: offsets must be uint8 for this window, got int64"):
        kernels.max_gather2d(x, offsets.astype(int), g)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="max_scatter2d: offsets must be a NumPy array, got list"):
        kernels.max_scatter2d(y, offsets.tolist(), g)
    with pytest.raises(ValueError, match="max_scatter2d: offsets must have shape"):
        kernels.max_scatter2d(y, offsets[:, :1], g)
    with pytest.raises(ValueError, match="avg_pool2d: divisor_override must be between 1 and"):
        kernels.avg_pool2d(x, g, True, 0)
    with pytest.raises(TypeError, match=r"avg_pool2d_adjoint: divisor_override must be an integer, got 1\.5"):
        kernels.avg_pool2d_adjoint(y, g, True, 1.5)  # type: ignore[arg-type]
    dilated = pool2d_geometry("max_pool2d", (1, 2, 4, 4), 2, dilation=2)
    with pytest.raises(ValueError, match=r"avg_pool2d: average pooling has no dilation, got \(2, 2\)"):
        kernels.avg_pool2d(x, dilated)


def test_pool_layout_changes_no_bit() -> None:
    g, x, y = pool_operands(PoolCase("", (2, 5, 7, 6), 3, 2, 1), np.float32)
    _, offsets = kernels.max_pool2d(x, g)
    functions: list[tuple[Callable[[Any], Any], Any]] = [
        (lambda x: kernels.max_pool2d(x, g)[0], x),
        (lambda x: kernels.max_pool2d(x, g)[1], x),
        (lambda x: kernels.max_gather2d(x, offsets, g), x),
        (lambda y: kernels.max_scatter2d(y, offsets, g), y),
        (lambda o: kernels.max_scatter2d(y, o, g), offsets),
        (lambda x: kernels.avg_pool2d(x, g), x),
        (lambda y: kernels.avg_pool2d_adjoint(y, g), y),
    ]
    for function, argument in functions:
        results = [bits(function(variant)) for variant in layouts(argument)]
        assert all(one == other for one, other in pairwise(results))


def test_pool_threads_and_splitting_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    g, x, y = pool_operands(PoolCase("", (3, 70, 60, 61), 3, 2, 1), np.float32)

    def results() -> list[bytes]:
        best, offsets = kernels.max_pool2d(x, g)
        scattered = kernels.max_scatter2d(y, offsets, g)
        averages = kernels.avg_pool2d(x, g), kernels.avg_pool2d_adjoint(y, g)
        return [bits(array) for array in (best, offsets, kernels.max_gather2d(x, offsets, g), scattered, *averages)]

    kernels.set_num_threads(1)
    expected = results()
    for threads in (2, 3, 4):
        kernels.set_num_threads(threads)
        assert results() == expected
    kernels._pool_call.cache_clear()
    monkeypatch.setattr(kernels, "_NANOSECONDS_PER_CALL", 1.0)
    assert results() == expected
    kernels._pool_call.cache_clear()
