"""A side of a comparison, in an interpreter of its own: threads, allocators and settings of the sides never meet.

The program of a side is a Python source text that defines `version`, a string, and `ready(name)`, which returns the
callable to be timed. All sides are run in the same way, so that none is favoured by what else the process has loaded.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

# Calls come as lines of JSON, and so do answers. What a library prints goes to stderr, so that it cannot mix with them.
_LOOP = """
import json, os, sys, time
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
namespace = {}
def start(source):
    exec(source, namespace)
    return namespace["version"]
def seconds(name, repeats, warm):
    run = namespace["ready"](name)
    if warm:
        run()
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begin) / repeats
namespace["seconds"] = seconds
for line in sys.stdin:
    function, arguments = json.loads(line)
    try:
        answer = {"value": start(*arguments) if function == "start" else namespace[function](*arguments)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}".split(chr(10))[0]}
    print(json.dumps(answer), file=answers)
"""


class PeerError(ValueError):
    """A side did not start, ended, or could not do what was asked; the message is one line."""


class Peer:
    """One side of a comparison. `version` names it."""

    def __init__(self, source: str, python: str = sys.executable, environment: Mapping[str, str] | None = None) -> None:
        """source: the program; environment: variables on top of this process's own. Raises PeerError or OSError."""
        self._errors = tempfile.TemporaryFile("w+")
        try:
            self._process = subprocess.Popen(
                [python, "-c", _LOOP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=os.environ | dict(environment or {}),
            )
        except OSError:
            self._errors.close()
            raise
        self._python = python
        try:
            self.version = str(self.call("start", source))
        except BaseException:
            self.close()
            raise

    def call(self, function: str, *arguments: Any) -> Any:
        """What a function of the program returns, in JSON as the arguments are. Raises PeerError with its exception."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps([function, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:]
            raise PeerError(f"{self._python!r} ended: {' '.join(last) or self._process.wait()}")
        fields = json.loads(answer)
        if "error" in fields:
            raise PeerError(f"{self._python!r} did not run the workload: {fields['error']}")
        return fields["value"]

    def time(self, name: str = "", repeats: int = 1, warm: bool = False) -> float:
        """Seconds of one run of what `ready(name)` returns, the mean of several; `warm` runs it once before."""
        return float(self.call("seconds", name, repeats, warm))

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._errors.close()
