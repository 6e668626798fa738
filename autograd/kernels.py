"""The only importer of the compiled extension: checks dtype and layout, allocates, calls; arrays in, arrays out.

Arrays are ``(N, C, H, W)`` in shape and channels-last in memory: results are transposed views of fresh C-contiguous
``(N, H, W, C)`` arrays, and an operand in any other layout is copied once, by ``channels_last``. Weights and their
gradients are C-contiguous ``(O, C / groups, kh, kw)``. Element types are float32 and float64, one for all operands.

A result never depends on the number of threads, on the layout of an operand or on what ran before. Long calls are made
in pieces of about a tenth of a second, between which Python answers Ctrl-C. Inside a convolution denormal numbers count
as zero; the process's own floating-point mode is never changed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ._kernels import ffi, lib
from .arguments import choice, integer
from .geometry import Conv2dGeometry, Pool2dGeometry, conv2d_geometry
from .memory import empty

FloatArray = NDArray[np.floating[Any]]
OffsetArray = NDArray[np.unsignedinteger[Any]]

_PRECISIONS = ("highest", "high", "medium")  # as the C code numbers them
_MAPS = {"conv2d": lib.CONV2D, "conv2d_input": lib.CONV2D_INPUT, "conv2d_weight": lib.CONV2D_WEIGHT}
_FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64)})
_NANOSECONDS_PER_CALL = 1e8
# Pooling: a rough estimate per value read, and the work below which waking threads takes longer than it saves.
_POOL_NANOSECONDS = 0.2
_WORTH_THREADS = 5e4
_ERF_PER_CALL = 2**22


# ---- What runs: instruction set, threads, algorithm ----


class _Settings:
    """What the user chose; ``None`` until chosen or first needed, so that importing has no effect."""

    isa: str | None = None
    threads: int | None = None
    algorithm: tuple[str, ...] | None = None
    precision = "highest"


def _isa_names() -> list[str]:
    """Every instruction set that this build has kernels for, best first."""
    return [ffi.string(lib.isa_name(index)).decode() for index in range(lib.isa_count())]


def supported_isas() -> list[str]:
    """The instruction sets that both this build and this processor have, best first."""
    return [name for index, name in enumerate(_isa_names()) if lib.isa_supported(index)]


def isa() -> str:
    """The instruction set in use: ``'avx512'``, ``'avx2'``, ``'neon'`` or ``'generic'``.

    It is the best that the processor has, but not above the one named by the environment variable ``AUTOGRAD_ISA``.
    """
    if _Settings.isa is None:
        names = _isa_names()
        cap = os.environ.get("AUTOGRAD_ISA", names[0])
        if cap not in names:
            raise ValueError(f"AUTOGRAD_ISA must be one of {', '.join(names)}, got {cap!r}")
        _Settings.isa = next(name for name in names[names.index(cap) :] if name in supported_isas())
    return _Settings.isa


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Within the ``with`` block all kernels of the process use the instruction set ``name``."""
    if name not in supported_isas():
        raise ValueError(f"use_isa: name must be one of {', '.join(supported_isas())}, got {name!r}")
    before = isa()
    _Settings.isa = name
    try:
        yield
    finally:
        _Settings.isa = before


def get_num_threads() -> int:
    """The number of threads that kernels may use.

    It is what ``set_num_threads`` set, else the environment variable ``AUTOGRAD_NUM_THREADS``, else the number of
    processors that this process may run on.
    """
    if _Settings.threads is None:
        text = os.environ.get("AUTOGRAD_NUM_THREADS")
        if text is None:
            available = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
            _Settings.threads = min(len(available), lib.MAX_THREADS)
        elif text.strip().isdecimal() and 1 <= int(text) <= lib.MAX_THREADS:
            _Settings.threads = int(text)
        else:
            raise ValueError(f"AUTOGRAD_NUM_THREADS must be between 1 and {lib.MAX_THREADS}, got {text!r}")
    return _Settings.threads


