"""The kernels for another processor, cross-compiled and run in an emulator: ``python tests/cross/run.py [--short]``.

Compiles ``csrc/`` for aarch64 with the flags of setup.py, any warning being an error, together with check.c, which
compares what each algorithm computes with plain loops, and runs that under QEMU on the geometries of ``tests/cases.py``
and, unless ``--short``, on the larger ones of ``tests/test_kernels.py``. Before that, a run in which every result is
spoilt must find all of them wrong. The exit status is 0 when all of that holds, 1 when it does not, and 77 when a tool
is missing, which is said. On Debian the tools are in the packages gcc-aarch64-linux-gnu and qemu-user. The package
itself must be installed on this machine, with what its tests need.
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

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from cases import CONV_CASES, POOL_CASES  # noqa: E402
from test_kernels import LARGE_CONV_CASES  # noqa: E402

from autograd.geometry import conv2d_geometry, pool2d_geometry  # noqa: E402

COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
MISSING = 77


def common_flags() -> list[str]:
    """The value of ``COMMON_FLAGS`` in setup.py, which cannot be imported."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMON_FLAGS":
            return list(ast.literal_eval(node.value))
    raise LookupError("setup.py has no COMMON_FLAGS")


def build(directory: Path) -> Path:
    """Compile everything into one static program."""
    flags = [*common_flags(), "-Werror", "-pthread", f"-I{ROOT / 'csrc'}"]

    def compile_one(source: Path) -> Path:
        target = directory / f"{source.stem}.o"
        subprocess.run([COMPILER, *flags, "-c", str(source), "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        objects = list(executor.map(compile_one, [*sorted((ROOT / "csrc").glob("*.c")), HERE / "check.c"]))
    program = directory / "check"
    subprocess.run([COMPILER, "-static", "-pthread", *map(str, objects), "-lm", "-o", str(program)], check=True)
    return program


def geometries(short: bool) -> Iterator[str]:
    """The cases as check.c reads them: the members of the structs of api.h in their order."""
    for case in CONV_CASES + ([] if short else LARGE_CONV_CASES):
        g = conv2d_geometry("conv2d", *case[1:])
        before = [pair[0] for pair in g.padding]
        axes = [*g.input, *g.kernel, *g.output, *g.stride, *g.dilation, *before]
        yield " ".join(map(str, ["conv", g.batch, g.in_channels, g.out_channels, g.groups, *axes]))
    for case in POOL_CASES:
        p = pool2d_geometry("pool", *case[1:])
        axes = [*p.input, *p.kernel, *p.output, *p.stride, *p.dilation, *p.padding]
        yield " ".join(map(str, ["pool", p.batch, p.channels, *axes]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="without the larger geometries")
    short = parser.parse_args().short
    missing = [tool for tool in (COMPILER, EMULATOR) if not shutil.which(tool)]
    if missing:
        print(f"skipped: not installed: {', '.join(missing)}")
        return MISSING
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        command = [EMULATOR, str(build(Path(directory)))]
        every_sixth = "\n".join(list(geometries(short=True))[::6])
        spoilt = subprocess.run([*command, "spoil"], input=every_sixth, text=True, capture_output=True)
        if spoilt.returncode:
            print(f"spoilt results were taken for good (exit status {spoilt.returncode}):\n{spoilt.stdout}")
            return 1
        status = subprocess.run(command, input="\n".join(geometries(short)), text=True).returncode
    print(
        f"{'as expected' if status == 0 else f'failed with exit status {status}'}; {time.monotonic() - started:.0f} s"
    )
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
