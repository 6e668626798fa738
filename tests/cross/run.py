"""The kernels for another processor, in an emulator: ``python tests/cross/run.py [--amx] [--short]``.

Compiles ``csrc/`` for aarch64 with the flags of setup.py, any warning being an error, together with check.c, which
compares what each algorithm computes with plain loops, and runs that under QEMU on the geometries of ``tests/cases.py``
and, unless ``--short``, on the larger ones of ``tests/test_kernels.py``. Before that, a run in which every result is
spoilt must find all of them wrong. With ``--amx`` it is compiled for this machine, with the functions of tiles.h in the
place of tile instructions, and only the algorithms that use those run. The exit status is 0 when all of that holds, 1
when it does not, and 77 when a tool is missing, which is said. On Debian the tools are in the packages
gcc-aarch64-linux-gnu and qemu-user; ``--amx`` needs gcc and a processor with AVX-512 and its bfloat16 extension. The
package itself must be installed on this machine, with what its tests need.
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from cases import CONV_CASES, POOL_CASES  # noqa: E402
from test_kernels import LARGE_CONV_CASES  # noqa: E402

from autograd import kernels  # noqa: E402
from autograd.geometry import conv2d_geometry, pool2d_geometry  # noqa: E402

MISSING = 77


class Target(NamedTuple):
    """What the kernels are compiled and run for."""

    compiler: str
    emulator: list[str]  # the command that runs a program
    flags: list[str]  # of the compiler, beside those of setup.py
    file_flags: dict[str, list[str]]  # those of one file, beside the common ones
    arguments: list[str]  # of check.c


def setup_flags() -> dict[str, Any]:
    """The constants of setup.py, which cannot be imported: COMMON_FLAGS and FILE_FLAGS."""
    assignments = [node for node in ast.parse((ROOT / "setup.py").read_text()).body if isinstance(node, ast.Assign)]
    values: dict[str, Any] = {}
    exec(compile(ast.Module(assignments, []), "setup.py", "exec"), values)
    return values


def aarch64() -> Target:
    return Target("aarch64-linux-gnu-gcc", ["qemu-aarch64"], [], {}, [])


def amx() -> Target:
    file_flags = setup_flags()["FILE_FLAGS"]
    file_flags["bf16_amx.c"] += ["-include", str(HERE / "tiles.h")]
    # Quick to compile; at this level that warning comes where vectors are filled lane by lane.
    return Target("gcc", [], ["-O1", "-Wno-maybe-uninitialized"], file_flags, ["direct_bf16"])


def build(target: Target, directory: Path) -> Path:
    """Compile everything into one static program."""
    flags = [*setup_flags()["COMMON_FLAGS"], *target.flags, "-Werror", "-pthread", f"-I{ROOT / 'csrc'}"]

    def compile_one(source: Path) -> Path:
        compiled = directory / f"{source.stem}.o"
        file_flags = target.file_flags.get(source.name, [])
        subprocess.run([target.compiler, *flags, *file_flags, "-c", str(source), "-o", str(compiled)], check=True)
        return compiled

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        objects = list(executor.map(compile_one, [*sorted((ROOT / "csrc").glob("*.c")), HERE / "check.c"]))
    program = directory / "check"
    subprocess.run([target.compiler, "-static", "-pthread", *map(str, objects), "-lm", "-o", str(program)], check=True)
    return program


def geometries(short: bool, pooling: bool) -> Iterator[str]:
    """The cases as check.c reads them: the members of the structs of api.h in their order."""
    for case in CONV_CASES + ([] if short else LARGE_CONV_CASES):
        g = conv2d_geometry("conv2d", *case[1:])
        before = [pair[0] for pair in g.padding]
        axes = [*g.input, *g.kernel, *g.output, *g.stride, *g.dilation, *before]
        yield " ".join(map(str, ["conv", g.batch, g.in_channels, g.out_channels, g.groups, *axes]))
    for case in POOL_CASES if pooling else []:
        p = pool2d_geometry("pool", *case[1:])
        axes = [*p.input, *p.kernel, *p.output, *p.stride, *p.dilation, *p.padding]
        yield " ".join(map(str, ["pool", p.batch, p.channels, *axes]))


def has_bfloat16_products() -> bool:
    geometry = conv2d_geometry("conv2d", (1, 2, 2, 2), (2, 2, 1, 1))
    return "direct_bf16" in kernels.explain("conv2d", geometry, np.float32).candidates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="without the larger geometries")
    parser.add_argument("--amx", action="store_true", help="AMX tiles in place of aarch64")
    arguments = parser.parse_args()
    target = amx() if arguments.amx else aarch64()
    missing = [tool for tool in (target.compiler, *target.emulator) if not shutil.which(tool)]
    if arguments.amx and not has_bfloat16_products():
        missing.append("a processor with products of bfloat16 numbers")
    if missing:
        print(f"skipped: missing: {', '.join(missing)}")
        return MISSING
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        command = [*target.emulator, str(build(target, Path(directory))), *target.arguments]
        every_sixth = "\n".join(list(geometries(short=True, pooling=not arguments.amx))[::6])
        spoilt = subprocess.run([*command, "spoil"], input=every_sixth, text=True, capture_output=True)
        if spoilt.returncode:
            print(f"spoilt results were taken for good (exit status {spoilt.returncode}):\n{spoilt.stdout}")
            return 1
        cases = "\n".join(geometries(arguments.short, pooling=not arguments.amx))
        status = subprocess.run(command, input=cases, text=True).returncode
    print(
        f"{'as expected' if status == 0 else f'failed with exit status {status}'}; {time.monotonic() - started:.0f} s"
    )
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