def set_num_threads(n: int) -> None:
    """Let kernels use up to ``n`` threads, the caller's included. No result depends on it."""
    _Settings.threads = integer("set_num_threads", "n", n, 1, lib.MAX_THREADS)


def get_float32_precision() -> str:
    """The class of accuracy of float32 convolutions: ``'highest'``, ``'high'`` or ``'medium'``."""
    return _Settings.precision


class set_float32_precision:
    """Choose how accurate float32 convolutions must be; as a context manager, within the ``with`` block.

    - ``'highest'``, the default: no worse than the direct sum of products in float32.
    - ``'high'``: relative errors up to about 2e-5.
    - ``'medium'``: operands may be rounded to bfloat16, which has 8 significant bits; sums stay float32.

    A class only permits: what runs is the quickest algorithm that is accurate enough (see ``explain_conv``). float64 is
    not affected. The classes are those of PyTorch's ``torch.set_float32_matmul_precision``.
    """

    def __init__(self, precision: str) -> None:
        self._before = _Settings.precision
        _Settings.precision = choice("set_float32_precision", "precision", precision, *_PRECISIONS)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        _Settings.precision = self._before


def algorithms() -> list[str]:
    """The names of all convolution algorithms, in order of preference."""
    return list(dict.fromkeys(_algorithm_name(index) for index in range(lib.conv2d_algorithm_count())))


def _algorithm_name(index: int) -> str:
    return str(ffi.string(lib.conv2d_algorithm_name(index)).decode())


def _forced() -> tuple[str, ...]:
    """The algorithms that the user asked for, in order of preference; none if the choice is free."""
    if _Settings.algorithm is None:
        text = os.environ.get("AUTOGRAD_ALGORITHM", "")
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if not set(names) <= set(algorithms()):
            raise ValueError(f"AUTOGRAD_ALGORITHM must be of {', '.join(algorithms())}, got {text!r}")
        _Settings.algorithm = names
    return _Settings.algorithm


@contextmanager
def use_algorithm(*names: str) -> Iterator[None]:
    """Within the ``with`` block convolutions use the first of the named algorithms that serves the problem.

    Where none does, they raise ``ValueError``. The environment variable ``AUTOGRAD_ALGORITHM`` does the same for a
    whole process; its names are separated by commas.
    """
    for name in names:
        choice("use_algorithm", "name", name, *algorithms())
    before = _forced()
    _Settings.algorithm = names
    try:
        yield
    finally:
        _Settings.algorithm = before


class ConvExplanation(NamedTuple):
    """How one map of a convolution is computed, and why that way."""

    map: str  # 'conv2d', 'conv2d_input' or 'conv2d_weight'
    algorithm: str
    reason: str
    isa: str
    precision: str  # the class of accuracy that was asked for
    error_class: str  # the class of what runs, which may be better
    workspace_bytes: int
    candidates: tuple[str, ...]  # all algorithms that serve the problem, whatever their accuracy


def explain(map_name: str, geometry: Conv2dGeometry, dtype: DTypeLike) -> ConvExplanation:
    """How ``map_name`` ('conv2d', 'conv2d_input' or 'conv2d_weight') is computed with the settings of now."""
    choice("explain", "map_name", map_name, *_MAPS)
    size = _native(np.dtype(dtype), "explain", "dtype").itemsize
    plan = _plan_now("explain", map_name, geometry, size).plan
    reason = str(ffi.string(lib.conv2d_algorithm_reason(plan.algorithm)).decode())
    if _forced():
        reason = f"asked for: {', '.join(_forced())}"
    arguments = (map_name, geometry, size, isa(), _Settings.precision, get_num_threads())
    return ConvExplanation(
        map_name,
        _algorithm_name(plan.algorithm),
        reason,
        isa(),
        _Settings.precision,
        _PRECISIONS[lib.conv2d_algorithm_precision(plan.algorithm)],
        plan.workspace_size,
        tuple(name for name in algorithms() if _plan("explain", *arguments, (name,)) is not None),
    )


