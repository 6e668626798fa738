"""The kernel tests under a sanitizer: ``python tests/sanitize/run.py [--short] asan tsan valgrind``.

For each tool named, the package is built anew in a temporary directory, with the planted faults of faults.c compiled
into the extension. First every planted fault must be reported and a faultless run must not; then the tests run, and
nothing may be reported. No report is suppressed. The exit status is 0 when all of that holds, 1 when it does not, and
77 when this machine lacks a tool, which is said.

``asan`` is AddressSanitizer with UndefinedBehaviorSanitizer, ``tsan`` ThreadSanitizer, both of GCC; ``valgrind`` is
memcheck, the only one that sees the use of uninitialised memory.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILT_FROM = ["autograd", "csrc", "LICENSE", "README.md", "pyproject.toml", "setup.py"]
TESTS = ["tests/test_kernels.py", "tests/test_conv.py", "tests/test_pool.py"]
MISSING = 77

# Python's own flags contain -fwrapv and -DNDEBUG: with them signed overflow is defined and assertions are off.
FLAGS = "-O1 -g -fno-omit-frame-pointer -fno-wrapv -UNDEBUG"

# What a tool must say of each fault: the kind of report and, for a fault in C, the function.
KERNEL_ARRAYS = ["conv2d:x", "conv2d:weight", "conv2d:y", "workspace", "max_pool2d:x", "max_pool2d:y"]
# A vector that begins inside the array and ends outside is a crash of unknown kind.
OUT_OF_BOUNDS = dict.fromkeys(KERNEL_ARRAYS, "heap-buffer-overflow|unknown-crash")
INVALID_ACCESS = dict.fromkeys(KERNEL_ARRAYS, "InvalidRead|InvalidWrite")


class Missing(Exception):
    """This machine lacks what a tool needs."""


def sanitizer_reports(directory: Path) -> list[str]:
    """The reports of GCC's sanitizers, each by its summary line; UndefinedBehaviorSanitizer knows only stderr."""
    text = "\n".join(path.read_text(errors="replace") for path in sorted(directory.iterdir()))
    return re.findall(r"^SUMMARY: \w+Sanitizer: (.*)$", text, re.MULTILINE)


def valgrind_reports(directory: Path) -> list[str]:
    """The reports of valgrind with a function of the extension on the stack: the interpreter has its own.

    In XML it also reports what was never freed, which is not a fault of a process that ends.
    """
    reports = []
    for path in sorted(directory.glob("*.xml")):
        try:
            errors = ElementTree.parse(path).iter("error")
        except ElementTree.ParseError:
            reports.append("valgrind itself was ended before it could report")
            continue
        for error in errors:
            ours = [frame for frame in error.iter("frame") if "_kernels." in frame.findtext("obj", "")]
            kind = error.findtext("kind", "")
            if ours and not kind.startswith("Leak_"):
                reports.append(f"{kind} in {ours[0].findtext('fn')}")
    return reports


@dataclass(frozen=True)
class Tool:
    """How to build for a tool, how to run Python under it, what it must find, and what is run under it."""

    reports: Callable[[Path], list[str]]
    faults: dict[str, str]
    flags: str = ""
    loop_flags: str = ""  # on top of these, for the inner loops
    preload: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    selection: str = ""  # the tests run, as an argument of pytest's -k
    short: str = ""  # the same with --short


