"""A peer in an interpreter of its own, which runs one named workload each time it is asked and answers with the time.

The workload is a Python source text that defines `run()`; both sides get theirs in the same way, so that neither is
favoured by what else the process has loaded.
"""

from __future__ import annotations

import subprocess
import sys

_LOOP = """
import sys, time
source = sys.stdin.readline()
namespace = {}
exec(eval(source), namespace)
print(namespace["version"], flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    namespace["run"]()
    print(time.perf_counter() - start, flush=True)
"""


class Peer:
    """One side of a comparison. `version` names it; `time()` runs its workload once and returns seconds."""

    def __init__(self, source: str, python: str = sys.executable) -> None:
        """source: a program that defines `version`, a string, and `run()`. Raises ValueError if it does not start."""
        self._process = subprocess.Popen(
            [python, "-c", _LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            self.version = self._ask(repr(source))
        except (OSError, ValueError):
            self.close()
            raise

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        if not answer:
            reason = self._process.stderr.read().strip().splitlines()[-1:]
            raise ValueError(f"{self._process.args[0]!r} did not run the workload: {' '.join(reason)}")  # type: ignore[index]
        return answer

    def time(self) -> float:
        """Seconds of one run."""
        return float(self._ask("run"))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
