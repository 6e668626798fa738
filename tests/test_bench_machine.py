"""The measured peaks of the machine: what they must agree with, whatever the machine."""

from __future__ import annotations

import numpy as np
import pytest

from autograd import kernels
from autograd.bench.machine import Bandwidth, Peak, facts, peak


@pytest.fixture(scope="module", params=kernels.supported_isas())
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_float64_vector_has_half_as_many_elements(isa: str) -> None:
    """Whatever the speed, one run of the same length does half as many operations."""
    with kernels.use_isa(isa):
        assert kernels.multiply_adds("float32", 10) == 2 * kernels.multiply_adds("float64", 10) > 0


def test_the_loops_are_not_optimised_away(isa: str) -> None:
    """One core neither computes a trillion operations in a second nor moves ten terabytes."""
    measured = peak(isa, 1, "float32")
    assert 0 < measured.gflops < 1000
    for level in measured.bandwidths:
        assert 0 < min(level.read, level.copy) <= max(level.read, level.copy) < 1e13


def test_threads_and_isa_are_as_before() -> None:
    before = kernels.isa(), kernels.get_num_threads()
    peak("generic", 1, "float64")
    assert before == (kernels.isa(), kernels.get_num_threads())


def test_bandwidth_lies_between_the_levels_around_a_footprint() -> None:
    measured = Peak(100.0, (Bandwidth(2**10, 80.0, 60.0), Bandwidth(2**20, 20.0, 30.0)))
    assert measured.bandwidth(1) == 80
    assert measured.bandwidth(2**15) == 55
    assert measured.bandwidth(2**40) == 30
    assert measured.copy_bandwidth(2**10) == 60


def test_a_copy_is_a_copy() -> None:
    source = np.arange(1000, dtype=np.uint8)
    target = np.zeros_like(source)
    moved = kernels.stream(source, target, repeats=3)
    copied = moved // 6
    assert 0 < copied <= 1000
    assert (target[:copied] == source[:copied]).all()
    assert not target[copied:].any()


@pytest.mark.parametrize("target", [np.zeros(9, np.uint8), np.zeros(10, np.float32)])
def test_a_target_of_another_size_or_type_is_refused(target: np.ndarray) -> None:
    with pytest.raises(ValueError, match="stream: target must be 10 bytes"):
        kernels.stream(np.zeros(10, np.uint8), target)


def test_the_facts_name_the_machine() -> None:
    found = facts()
    assert found["processor"]
    assert int(found["processors"]) >= 1
    assert kernels.supported_isas()[0] in found["instruction sets"]
