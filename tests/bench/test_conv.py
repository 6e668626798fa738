"""The cases of `python -m autograd bench conv` for pytest-benchmark, with its own comparison and histograms.

    pytest tests/bench --benchmark-only -k "resnet50 and conv2d_weight"

Every problem is a group. Only this library is timed, with as many threads as it uses by default.
"""

from __future__ import annotations

from typing import Any

import pytest

from autograd import kernels
from autograd.bench.problem import MAPS
from autograd.bench.reference import error_bound, normal_operands, reference, relative_error
from autograd.bench.suites import SUITES, Case, suite

CASES = [case for name in SUITES for case in suite(name)]


@pytest.mark.parametrize("map_name", MAPS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.suite}-{case.layer}")
def test_conv(case: Case, map_name: str, benchmark: Any) -> None:
    geometry = case.problem.geometry
    operands = normal_operands(map_name, geometry, "float32")
    exact = reference(map_name, *operands, geometry)
    operands = [
        kernels.channels_last(operand) if operand.shape != geometry.weight_shape else operand for operand in operands
    ]
    bias = [None] if map_name == "conv2d" else []

    def run() -> Any:
        return getattr(kernels, map_name)(*operands, *bias, geometry)

    assert relative_error(run(), exact) <= error_bound("float32", "highest")
    benchmark.group = str(case.problem)
    benchmark.extra_info |= {"flops": case.problem.flops, "threads": kernels.get_num_threads(), "isa": kernels.isa()}
    benchmark(run)
