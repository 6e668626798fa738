"""Declares the compiled extension; everything else about the project is in pyproject.toml.

Each instruction set has a C file of its own, and only that file is compiled for it, so that one build runs on every
processor of the architecture. The package never uses -march=native (the build would crash elsewhere) or -ffast-math (on
the link line it switches denormals off for the whole process).
"""

from __future__ import annotations

from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

COMMON_FLAGS = ["-O3", "-std=gnu11", "-fvisibility=hidden", "-Wall", "-Wextra"]
AVX512_FLAGS = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"]
FILE_FLAGS = {
    "ukernel_avx2.c": ["-mavx2", "-mfma"],
    "ukernel_avx512.c": AVX512_FLAGS,
    "bf16_avx512.c": [*AVX512_FLAGS, "-mavx512bf16"],
    "bf16_amx.c": [*AVX512_FLAGS, "-mamx-tile", "-mamx-bf16"],
}


class BuildKernels(build_ext):
    """Compiles each file with the flags of its instruction set."""

    def build_extension(self, ext: Any) -> None:
        compile_one = self.compiler._compile
        x86 = "x86_64" in self.plat_name or "amd64" in self.plat_name

        def compile_with_flags(obj: str, src: str, ext_: str, cc_args: Any, postargs: Any, pp_opts: Any) -> None:
            name = src.replace("\\", "/").rsplit("/", 1)[-1]
            flags = FILE_FLAGS.get(name, []) if x86 else []
            compile_one(obj, src, ext_, cc_args, [*postargs, *COMMON_FLAGS, *flags], pp_opts)

        self.compiler._compile = compile_with_flags
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one


setup(
    cffi_modules=["csrc/build.py:ffibuilder"],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
