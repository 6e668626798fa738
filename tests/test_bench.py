"""The benchmarks: sides in interpreters of their own, and what is said when one cannot run. Nothing is timed."""

from __future__ import annotations

import pytest

from autograd.__main__ import main
from autograd.bench.graph import node_cost
from autograd.bench.peer import Peer


def test_a_side_runs_its_workload_each_time_it_is_asked() -> None:
    side = Peer("version = 'side 1'\nimport time\ndef workload(): return lambda: time.sleep(0.01)")
    assert side.version == "side 1"
    side.prepare("nap")
    assert all(side.time("nap") >= 0.01 for _ in range(3))
    side.close()


def test_a_side_that_cannot_start_says_why() -> None:
    with pytest.raises(
        ValueError, match="did not run the workload: ModuleNotFoundError: No module named 'no_such_one'"
    ):
        Peer("import no_such_one")


def test_the_cost_of_a_node_without_a_peer() -> None:
    found = node_cost(length=10, rounds=4)
    assert found.ours.version == "convgrad"
    assert 0 < found.ours.spread[0] <= found.ours.median <= found.ours.spread[1]
    assert (found.peer, found.ratio) == (None, None)


def test_a_missing_interpreter_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "graph", "--peer-python", "/no/such/python"]) == 2
    error = capsys.readouterr().err
    assert "/no/such/python" in error
    assert error.count("\n") == 1
