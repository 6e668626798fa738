"""What is made of measurements: files, comparisons and pictures, of made-up reports. Nothing is timed."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from autograd.__main__ import main
from autograd.bench.compare import Comparison, compare, summary
from autograd.bench.plot import _height, plot
from autograd.bench.report import ReportError, check_output, read_json, write_csv, write_file, write_json
from autograd.bench.rows import Measurement, Memory, PeerResult, PoolRow, Report, Row, Timing, TrainRow

PROBLEMS = ["n8c64h56w56 k64r3 s1 p1", "n8c64h56w56 k256r1", "n8c3h224w224 k64r7 s2 p3"]
MAPS = ["conv2d", "conv2d_input", "conv2d_weight"]


def timing(seconds: float, noise: float = 0.02) -> Timing:
    return Timing(seconds=seconds, low=seconds * (1 - noise), high=seconds * (1 + noise), samples=20)


def peer(seconds: float, speedup: float, noise: float = 0.02) -> PeerResult:
    low, high = speedup * (1 - noise), speedup * (1 + noise)
    return PeerResult(
        version="PyTorch 2",
        variant="channels_last",
        timing=timing(seconds),
        speedup=speedup,
        speedup_low=low,
        speedup_high=high,
        error=1e-6,
    )


def row(problem: str = PROBLEMS[0], map_name: str = "conv2d", seconds: float | None = 0.01, **fields: Any) -> Row:
    defaults: dict[str, Any] = {
        "suite": "resnet50",
        "layer": f"layer{problem[-1]}",
        "count": 1,
        "problem": problem,
        "map": map_name,
        "dtype": "float32",
        "precision": "highest",
        "isa": "avx512",
        "threads": 1,
        "algorithm": "direct",
        "automatic": True,
        "reason": "it serves everything",
        "timing": seconds and timing(seconds),
        "flops": 10**9,
        "bytes": 10**7,
        "peak_gflops": 100.0,
        "peak_bandwidth": 2e10,
        "workspace_bytes": 0,
        "error": 1e-6,
        "error_bound": 1e-5,
    }
    return Row(**defaults | fields)


def pool_row() -> PoolRow:
    return PoolRow(
        suite="resnet50",
        layer="maxpool",
        count=1,
        problem="n8c64h112w112 r3 s2 p1",
        map="max_pool2d",
        dtype="float32",
        isa="avx512",
        threads=2,
        timing=timing(0.002),
        error=0.0,
        error_bound=0.0,
        peers={"PyTorch": peer(0.004, 2.0)},
        bytes=10**7,
        copy_bandwidth=2e10,
    )


def train_row() -> TrainRow:
    return TrainRow(
        suite="",
        layer="",
        count=1,
        problem="lenet5 n64",
        map="step",
        dtype="float32",
        isa="avx512",
        threads=2,
        timing=timing(0.02),
        error=1e-6,
        error_bound=1e-4,
        peers={"PyTorch": peer(0.03, 1.5)},
        memory=Memory(before=3 * 10**7, peak=10**8),
        peer_memory={"PyTorch": Memory(before=2 * 10**8, peak=4 * 10**8)},
    )


def report(*rows: Measurement, benchmark: str = "conv") -> Report:
    return Report(
        benchmark=benchmark,
        command="python -m autograd bench conv",
        finished="2026-01-01T00:00:00Z",
        machine={"processor": "one"},
        versions={"convgrad": "1"},
        settings={"confidence": 0.95},
        rows=rows,
        notes=("JAX was not found",),
    )


REPORTS = [
    report(*(row(problem, name) for problem in PROBLEMS for name in MAPS)),
    report(row(peers={"PyTorch": peer(0.012, 1.2)}, denormals=1.1, notes=("noisy",)), row(seconds=None)),
    report(pool_row(), benchmark="pool"),
    report(train_row(), benchmark="train"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


class TestFiles:
    @pytest.mark.parametrize("original", REPORTS, ids=lambda report: report.benchmark)
    def test_json_brings_everything_back(self, original: Report, path: Path) -> None:
        write_json(original, path)
        assert read_json(path) == original

    def test_json_is_strict_about_numbers_that_are_not_finite(self, path: Path) -> None:
        write_json(report(row(seconds=None, error=math.inf)), path)
        assert json.loads(path.read_text(), parse_constant=pytest.fail)["rows"][0]["error"] is None
        (found,) = read_json(path).rows
        assert math.isnan(found.error)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda content: content.pop("schema"), "it has no schema"),
            (lambda content: content.update(schema=99), "its schema is 99, and this version reads 1"),
            (lambda content: content.update(benchmark="tea"), "benchmark must be one of conv, pool, train, got 'tea'"),
            (lambda content: content.update(rows=3), "rows must be a list"),
            (lambda content: content.update(extra=3), "report has the unknown extra"),
            (lambda content: content["rows"][0].pop("map"), r"rows\[0\] lacks map"),
            (lambda content: content["rows"][0].update(threads="1"), r"rows\[0\].threads must be int, got '1'"),
            (lambda content: content["rows"][0].update(threads=True), r"rows\[0\].threads must be int, got True"),
            (lambda content: content["rows"][0].update(timing=[1]), r"rows\[0\].timing must be Timing, got \[1\]"),
            (lambda content: content["rows"][0]["timing"].update(low="x"), r"rows\[0\].timing.low must be float"),
            (lambda content: content["rows"][0].update(peers={"A": 1}), r"rows\[0\].peers\['A'\] must be PeerResult"),
        ],
    )
    def test_a_file_that_is_no_report_is_refused(self, change: Any, message: str, path: Path) -> None:
        write_json(REPORTS[0], path)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        with pytest.raises(ReportError, match=f"'{path}' is not a report: {message}"):
            read_json(path)

    @pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"3", b"null"])
    def test_a_file_of_anything_is_refused(self, content: bytes, path: Path) -> None:
        path.write_bytes(content)
        with pytest.raises(ReportError, match="is not a report"):
            read_json(path)

    @pytest.mark.parametrize("original", REPORTS, ids=lambda report: report.benchmark)
    def test_csv_has_a_line_for_each_row(self, original: Report, path: Path) -> None:
        write_csv(original, path)
        lines = list(csv.DictReader(path.read_text().splitlines()))
        assert [line["problem"] for line in lines] == [row.problem for row in original.rows]
        for line, measured in zip(lines, original.rows, strict=True):
            assert line["seconds"] == (str(measured.timing.seconds) if measured.timing else "")
            for name, result in measured.peers.items():
                assert float(line[f"{name} speedup"]) == result.speedup

    def test_a_write_that_fails_leaves_what_was_there(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path.write_text("before")

        def fail(*_: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr("os.replace", fail)
        with pytest.raises(OSError, match="no space left"):
            write_file(path, b"after")
        assert path.read_text() == "before"
        assert list(path.parent.iterdir()) == [path]

    def test_an_output_that_cannot_be_written_is_found_before(self, tmp_path: Path) -> None:
        check_output(tmp_path / "new.json")
        with pytest.raises(OSError, match="is a folder"):
            check_output(tmp_path)
        with pytest.raises(OSError, match="does not exist"):
            check_output(tmp_path / "no" / "such")


def changed(old: Row, new: Row) -> str:
    return compare(report(old), report(new)).changes[0].verdict


class TestCompare:
    def test_a_report_is_the_same_as_itself(self) -> None:
        for original in REPORTS:
            assert {change.verdict for change in compare(original, original).changes} == {"same"}

    @pytest.mark.parametrize(
        ("seconds", "noise", "verdict"),
        [
            (0.0103, 0.02, "same"),  # within the intervals
            (0.0105, 0.02, "same"),  # beyond them by less than two processes differ
            (0.0110, 0.02, "slower"),
            (0.0090, 0.02, "faster"),
            (0.0110, 0.20, "same"),  # the same change, but noisy
        ],
    )
    def test_a_change_is_one_beyond_the_intervals(self, seconds: float, noise: float, verdict: str) -> None:
        assert changed(row(timing=timing(0.01, noise)), row(timing=timing(seconds, noise))) == verdict

    def test_a_slower_machine_is_not_a_slower_kernel(self) -> None:
        """Everything takes a quarter longer, the peer as well: measured in turns with it, nothing changed."""
        old = row(seconds=0.010, peers={"PyTorch": peer(0.012, 1.2)})
        assert changed(old, row(seconds=0.0125, peers={"PyTorch": peer(0.015, 1.2)})) == "same"
        assert changed(old, row(seconds=0.0125, peers={"PyTorch": peer(0.012, 0.96)})) == "slower"
        assert changed(old, row(seconds=0.0080, peers={"PyTorch": peer(0.012, 1.5)})) == "faster"

    def test_another_version_of_a_peer_is_no_yardstick(self) -> None:
        old = row(seconds=0.010, peers={"PyTorch": replace(peer(0.012, 1.2), version="PyTorch 1")})
        assert changed(old, row(seconds=0.0125, peers={"PyTorch": peer(0.015, 1.2)})) == "slower"

    def test_a_result_that_became_wrong_is_said(self) -> None:
        assert changed(row(), row(seconds=None)) == "wrong"
        assert changed(row(seconds=None), row()) == "right"
        assert changed(row(seconds=None), row(seconds=None)) == "same"

    def test_rows_match_by_what_they_measure(self) -> None:
        old = report(row(), row(threads=2), row(algorithm="winograd"))
        new = report(row(layer="another name"), row(threads=2), row(dtype="float64"), row(precision="high"))
        found = compare(old, new)
        assert (len(found.changes), found.only_old, found.only_new) == (2, 1, 2)
        assert summary(found) == "2 same, 1 only in the old report, 2 only in the new report"

    def test_reports_that_have_nothing_in_common_are_refused(self) -> None:
        with pytest.raises(ReportError, match="no row in common"):
            compare(report(row()), report(row(threads=2)))
        with pytest.raises(ReportError, match="different benchmarks, conv and pool"):
            compare(REPORTS[0], REPORTS[2])

    @pytest.mark.parametrize(("slowdown", "fails"), [(1.0, False), (1.06, False), (1.07, True), (2.0, True)])
    def test_a_kernel_fails_only_beyond_noise_and_threshold(self, slowdown: float, fails: bool) -> None:
        found = compare(report(row()), report(row(seconds=0.01 * slowdown)))
        assert found.changes[0].fails(0.05) == fails
        assert not found.changes[0].fails(1.5)

    def test_fails_says_nothing_of_what_is_noise(self) -> None:
        found: Comparison = compare(report(row(timing=timing(0.01, 0.5))), report(row(timing=timing(0.02, 0.5))))
        assert not found.changes[0].fails(0.05)


class TestPictures:
    @pytest.mark.parametrize(("original", "pictures"), list(zip(REPORTS, (2, 2, 1, 1), strict=True)))
    def test_a_report_is_drawn(self, original: Report, pictures: int, tmp_path: Path) -> None:
        written = plot(original, tmp_path / "bench.png")
        assert sorted(tmp_path.iterdir()) == sorted(written)
        assert len(written) == pictures
        for picture in written:
            height, width, _ = matplotlib.image.imread(picture).shape
            assert min(height, width) > 300

    @pytest.mark.parametrize("original", REPORTS, ids=lambda report: report.benchmark)
    def test_whiskers_begin_below_the_bar_and_end_above(self, original: Report) -> None:
        """The shortest time is the highest rate."""
        for measured in original.rows:
            if measured.timing:
                middle, low, high = _height(measured, measured.timing)
                assert low < middle < high

    def test_a_vector_format(self, tmp_path: Path) -> None:
        assert all("<svg" in picture.read_text() for picture in plot(REPORTS[0], tmp_path / "bench.svg"))

    def test_a_report_without_times_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ReportError, match="no row with a time to draw"):
            plot(report(row(seconds=None)), tmp_path / "bench.png")


class TestCommands:
    @pytest.fixture
    def files(self, tmp_path: Path) -> list[str]:
        """Reports before and after one kernel of nine was made slower by 30%."""
        old = REPORTS[0]
        rows = [replace(old.rows[0], timing=timing(0.013)), *old.rows[1:]]
        paths = [tmp_path / "old.json", tmp_path / "new.json"]
        for path, written in zip(paths, (old, report(*rows)), strict=True):
            write_json(written, path)
        return [str(path) for path in paths]

    def test_a_slowed_kernel_is_caught(self, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", "compare", *files, "--fail-over", "5%"]) == 1
        output = capsys.readouterr().out
        assert "1 slower, 8 same" in output
        assert "+30.0%" in output

    def test_without_a_threshold_slower_is_only_said(self, files: list[str]) -> None:
        assert main(["bench", "compare", *files]) == 0
        assert main(["bench", "compare", *files, "--fail-over", "40%"]) == 0
        assert main(["bench", "compare", *files[::-1], "--fail-over", "5%"]) == 0, "faster is no failure"

    def test_a_report_is_drawn(self, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        picture = Path(files[0]).with_name("picture.svg")
        assert main(["bench", "plot", files[0], "--out", str(picture)]) == 0
        assert "picture-roofline.svg" in capsys.readouterr().out
        assert picture.with_stem("picture-layers").exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["compare", "OLD", "/no/such.json"], "No such file or directory: '/no/such.json'"),
            (["compare", "OLD", __file__], "is not a report"),
            (["compare", "OLD", "POOL"], "the reports are of different benchmarks, conv and pool"),
            (["compare", "OLD", "OLD", "--fail-over", "much"], "must be a percentage such as 5%, got 'much'"),
            (["compare", "OLD", "OLD", "--fail-over=-5%"], "must be a percentage such as 5%, got '-5%'"),
            (["compare", "OLD", "OLD", "--fail-over", "nan"], "must be a percentage such as 5%, got 'nan'"),
            (["plot", "OLD", "--out", "a.doc"], "a picture's name must end in .png, .svg or .pdf, got 'a.doc'"),
            (["plot", "OLD", "--out", "/no/such/a.png"], "the folder of '/no/such/a.png' does not exist"),
        ],
    )
    def test_bad_input_is_one_line_and_exit_code_2(
        self, arguments: list[str], message: str, files: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        pool = Path(files[0]).with_name("pool.json")
        write_json(REPORTS[2], pool)
        names = {"OLD": files[0], "POOL": str(pool)}
        try:
            code = main(["bench", *(names.get(argument, argument) for argument in arguments)])
        except SystemExit as exit_:  # argparse
            code = exit_.code  # type: ignore[assignment]
        error = capsys.readouterr().err
        assert code == 2
        assert message in error.splitlines()[-1]
