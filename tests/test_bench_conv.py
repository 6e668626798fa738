"""`bench conv`: descriptors, suites, the gate, the interval of a median, and what each kind of bad input says.

Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import random
import re
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import reference as slow
from cases import CONV_CASES, ConvCase

from autograd import kernels
from autograd.__main__ import main
from autograd.bench import conv, peers
from autograd.bench.peer import Peer, PeerError
from autograd.bench.problem import MAPS, Problem
from autograd.bench.reference import (
    ERROR_BOUNDS,
    normal_operands,
    reference,
    relative_error,
    sign_operands,
    wrong_products,
)
from autograd.bench.sides import convgrad
from autograd.bench.suites import SUITES, Case, read_suite, suite
from autograd.bench.timing import Effort, median_interval
from autograd.geometry import conv2d_geometry

SMALL = "n2c3h8w7 k4r3 s1 p1"


class TestDescriptors:
    @pytest.mark.parametrize(
        ("text", "canonical"),
        [
            ("n8c64h56w56 k64r3 s1 p1", "n8c64h56w56 k64r3 s1 p1"),
            ("c64h56 k64r3", "n1c64h56w56 k64r3 s1 p0"),
            ("k32 r3x5 c32 h79 w341 s2x1 p0x2 n4", "n4c32h79w341 k32r3x5 s2x1 p0x2"),
            ("c32h14k32r3p2d2g32", "n1c32h14w14 k32r3 s1 p2 d2 g32"),
        ],
    )
    def test_parsing_and_printing(self, text: str, canonical: str) -> None:
        assert str(Problem.parse(text)) == canonical
        assert Problem.parse(canonical) == Problem.parse(text)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "c and h and k and r must be given"),
            ("c3h8k4", "r must be given"),
            ("c3h8k4r3 q7", "expected a field such as .* at 'q7'"),
            ("c3h8k4r", "expected a field such as .* at 'r'"),
            ("c3h8k4r3 c3", "c is given twice"),
            ("c3x3h8k4r3", "c must be one number, got 'c3x3'"),
            ("c3h8k4r3 g0", "n, c, h, w, k and g must be positive"),
            ("c3h8k4r3 s0", "stride must be positive"),
            ("c3h8k4r3 g2", "groups must divide the input channels"),
            ("c3h8k4r9", "the kernel is larger than the padded input"),
        ],
    )
    def test_a_bad_descriptor_says_what_is_wrong(self, text: str, says: str) -> None:
        with pytest.raises(ValueError, match=f"problem {text!r}: {says}"):
            Problem.parse(text)

    def test_flops_count_each_product_twice(self) -> None:
        assert Problem.parse("n2c6h5w4 k4r3x1 p1x0 g2").flops == 2 * (2 * 4 * 5 * 4) * (3 * 3 * 1)


class TestSuites:
    # Products of one image, in thousand millions, from the publications (MobileNet-v2 with 300 million, for example,
    # without its 1.3 million of the classifier).
    @pytest.mark.parametrize(
        ("name", "layers", "products"),
        [
            ("resnet50", 53, 4.09),
            ("vgg16", 13, 15.35),
            ("mobilenetv2", 52, 0.30),
            ("resnext50", 53, 4.23),
            ("resnet20", 21, 0.041),
            ("lenet5", 3, 0.0004),
        ],
    )
    def test_all_layers_are_there(self, name: str, layers: int, products: float) -> None:
        cases = suite(name)
        assert sum(case.count for case in cases) == layers
        assert len({case.problem for case in cases}) == len(cases)
        found = sum(case.count * case.problem.flops / case.problem.batch / 2e9 for case in cases)
        assert found == pytest.approx(products, rel=0.02)

    def test_deepbench_has_its_problems_once(self) -> None:
        assert len(suite("deepbench")) == 55
        assert all(case.count == 1 for case in suite("deepbench"))

    def test_a_text_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.txt"
        path.write_text(f"# comment\n\n{SMALL}  # twice\nc1h4k1r1\n{SMALL}\n")
        first, second = read_suite(path)
        assert (first.suite, first.layer, first.count, str(first.problem)) == ("mine", "line 3", 2, SMALL)
        assert second.count == 1
        path.write_text("c1h4k1r1\nnonsense\n")
        with pytest.raises(ValueError, match=r"mine\.txt, line 2: problem 'nonsense'"):
            read_suite(path)
        path.write_text("# nothing\n")
        with pytest.raises(ValueError, match="no problem in it"):
            read_suite(path)


class TestGate:
    @pytest.mark.parametrize("case", [case for case in CONV_CASES if "crop" not in case.id], ids=lambda case: case.id)
    def test_the_reference_agrees_with_the_slow_one(self, case: ConvCase) -> None:
        g = conv2d_geometry("test", *case[1:])
        for map_name in MAPS:
            first, second = normal_operands(map_name, g, "float64")
            bias = [None] if map_name == "conv2d" else []
            expected = getattr(slow, map_name)(first, second, *bias, g)
            np.testing.assert_allclose(reference(map_name, first, second, g), expected, rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("map_name", MAPS)
    @pytest.mark.parametrize("text", ["n2c5h9w8 k7r3 s2 p1", "c6h7 k6r3 p1 g6"])
    def test_right_results_pass(self, text: str, map_name: str) -> None:
        g = Problem.parse(text).geometry
        compute = getattr(kernels, map_name)
        bias = [None] if map_name == "conv2d" else []
        for dtype, bound in (("float32", ERROR_BOUNDS["highest"]), ("float64", ERROR_BOUNDS["float64"])):
            operands = normal_operands(map_name, g, dtype)
            assert relative_error(compute(*operands, *bias, g), reference(map_name, *operands, g)) < bound
            operands = sign_operands(map_name, g, dtype)
            assert not wrong_products(compute(*operands, *bias, g), reference(map_name, *operands, g))

    @pytest.mark.parametrize("map_name", MAPS)
    def test_one_missing_product_in_a_hundred_thousand_is_found(self, map_name: str) -> None:
        """Too small a fault for the bound of bfloat16 operands, which is why there is a second set of operands."""
        g = Problem.parse("n4c64h14 k64r3 p1").geometry
        operands = sign_operands(map_name, g, "float32")
        exact = reference(map_name, *operands, g)
        broken = exact.astype(np.float32)
        broken[-1, -1, -1, -1] -= 1
        assert relative_error(broken, exact) < 2 * ERROR_BOUNDS["medium"]
        assert wrong_products(broken, exact)
        assert not wrong_products(exact.astype(np.float32), exact)

    def test_nan_and_another_shape_never_pass(self) -> None:
        exact = np.ones((1, 2, 3, 4))
        broken = exact.copy()
        broken[0, 1, 2, 3] = np.nan
        assert wrong_products(broken, exact)
        assert not relative_error(broken, exact) <= 1
        with pytest.raises(ValueError, match="shape"):
            relative_error(exact[:, :1], exact)


def test_the_interval_of_a_median_covers_it_as_often_as_it_says() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(2000):
        median, low, high = median_interval([rng.expovariate(1) for _ in range(15)], 0.9)
        assert low <= median <= high
        covered += low <= 0.6931 <= high  # the median of that distribution, log 2
    assert 0.89 < covered / 2000 < 0.98


class TestCommand:
    def test_a_row_without_peers(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [SMALL, "--peers", "none", "--rounds", "9", "--seconds", "0.01", "--algorithm", "all"]
        assert main(["bench", "conv", *arguments]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert sum(line.startswith(SMALL) for line in lines) >= len(MAPS)

    def test_the_automatic_choice_is_known_whatever_ran_before(self) -> None:
        """Of two problems in a row, all algorithms of the first have been run before the second is asked about."""
        cases = [Case("", "", 1, Problem.parse(text)) for text in ("c32h8k32r3p1", "c32h9k32r3p1")]
        effort = Effort(seconds=0.01)
        settings = conv.Settings(algorithm="all", effort=effort, threads=[kernels.get_num_threads()])
        rows = conv.ConvBenchmark(cases, settings).run()
        assert any(not row.automatic for row in rows)
        for case in cases:
            for map_name in MAPS:
                ours = [row for row in rows if (row.problem, row.map) == (str(case.problem), map_name)]
                explanation = kernels.explain(map_name, case.problem.geometry, "float32")
                assert [row.algorithm for row in ours if row.automatic] == [explanation.algorithm]
                assert [row.reason for row in ours if row.automatic] == [explanation.reason]
                assert len({row.algorithm for row in ours}) == len(ours)

    def test_denormals_and_a_matrix_product(self, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = [SMALL, "--peers", "none", "--rounds", "6", "--seconds", "0.01", "--denormals", "--product"]
        assert main(["bench", "conv", *arguments, "--map", "conv2d"]) == 0
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(SMALL))
        assert re.search(r"denormals x[0-9.]+ with @ x[0-9.]+", row)

    @pytest.mark.parametrize(
        ("variant", "shapes"),
        [
            ({"product": 0, "alone": False}, (2, 4, 8, 7)),
            ({"product": 5, "alone": True}, (5, 5)),
            ({"product": 5, "alone": False}, [(2, 4, 8, 7), (5, 5)]),
        ],
    )
    def test_a_workload_with_a_product(self, variant: dict[str, object], shapes: object, tmp_path: Path) -> None:
        g = Problem.parse(SMALL).geometry
        paths = []
        for n, operand in enumerate(normal_operands("conv2d", g, "float32")):
            paths.append(str(tmp_path / f"{n}.npy"))
            np.save(paths[-1], operand)
        rest = {"precision": "highest", "algorithm": "", "denormals": False}
        result = convgrad.workload("conv2d", asdict(g), paths, variant | rest)()
        assert ([one.shape for one in result] if isinstance(result, tuple) else result.shape) == shapes

    @pytest.mark.parametrize("fault", ["y.flat[-1] += 1", "y[...] = y * (1 + 1e-4)", "y[0, 0, 0, 0] = float('nan')"])
    def test_a_broken_kernel_is_caught_and_not_timed(
        self, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        program = f"""