def explain_conv(
    x: Any,
    weight: Any,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    dtype: DTypeLike = np.float32,
) -> list[ConvExplanation]:
    """How ``conv2d`` of these operands is computed, forward, for the input's gradient and for the filters'.

    ``x`` and ``weight`` are arrays, tensors or shapes; the other arguments are as those of ``conv2d``. ``dtype`` counts
    where ``x`` is a shape.
    """
    x_shape, weight_shape = (tuple(getattr(operand, "shape", operand)) for operand in (x, weight))
    geometry = conv2d_geometry("explain_conv", x_shape, weight_shape, stride, padding, dilation, groups)
    return [explain(map_name, geometry, getattr(x, "dtype", dtype)) for map_name in _MAPS]


# ---- The boundary: dtypes and layouts ----


def _native(dtype: np.dtype[Any], function: str, argument: str) -> np.dtype[Any]:
    """``dtype`` in the machine's byte order if it is float32 or float64, else TypeError."""
    native = dtype if dtype.isnative else dtype.newbyteorder("=")
    if native not in _FLOATS:
        raise TypeError(f"{function}: {argument} must be float32 or float64, got {dtype}")
    return native


def _array(array: Any, function: str, argument: str) -> FloatArray:
    """``array`` as a plain NumPy array of float32 or float64 of any layout."""
    if type(array) is not np.ndarray:
        if isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{function}: {argument} must not be a masked array")
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{function}: {argument} must be a NumPy array, got {type(array).__name__}")
    _native(array.dtype, function, argument)
    return np.asarray(array)


