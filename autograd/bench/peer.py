"""A side of a comparison, in an interpreter of its own: threads, allocators and settings of the sides never meet.

The program of a side is a Python source text. It defines

- `version`, a string,
- `workload(*arguments)`, which returns a callable to be timed,
- `ready(run)`, if anything must be set before such a callable is timed,
- `result(run)`, if results are compared: calls it once and returns what it computes as a NumPy array,

and whatever else is to be called. All sides are run in the same way, so that none is favoured by what else the process
has loaded.
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
side, workloads = {}, {}

def start(source, processors):
    if processors:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
    exec(source, side)
    return side["version"]

def prepare(name, *arguments):
    workloads[name] = side["workload"](*arguments)

def forget(name):
    workloads.pop(name, None)

def ready(name):
    side.get("ready", bool)(workloads[name])
    return workloads[name]

def seconds(name, repeats, warm):
    run = ready(name)
    if warm:
        run()
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - begin) / repeats

def save(name, path):
    import numpy
    numpy.save(path, side["result"](ready(name)))

own = {function.__name__: function for function in (start, prepare, forget, seconds, save)}
for line in sys.stdin:
    function, arguments = json.loads(line)
    try:
        answer = {"value": (own.get(function) or side[function])(*arguments)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    print(json.dumps(answer), file=answers)
"""


class PeerError(ValueError):
    """A side did not start, ended, or could not do what was asked; the message is one line."""


class Peer:
    """One side of a comparison. `version` names it."""

    def __init__(
        self,
        source: str,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
        processors: int | None = None,
    ) -> None:
        """source: the program; environment: variables on top of this process's own; processors: how many of those that
        this process may use the side may use. Raises PeerError if the program does not start, OSError if `python` does
        not.
        """
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
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
            self.version = str(self.call("start", source, processors))
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

    def prepare(self, name: str, *arguments: Any) -> None:
        """Makes what `workload(*arguments)` returns known by `name`."""
        self.call("prepare", name, *arguments)

    def time(self, name: str, repeats: int = 1, warm: bool = False) -> float:
        """Seconds of one run of a workload, the mean of several; `warm` runs it once before, untimed."""
        return float(self.call("seconds", name, repeats, warm))

    def save(self, name: str, path: str) -> None:
        """Runs a workload once and saves its result with `numpy.save`."""
        self.call("save", name, path)

    def forget(self, name: str) -> None:
        """Frees a workload, if there is one of that name."""
        self.call("forget", name)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._errors.close()
