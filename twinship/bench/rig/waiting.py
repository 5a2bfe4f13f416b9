"""Wait for other processes, and read the files that they append to."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed

POLL_S: Final = 0.05


def until(
    condition: Callable[[], object],
    timeout_s: float,
    what: str,
    *,
    every_s: float = POLL_S,
    process: subprocess.Popen[Any] | None = None,
) -> None:
    """Wait until the condition holds. Raises BenchFailed after the time-out, or when `process` ends first."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if process is not None and process.poll() is not None:
            raise BenchFailed(f"the process ended with code {process.returncode} before {what}")
        if time.monotonic() > deadline:
            raise BenchFailed(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(every_s)


def quiet(changing: Callable[[], object], busy: Callable[[], object], for_s: float) -> Callable[[], bool]:
    """A condition for `until`: the first stays the same, and the second false, for so long."""
    before, since = changing(), time.monotonic()

    def holds() -> bool:
        nonlocal before, since
        if (now := changing()) != before or busy():
            before, since = now, time.monotonic()
        return time.monotonic() - since > for_s

    return holds


def whole_lines(path: Path) -> list[str]:
    """The complete lines of a file that another process appends to; [] if there is no file yet."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="replace") as file:  # a full disk can cut a character
        return [line for line in file if line.endswith("\n")]


def objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of the lines; a line that a full disk cut is left out."""
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found