TOOLS = {
    "asan": Tool(
        reports=sanitizer_reports,
        flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined",
        # Checks of every pointer, which take minutes to compile there and see little that AddressSanitizer does not.
        loop_flags="-fno-sanitize=null,object-size,pointer-overflow",
        preload=("libasan.so", "libubsan.so"),
        environment={
            # Python does not free everything at its end, and tests ask for more memory than there is.
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:allocator_may_return_null=1:log_path={reports}/asan",
            "UBSAN_OPTIONS": "print_summary=1:report_error_type=1",
        },
        faults={
            "read_past_end": "heap-buffer-overflow .* in read_past_end",
            "write_past_end": "heap-buffer-overflow .* in write_past_end",
            "read_after_free": "heap-use-after-free .* in read_after_free",
            "signed_overflow": "signed-integer-overflow .*faults.c",
            "shift_too_far": "invalid-shift-exponent .*faults.c",
            "misaligned_read": "misaligned-pointer-use .*faults.c",
            **OUT_OF_BOUNDS,
        },
        short="not deep and not far and not 3x3_1 and not float64 and not adjoint and not order and not threads"
        " and not isa_cap",
    ),
    "tsan": Tool(
        reports=sanitizer_reports,
        flags="-fsanitize=thread",
        preload=("libtsan.so",),
        # A forked child may start threads of its own, as the library promises.
        environment={
            "TSAN_OPTIONS": "die_after_fork=0:log_path={reports}/tsan",
            "AUTOGRAD_NUM_THREADS": "2",  # on a single processor, too
        },
        faults={"race_in_pool": "data race .* in add_one", "shared_result": "data race"},
        short="(threads or fork or splitting) and not number_of_threads and not far",
    ),
    "valgrind": Tool(
        reports=valgrind_reports,
        command=(
            "valgrind",
            "--quiet",
            "--partial-loads-ok=no",  # else a vector that is only partly inside its array passes
            "--trace-children=yes",
            "--child-silent-after-fork=yes",  # XML has room for one process
            "--xml=yes",
            "--xml-file={reports}/%p.xml",
        ),
        faults={
            "read_past_end": "InvalidRead in read_past_end",
            "write_past_end": "InvalidWrite in write_past_end",
            "read_after_free": "InvalidRead in read_after_free",
            "branch_on_uninitialised": "UninitCondition in branch_on_uninitialised",
            **INVALID_ACCESS,
        },
        # Valgrind runs one thread at a time: how threads share work is left to ThreadSanitizer.
        # It ignores the processor's mode in which denormals count as zero, and has no room itself when a test limits
        # the address space.
        selection="not threads_and_repetition and not splitting and not two_python_threads and not denormals"
        " and not fewer_threads",
        short="test_conv_maps and odd-channels",
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What came of running Python under a tool; the reports are of its child processes, too."""

    status: int
    output: str
    errors: str
    reports: list[str]


class Campaign:
    """One tool on one build, in a directory that its caller removes."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.tool = TOOLS[name]
        self.package = directory / "package"
        self.logs = directory / "logs"
        self.directory = directory
        for needed in (self.package, self.logs):
            needed.mkdir()
        # Addresses that are randomised too widely leave GCC 12's sanitizers no room; containers may forbid the change.
        fixed = ["setarch", "-R"]
        may_fix = shutil.which(fixed[0]) and subprocess.run([*fixed, "true"], capture_output=True).returncode == 0
        self.prefix = fixed if may_fix else []

    def say(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)

    def require(self) -> None:
        """Raise ``Missing`` unless the tool is here and starts Python."""
        for program in ("gcc", *self.tool.command[:1]):
            if not shutil.which(program):
                raise Missing(f"{program} is not installed")
        for library in self.tool.preload:
            if not Path(self.library(library)).is_absolute():
                raise Missing(f"GCC has no {library}")
        outcome = self.python("-c", "")
        if outcome.status:
            raise Missing(f"Python does not start under it: {outcome.errors.strip() or outcome.status}")

    @staticmethod
    def library(name: str) -> str:
        """The path of one of GCC's libraries, or ``name`` itself if there is none."""
        return subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip()

    def build(self) -> None:
        """Install a copy of the package, with faults.c and the tool's flags, and the tests beside it."""
        source = self.directory / "source"
        source.mkdir()
        for name in BUILT_FROM:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
            else:
                shutil.copy(ROOT / name, source)
        shutil.copy(HERE / "faults.c", source / "csrc")
        # A compiler that adds the flags after all others, so that setup.py's cannot win over them.
        compiler = self.directory / "cc"
        flags = f"{FLAGS} {self.tool.flags}"
        loops = f'case "$*" in *ukernel_*.c*) exec gcc "$@" {flags} {self.tool.loop_flags};; esac'
        compiler.write_text(f'#!/bin/sh\n{loops}\nexec gcc "$@" {flags}\n')
        compiler.chmod(0o755)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        environment = {**os.environ, "CC": str(compiler)}
        subprocess.run([*install, "--target", str(self.package), str(source)], env=environment, check=True)
        shutil.copytree(ROOT / "tests", self.package / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.package)

    def python(self, *arguments: str, show: bool = False) -> Outcome:
        """Run Python under the tool; ``show`` its output instead of keeping it."""
        reports = Path(tempfile.mkdtemp(dir=self.logs))
        environment = {
            "PYTHONMALLOC": "malloc",  # Python's own allocator hides where a block ends
            "PYTHONPATH": f"{self.package}:{self.package / 'tests' / 'sanitize'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AUTOGRAD_CACHE_LIMIT": "0",  # memory.py maps large arrays itself, where no tool sees their ends
            # A thread's scratch ends the workspace, so that an overrun is seen; tests of threads set their number.
            "AUTOGRAD_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        environment |= {key: value.format(reports=reports) for key, value in self.tool.environment.items()}
        if self.tool.preload:
            environment["LD_PRELOAD"] = ":".join(map(self.library, self.tool.preload))
        command = [part.format(reports=reports) for part in self.tool.command]
        errors = reports / "stderr"
        with errors.open("w") as stderr:
            process = subprocess.run(
                [*self.prefix, *command, sys.executable, *arguments],
                env={**os.environ, **environment},
                cwd=self.package,
                stdout=None if show else subprocess.PIPE,
                stderr=stderr,
                text=True,
                check=False,
            )
        text = errors.read_text(errors="replace")
        return Outcome(process.returncode, process.stdout or "", text, self.tool.reports(reports))

    def catches_faults(self) -> bool:
        """Whether each planted fault is reported, on every instruction set, and nothing is without a fault."""
        driver = str(HERE / "faults.py")
        faultless = self.python(driver, "none")
        if faultless.status or faultless.reports:
            self.say(f"a faultless run failed or was reported: {faultless.reports}\n{faultless.errors}")
            return False
        isas = faultless.output.split()
        faults = [(f, isa) for f in self.tool.faults for isa in (isas if f in KERNEL_ARRAYS else isas[:1])]
        missed = []
        for fault, isa in faults:
            reports = self.python(driver, fault, isa).reports
            if not any(re.search(self.tool.faults[fault], report) for report in reports):
                missed.append(f"{fault} on {isa}: {reports}")
        caught = len(faults) - len(missed)
        self.say("\n  ".join([f"planted faults caught: {caught} of {len(faults)} (on {', '.join(isas)})", *missed]))
        return not missed

    def passes_tests(self, short: bool) -> bool:
        """Whether the tests pass without a report."""
        results = self.directory / "results.xml"
        selection = self.tool.short if short else self.tool.selection
        started = time.monotonic()
        # Without capturing, since a report may end the process and take with it what was captured.
        pytest = ("-m", "pytest", "--capture=no", "-p", "no:cacheprovider", "-p", "exact", f"--junitxml={results}")
        outcome = self.python(*pytest, "-k", selection, *TESTS, show=True)
        if not results.exists():
            self.say(f"the tests did not end: exit status {outcome.status}, {outcome.reports}\n{outcome.errors}")
            return False
        suite = ElementTree.parse(results).getroot()[0].attrib
        failed = int(suite["failures"]) + int(suite["errors"])
        cases = f"{suite['tests']} cases, {suite['skipped']} skipped, {failed} failed"
        seconds = time.monotonic() - started
        lines = [f"{cases}; {len(outcome.reports)} reports, 0 suppressions; {seconds:.0f} s", *outcome.reports]
        self.say("\n  ".join(lines))
        return outcome.status == 0 and not outcome.reports

    def run(self, short: bool) -> bool:
        self.require()
        self.build()
        return self.catches_faults() and self.passes_tests(short)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="+", choices=TOOLS)
    parser.add_argument("--short", action="store_true", help="a part of the tests, chosen by time")
    arguments = parser.parse_args()
    status = 0
    for name in arguments.tools:
        with tempfile.TemporaryDirectory() as directory:
            campaign = Campaign(name, Path(directory))
            try:
                if not campaign.run(arguments.short):
                    status = 1
            except Missing as reason:
                campaign.say(f"skipped: {reason}")
                status = status or MISSING
    return status


if __name__ == "__main__":
    sys.exit(main())