def _contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """``array`` itself if C code can read it: C-contiguous, aligned and in native byte order; else a copy that is."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array
    # The pool's memory begins at a cache line, NumPy's 16 bytes after one, where every vector is read from two lines.
    copy = empty(array.shape, array.dtype.newbyteorder("="))
    copy[...] = array
    return copy


def channels_last(array: Any, function: str = "channels_last", argument: str = "array") -> FloatArray:
    """``array`` of shape ``(N, C, H, W)`` with channels last in memory: itself where it is so already, else a copy.

    Takes float32 and float64 arrays of every layout (strided, Fortran, negative or zero strides, unaligned, read-only,
    byte-swapped, subclasses) and keeps every bit of every value. Raises ``TypeError`` for other types and for masked
    arrays and ``ValueError`` for another number of dimensions; ``function`` and ``argument`` are the names in these
    errors.
    """
    return _last(_array(array, function, argument), function, argument).transpose(0, 3, 1, 2)


def _last(array: NDArray[Any], function: str, argument: str) -> NDArray[Any]:
    """``array`` as the C code reads it: C-contiguous ``(N, H, W, C)``."""
    if array.ndim != 4:
        raise ValueError(f"{function}: {argument} must have 4 dimensions, got shape {array.shape}")
    return _contiguous(array.transpose(0, 2, 3, 1))


def _operands(function: str, **arguments: tuple[Any, tuple[int, ...]]) -> list[NDArray[Any]]:
    """The arguments ``name=(array, expected shape)`` as plain arrays, checked to share one floating dtype."""
    arrays: dict[str, FloatArray] = {}
    for name, (array, shape) in arguments.items():
        arrays[name] = _array(array, function, name)
        if arrays[name].shape != shape:
            raise ValueError(f"{function}: {name} must have shape {shape}, got {arrays[name].shape}")
    (first, array), *rest = arrays.items()
    for name, other in rest:
        if other.dtype is not array.dtype and other.dtype.newbyteorder("=") != array.dtype.newbyteorder("="):
            dtypes = f"{array.dtype} and {other.dtype}"
            raise TypeError(f"{function}: {first} and {name} must have one dtype, got {dtypes}; convert with astype()")
    return list(arrays.values())


def _address(array: NDArray[Any]) -> Any:
    """A pointer for one C call; it keeps the array alive."""
    return ffi.from_buffer(array)


# ---- Convolution ----


def conv2d(x: FloatArray, weight: FloatArray, bias: FloatArray | None, geometry: Conv2dGeometry) -> FloatArray:
    """The cross-correlation of ``x`` with the filters ``weight``, plus ``bias`` of shape ``(O,)`` unless that is None.

    Shapes are ``geometry``'s ``x_shape``, ``weight_shape`` and, for the result, ``y_shape``.
    """
    arguments = {"x": (x, geometry.x_shape), "weight": (weight, geometry.weight_shape)}
    if bias is None:
        x, weight = _operands("conv2d", **arguments)
    else:
        x, weight, bias = _operands("conv2d", **arguments, bias=(bias, (geometry.out_channels,)))
        bias = _contiguous(bias)
    x, weight = _last(x, "conv2d", "x"), _contiguous(weight)
    y = _empty_last(geometry.y_shape, x.dtype)
    _convolve("conv2d", geometry, x, weight, bias, y)
    return y.transpose(0, 3, 1, 2)


def conv2d_input(y: FloatArray, weight: FloatArray, geometry: Conv2dGeometry) -> FloatArray:
    """The adjoint of ``conv2d`` in its input, applied to ``y``: the input gradient, or transposed convolution.

    ``y`` has ``geometry.y_shape``, the result ``geometry.x_shape``.
    """
    y, weight = _operands("conv2d_input", y=(y, geometry.y_shape), weight=(weight, geometry.weight_shape))
    y, weight = _last(y, "conv2d_input", "y"), _contiguous(weight)
    x = _empty_last(geometry.x_shape, y.dtype)
    _convolve("conv2d_input", geometry, x, weight, None, y)
    return x.transpose(0, 3, 1, 2)


def conv2d_weight(x: FloatArray, y: FloatArray, geometry: Conv2dGeometry) -> FloatArray:
    """The adjoint of ``conv2d`` in its filters, applied to ``y``: the filter gradient.

    ``x`` has ``geometry.x_shape``, ``y`` has ``geometry.y_shape``, and the result ``geometry.weight_shape``.
    """
    x, y = _operands("conv2d_weight", x=(x, geometry.x_shape), y=(y, geometry.y_shape))
    x, y = _last(x, "conv2d_weight", "x"), _last(y, "conv2d_weight", "y")
    weight = empty(geometry.weight_shape, x.dtype)
    _convolve("conv2d_weight", geometry, x, weight, None, y)
    return weight


def _empty_last(shape: tuple[int, int, int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    batch, channels, height, width = shape
    return empty((batch, height, width, channels), dtype)


class _Plan(NamedTuple):
    """A C plan, and its stages as (number of items, how many of them one call gets)."""

    plan: Any
    stages: list[tuple[int, int]]
    workspace_size: int


@lru_cache(maxsize=4096)
def _plan(
    function: str,
    map_name: str,
    geometry: Conv2dGeometry,
    element_size: int,
    isa: str,
    precision: str,
    threads: int,
    forced: tuple[str, ...],
) -> _Plan | None:
    """The C plan of one map of one geometry: which algorithm runs, in which stages, and the workspace that it needs.

    None if none of the ``forced`` algorithms serves the problem.
    """
    g = geometry
    sizes = ffi.new(
        "struct conv2d_geometry *",
        {
            "batch": g.batch,
            "in_channels": g.in_channels,
            "out_channels": g.out_channels,
            "groups": g.groups,
            "input": g.input,
            "kernel": g.kernel,
            "output": g.output,
            "stride": g.stride,
            "dilation": g.dilation,
            "padding": [before for before, _ in g.padding],
        },
    )
    plan = ffi.new("struct conv2d_plan *")
    request = (_MAPS[map_name], element_size, _isa_names().index(isa), _PRECISIONS.index(precision), threads)
    for name in [name.encode() for name in forced] or [ffi.NULL]:
        status = lib.conv2d_plan(plan, sizes, *request, name)
        if status != lib.STATUS_NO_ALGORITHM:
            _check_status(status, function, geometry)
            stages = [(plan.items[s], _items_per_call(plan.items[s], plan.nanoseconds[s])) for s in range(plan.stages)]
            return _Plan(plan, stages, plan.workspace_size)
    return None


def _plan_now(
    function: str, map_name: str, geometry: Conv2dGeometry, element_size: int, forced: tuple[str, ...] | None = None
) -> _Plan:
    """The plan with the settings of now, among which are the ``forced`` algorithms unless they are given."""
    forced = _forced() if forced is None else forced
    plan = _plan(function, map_name, geometry, element_size, isa(), _Settings.precision, get_num_threads(), forced)
    if plan is None:
        raise ValueError(f"{function}: algorithm {', '.join(forced)} does not serve {map_name} of {geometry}")
    return plan


def _check_status(status: int, function: str, geometry: Conv2dGeometry | Pool2dGeometry) -> None:
    """Turn what the C code refused into an exception; geometries made by geometry.py are never refused."""
    if status == lib.STATUS_OVERFLOW:
        raise ValueError(f"{function}: geometry is too large for 64-bit sizes, got {geometry}")
    if status != lib.STATUS_OK:
        raise ValueError(f"{function}: geometry is not consistent, got {geometry}")


def _convolve(
    function: str,
    geometry: Conv2dGeometry,
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    y: NDArray[Any],
) -> None:
    plan = _plan_now(function, function, geometry, x.itemsize)
    if not _run(plan, x, weight, bias, y):
        # Where an infinity or a NaN meets an algorithm that would spread it, the sum of products itself decides.
        _run(_plan_now(function, function, geometry, x.itemsize, ("direct",)), x, weight, bias, y)


def _run(plan: _Plan, x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any] | None, y: NDArray[Any]) -> bool:
    """False if the result must be computed again, by the direct algorithm."""
    addresses = (
        _address(x),
        _address(weight),
        ffi.NULL if bias is None else _address(bias),
        _address(y),
        _address(empty((plan.workspace_size,), np.uint8)),
    )
    for stage, (items, step) in enumerate(plan.stages):
        for begin in range(0, items, step):
            status = lib.conv2d_run(plan.plan, stage, begin, min(begin + step, items), *addresses)
            if status == lib.STATUS_NOT_FINITE:
                return False
    return True


def _items_per_call(items: int, nanoseconds: float) -> int:
    """How many items of a loop one C call gets, so that Ctrl-C is answered soon."""
    if nanoseconds <= _NANOSECONDS_PER_CALL:
        return max(items, 1)
    return max(int(items * _NANOSECONDS_PER_CALL / nanoseconds), 1)


# ---- Pooling ----


def max_pool2d(x: FloatArray, geometry: Pool2dGeometry) -> tuple[FloatArray, OffsetArray]:
    """The maximum of every window of ``x``, and where in the window it is.

    The first of equal values wins; NaN is greater than any number, and the last of several NaNs wins; padding never
    does. An offset is a position among the kernel's cells, row-major, in the smallest unsigned integer type that fits.
    """
    x = _last(*_pool_operand("max_pool2d", "x", x, geometry.x_shape))
    y = _empty_last(geometry.y_shape, x.dtype)
    offsets = _empty_last(geometry.y_shape, offset_dtype(geometry))
    _pool("max_pool2d", lib.MAX_POOL2D, geometry, x, y, offsets)
    return y.transpose(0, 3, 1, 2), offsets.transpose(0, 3, 1, 2)


def max_gather2d(x: FloatArray, offsets: OffsetArray, geometry: Pool2dGeometry) -> FloatArray:
    """The values of ``x`` at ``offsets``, which are as ``max_pool2d`` returns them: one for every window.

    Raises ``ValueError`` if an offset names no cell of its window inside the input.
    """
    x = _last(*_pool_operand("max_gather2d", "x", x, geometry.x_shape))
    offsets = _offsets("max_gather2d", offsets, geometry)
    y = _empty_last(geometry.y_shape, x.dtype)
    _pool("max_gather2d", lib.MAX_GATHER2D, geometry, x, y, offsets)
    return y.transpose(0, 3, 1, 2)


def max_scatter2d(y: FloatArray, offsets: OffsetArray, geometry: Pool2dGeometry) -> FloatArray:
    """The adjoint of ``max_gather2d``: every value of ``y`` added to the cell at its offset, in the order of windows.

    Raises ``ValueError`` if an offset names no cell of its window inside the input.
    """
    y = _last(*_pool_operand("max_scatter2d", "y", y, geometry.y_shape))
    offsets = _offsets("max_scatter2d", offsets, geometry)
    x = _empty_last(geometry.x_shape, y.dtype)
    _pool("max_scatter2d", lib.MAX_SCATTER2D, geometry, x, y, offsets)
    return x.transpose(0, 3, 1, 2)


def avg_pool2d(
    x: FloatArray, geometry: Pool2dGeometry, count_include_pad: bool = True, divisor_override: int | None = None
) -> FloatArray:
    """The sum of every window of ``x`` over its divisor.

    The divisor is ``divisor_override``, else the window's area, of which padding counts if ``count_include_pad``; what
    overhangs the padding (in ceil mode) never counts.
    """
    divisor = _divisor("avg_pool2d", geometry, divisor_override)
    x = _last(*_pool_operand("avg_pool2d", "x", x, geometry.x_shape))
    y = _empty_last(geometry.y_shape, x.dtype)
    _pool("avg_pool2d", lib.AVG_POOL2D, geometry, x, y, None, bool(count_include_pad), divisor)
    return y.transpose(0, 3, 1, 2)


def avg_pool2d_adjoint(
    y: FloatArray, geometry: Pool2dGeometry, count_include_pad: bool = True, divisor_override: int | None = None
) -> FloatArray:
    """The adjoint of ``avg_pool2d``: every value of ``y``, over its window's divisor, added to the window's cells."""
    divisor = _divisor("avg_pool2d_adjoint", geometry, divisor_override)
    y = _last(*_pool_operand("avg_pool2d_adjoint", "y", y, geometry.y_shape))
    x = _empty_last(geometry.x_shape, y.dtype)
    _pool("avg_pool2d_adjoint", lib.AVG_POOL2D_ADJOINT, geometry, x, y, None, bool(count_include_pad), divisor)
    return x.transpose(0, 3, 1, 2)


def offset_dtype(geometry: Pool2dGeometry) -> np.dtype[np.unsignedinteger[Any]]:
    """The element type of the offsets of ``max_pool2d``."""
    return np.min_scalar_type(geometry.kernel[0] * geometry.kernel[1] - 1)


def _pool_operand(function: str, argument: str, array: Any, shape: tuple[int, ...]) -> tuple[FloatArray, str, str]:
    return _operands(function, **{argument: (array, shape)})[0], function, argument


def _offsets(function: str, offsets: Any, geometry: Pool2dGeometry) -> OffsetArray:
    dtype = offset_dtype(geometry)
    if not isinstance(offsets, np.ndarray) or isinstance(offsets, np.ma.MaskedArray):
        raise TypeError(f"{function}: offsets must be a NumPy array, got {type(offsets).__name__}")
    if offsets.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"{function}: offsets must be {dtype} for this window, got {offsets.dtype}")
    if offsets.shape != geometry.y_shape:
        raise ValueError(f"{function}: offsets must have shape {geometry.y_shape}, got {offsets.shape}")
    return _last(np.asarray(offsets), function, "offsets")


def _divisor(function: str, geometry: Pool2dGeometry, divisor_override: int | None) -> float:
    """The override as the C code takes it, where zero means none."""
    if geometry.dilation != (1, 1):
        raise ValueError(f"{function}: average pooling has no dilation, got {geometry.dilation}")
    if divisor_override is None:
        return 0.0
    divisor = integer(function, "divisor_override", divisor_override)
    if divisor == 0 or abs(divisor) > 2**53:
        raise ValueError(f"{function}: divisor_override must be between 1 and 2**53 in size, got {divisor}")
    return float(divisor)


@lru_cache(maxsize=1024)
def _pool_call(
    map_number: int,
    geometry: Pool2dGeometry,
    element_size: int,
    offset_size: int,
    isa: str,
    threads: int,
    count_include_pad: bool,
    divisor: float,
) -> tuple[Any, int, int]:
    """The C description of one pooling, how many items it has, and how many of them one call gets."""
    g = geometry
    nanoseconds = prod(g.y_shape) * prod(g.kernel) * _POOL_NANOSECONDS
    call = ffi.new("struct pool2d_call *")
    call.geometry = {
        "batch": g.batch,
        "channels": g.channels,
        "input": g.input,
        "kernel": g.kernel,
        "output": g.output,
        "stride": g.stride,
        "dilation": g.dilation,
        "padding": g.padding,
    }
    call.map = map_number
    call.element_size = element_size
    call.offset_size = offset_size
    call.isa = _isa_names().index(isa)
    call.threads = threads if nanoseconds > _WORTH_THREADS else 1
    call.count_include_pad = count_include_pad
    call.divisor = divisor
    items = lib.pool2d_items(call)
    return call, items, _items_per_call(items, nanoseconds)


def _pool(
    function: str,
    map_number: int,
    geometry: Pool2dGeometry,
    x: NDArray[Any],
    y: NDArray[Any],
    offsets: NDArray[Any] | None,
    count_include_pad: bool = True,
    divisor: float = 0.0,
) -> None:
    offset_size = 0 if offsets is None else offsets.itemsize
    call, items, step = _pool_call(
        map_number, geometry, x.itemsize, offset_size, isa(), get_num_threads(), count_include_pad, divisor
    )
    addresses = (_address(x), _address(y), ffi.NULL if offsets is None else _address(offsets))
    for begin in range(0, items, step):
        status = lib.pool2d_run(call, begin, min(begin + step, items), *addresses)
        if status == lib.STATUS_BAD_OFFSET:
            raise ValueError(f"{function}: offsets must name cells of their windows inside the input, and one does not")
        _check_status(status, function, geometry)


# ---- Special functions ----


def erf(x: Any) -> Any:
    """The error function of float32 or float64 numbers, elementwise; the result has the layout of ``x``."""
    array = np.asarray(x)
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"erf: x must be float32 or float64, got {array.dtype}")
    result = array.astype(array.dtype.newbyteorder("="), order="K")
    dense = result.ravel(order="K")  # a view: a fresh copy in order K has no gaps
    compute, c_type = (lib.erf_float32, "float[]") if dense.itemsize == 4 else (lib.erf_float64, "double[]")
    for begin in range(0, dense.size, _ERF_PER_CALL):
        part = dense[begin : begin + _ERF_PER_CALL]
        compute(ffi.from_buffer(c_type, part), part.size)
    return result


# ---- What the machine can do at most ----


def multiply_adds(dtype: DTypeLike, steps: int) -> int:
    """Computes independent multiply-adds in registers on every thread, and returns how many operations that were.

    ``steps`` is the length of each chain. A multiply-add counts as two operations.
    """
    size = _native(np.dtype(dtype), "multiply_adds", "dtype").itemsize
    steps = integer("multiply_adds", "steps", steps, 1, 2**32)
    return int(lib.peak_multiply_add(_isa_names().index(isa()), size, get_num_threads(), steps))


def stream(source: NDArray[Any], target: NDArray[Any] | None = None, repeats: int = 1) -> int:
    """Reads ``source``, or copies it to ``target``, each thread its part ``repeats`` times; returns the bytes moved.

    A copied byte counts twice. Both are C-contiguous arrays of bytes, of one size.
    """
    repeats = integer("stream", "repeats", repeats, 1, 2**32)
    for name, array in (("source", source), ("target", target)):
        if array is not None and (array.dtype != np.uint8 or array.size != source.size):
            raise ValueError(f"stream: {name} must be {source.size} bytes, got {array.dtype} of size {array.size}")
    addresses = (_address(source), ffi.NULL if target is None else _address(target))
    return int(lib.peak_stream(_isa_names().index(isa()), get_num_threads(), repeats, *addresses, source.size))
