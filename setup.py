"""Declares the compiled extension; everything else about the project is in pyproject.toml.

Each instruction set has a C file of its own, and only that file is compiled for it, so that one build runs on every
processor of the architecture. The package never uses -march=native (the build would crash elsewhere) or -ffast-math (on
the link line it switches denormals off for the whole process). Files of inner loops take a minute each, so that files
are compiled side by side, and without the debugging information that Python's own flags ask for.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

COMMON_FLAGS = ["-O3", "-g0", "-std=gnu11", "-fvisibility=hidden", "-Wall", "-Wextra"]
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
        compiler = self.compiler
        compile_one = compiler._compile
        x86 = "x86_64" in self.plat_name or "amd64" in self.plat_name

        def compile_with_flags(obj: str, src: str, ext_: str, cc_args: Any, postargs: Any, pp_opts: Any) -> None:
            name = src.replace("\\", "/").rsplit("/", 1)[-1]
            flags = FILE_FLAGS.get(name, []) if x86 else []
            compile_one(obj, src, ext_, cc_args, [*postargs, *COMMON_FLAGS, *flags], pp_opts)

        def compile_side_by_side(
            sources: Any,
            output_dir: Any = None,
            macros: Any = None,
            include_dirs: Any = None,
            debug: Any = False,
            extra_preargs: Any = None,
            extra_postargs: Any = None,
            depends: Any = None,
        ) -> Any:
            _, objects, postargs, pp_opts, build = compiler._setup_compile(
                output_dir, macros, include_dirs, sources, depends, extra_postargs
            )
            cc_args = compiler._get_cc_args(pp_opts, debug, extra_preargs)
            longest_first = sorted(objects, key=lambda obj: "ukernel" not in obj)
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(lambda o: compile_with_flags(o, *build[o], cc_args, postargs, pp_opts), longest_first))
            return objects

        compiler.compile = compile_side_by_side
        super().build_extension(ext)


setup(
    cffi_modules=["csrc/build.py:ffibuilder"],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
