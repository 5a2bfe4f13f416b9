"""A Python module as a child process that writes its results to stdout, one line each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from twinship.bench import BenchFailed


class Child:
    """A running child process; `stderr` goes to the log file."""

    def __init__(self, module: str, process: subprocess.Popen[str], log: Path) -> None:
        self._module = module
        self._process = process
        self._log = log

    def send(self, line: str) -> None:
        """Write one line to its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """The next line of its stdout. Raises BenchFailed with the last line of the log when it has ended."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        logged = self._log.read_text(errors="replace").strip().splitlines()
        raise BenchFailed(f"{self._module} ended: {logged[-1] if logged else 'its log is empty'}")


@contextmanager
def child(
    module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Start `python -m module arguments`; kill it at the end. `environment` is added to this process's."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
    try:
        yield Child(module, process, log)
    finally:
        process.kill()
        process.communicate()
