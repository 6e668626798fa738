"""`bench pool`, `bench train` and the cases for pytest-benchmark: the gates, the rows, the files, and bad input.

Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference as slow
from cases import POOL_CASES, PoolCase

from autograd.__main__ import main
from autograd.bench.contest import Contest, Settings, saved
from autograd.bench.conv import Listener
from autograd.bench.pool import cases, reference
from autograd.bench.report import read_json
from autograd.bench.rows import PoolRow, TrainRow
from autograd.bench.timing import Effort
from autograd.bench.train import first_step, gradients_and_slope
from autograd.geometry import pool2d_geometry

ROOT = Path(__file__).parent.parent
QUICK = ["--seconds", "0.01"]


class TestPool:
    @pytest.mark.parametrize(
        "case", [case for case in POOL_CASES if case.dilation == 1 and not case.ceil_mode], ids=lambda case: case.id
    )
    def test_the_reference_agrees_with_the_slow_one(self, case: PoolCase, rng: np.random.Generator) -> None:
        g = pool2d_geometry("test", *case[1:])
        x, y = rng.standard_normal(g.x_shape), rng.standard_normal(g.y_shape)
        largest, offsets = slow.max_pool2d(x, g)
        np.testing.assert_array_equal(reference("max_pool2d", [x], g), largest)
        for map_name, operands, expected in (
            ("max_scatter2d", [y, x], slow.max_scatter2d(y, offsets, g)),
            ("avg_pool2d", [x], slow.avg_pool2d(x, g, True, None)),
            ("avg_pool2d_adjoint", [y, x], slow.avg_pool2d_adjoint(y, g, True, None)),
        ):
            np.testing.assert_allclose(reference(map_name, operands, g), expected, rtol=1e-13, atol=1e-13)

    def test_every_layer_is_named_once(self) -> None:
        assert len({(case.network, case.layer) for case in cases()}) == len(cases())
        assert {case.geometry.batch for case in cases(batch=2)} == {2}

    def test_a_report_of_all_layers(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "pool.json"
        assert main(["bench", "pool", "--batch", "1", *QUICK, "--json", str(path)]) == 0
        rows = read_json(path).rows
        assert len(rows) == 2 * len(cases())
        for row in rows:
            assert isinstance(row, PoolRow)
            assert row.right
            assert row.error <= row.error_bound
        assert "googlenet inception3a.pool" in capsys.readouterr().out


class TestTrain:
    def test_a_report_of_one_network(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "train.json"
        assert main(["bench", "train", "lenet5", "--batch", "2", *QUICK, "--json", str(path)]) == 0
        (row,) = read_json(path).rows
        assert isinstance(row, TrainRow)
        assert row.right
        assert (row.problem, row.map) == ("lenet5 n2", "step")
        assert 2**20 < row.memory.before < row.memory.peak
        assert "lenet5 n2" in capsys.readouterr().out

    @pytest.mark.parametrize("name", ["lenet5", "resnet20", "vgg8"])
    def test_float64_gradients_are_the_slope_of_the_loss(self, name: str) -> None:
        gradients, slope_error = gradients_and_slope(name, first_step(name, batch=2))
        assert np.abs(gradients).max() > 0
        assert slope_error < 1e-5  # a few ReLUs change sides within the step; a wrong rule is off by far more


class TestContest:
    def test_a_wrong_result_is_said_and_not_timed(self) -> None:
        g = cases(batch=1)[0].geometry
        x = np.random.default_rng(0).standard_normal(g.x_shape).astype(np.float32)
        settings = Settings(threads=[1], isa="generic", effort=Effort(seconds=0.01))
        geometry = {name: getattr(g, name) for name in g.__slots__}
        with Contest("pool_convgrad", [], settings, 1, Listener()) as contest, saved(x) as paths:
            exact = reference("max_pool2d", [x], g)
            assert contest.measure(("max_pool2d", geometry, paths), exact, 0.0).timing is not None
            exact[0, 0, 0, 0] += 0.001
            found = contest.measure(("max_pool2d", geometry, paths), exact, 0.0)
        assert found.timing is None
        assert "WRONG: the error is" in found.notes[0]


class TestPytestBenchmark:
    @staticmethod
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/bench", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    def test_ordinary_runs_collect_none(self) -> None:
        assert "no tests ran" in self.run().stdout

    def test_problems_are_groups(self, tmp_path: Path) -> None:
        path = tmp_path / "benchmark.json"
        settings = ["--benchmark-max-time=0.01", "--benchmark-min-rounds=1", f"--benchmark-json={path}"]
        result = self.run("--benchmark-only", "-k", "lenet5-C5", *settings)
        assert result.returncode == 0, result.stdout
        benchmarks = json.loads(path.read_text())["benchmarks"]
        assert [one["group"] for one in benchmarks] == ["n64c16h5w5 k120r5 s1 p0"] * 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["pool", "--batch", "0"], "--batch must be positive, got '0'"),
        (["pool", "--threads", "none"], "--threads must be positive, got 'none'"),
        (["pool", "--peer-python", "/no/such/python"], "/no/such/python"),
        (["pool", "--json", "/no/such/folder/a.json"], "the folder of '/no/such/folder/a.json' does not exist"),
        (["train", "resnet21"], "got 'resnet21'"),
        (["train", "--batch", "x"], "--batch must be positive, got 'x'"),
        (["train", "--plot", "picture.doc"], "must end in .png, .svg or .pdf, got 'picture.doc'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
