"""The cffi builder of ``autograd._kernels``: api.h is both the C header and the declarations that Python sees."""

from pathlib import Path

from cffi import FFI

SOURCES = Path(__file__).parent
# setuptools wants paths relative to the project's root.
C_FILES = [f"csrc/{path.name}" for path in sorted(SOURCES.glob("*.c"))]
# What the C files are rebuilt for when it changes; source distributions contain it, too.
DEPENDENCIES = [f"csrc/{path.name}" for suffix in ("h", "inc", "py") for path in sorted(SOURCES.glob(f"*.{suffix}"))]

ffibuilder = FFI()
ffibuilder.cdef((SOURCES / "api.h").read_text())
ffibuilder.set_source(
    "autograd._kernels",
    '#include <stdint.h>\n#include "api.h"\n',
    sources=C_FILES,
    depends=DEPENDENCIES,
    include_dirs=["csrc"],
    libraries=["pthread"],
    py_limited_api=True,
)