from autograd.bench.sides.convgrad import *
def result(run):
    y = run().copy()
    {fault}
    return y
"""

        def broken_side(stack: ExitStack, _program: str, isa: str, threads: int, memory: str) -> Peer:
            side = Peer(program)
            stack.callback(side.close)
            return side

        monkeypatch.setattr(conv, "our_side", broken_side)
        assert main(["bench", "conv", SMALL, "--map", "conv2d", "--peers", "none"]) == 1
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(SMALL))
        assert "WRONG" in row
        assert " us " not in row

    def test_a_missing_peer_is_a_note(self) -> None:
        def nothing_found(
            stack: ExitStack, program: str, python: str, isa: str, threads: int, memory: str, variables: object
        ) -> Peer:
            raise PeerError("no module named 'jax'")

        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            patch.setattr(peers, "_start", nothing_found)
            found, notes = peers.peer_sides(stack, [peers.KINDS["jax"]], [], kernels.isa(), 1, "reused")
        assert not found
        assert notes == ["JAX was not found (pip install jax): no module named 'jax'"]

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "name a PROBLEM, a --suite or a --file"),
            (["--suite", "resnet51"], f"suite must be one of {', '.join(SUITES)}, got 'resnet51'"),
            (["--file", "/no/such/file"], "/no/such/file"),
            ([SMALL, "--algorithm", "magic"], "got 'magic'"),
            ([SMALL, "--confidence", "2"], "--confidence must be between 0 and 1, got 2.0"),
            (["h8"], "problem 'h8': c and k and r must be given"),
            ([SMALL, "--batch", "0"], "--batch must be positive, got '0'"),
            ([SMALL, "--threads", "1,x"], "--threads must be positive, got 'x'"),
            ([SMALL, "--map", "conv3d"], f"--map must be of {', '.join(MAPS)}, got 'conv3d'"),
            ([SMALL, "--isa", "avx1024"], "got 'avx1024'"),
            ([SMALL, "--peers", "caffe"], "got 'caffe'"),
            ([SMALL, "--peer-python", "/no/such/python"], "/no/such/python"),
            (["n9999c512h224 k512r3"], "GiB are available: use a smaller --batch"),
        ],
    )
    def test_bad_input_is_one_line_and_exit_code_2(
        self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["bench", "conv", *arguments]) == 2
        captured = capsys.readouterr()
        assert says in captured.err
        assert captured.err.count("\n") == 1
        assert not captured.out
