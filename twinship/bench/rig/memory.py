"""Resident memory of processes, from /proc."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from twinship.bench import BenchFailed

_RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MiB; 0 for a process that has ended."""
    try:
        found = _RESIDENT.search(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def child_pid(module: str) -> int:
    """The child of this process that runs `python -m module`. Raises BenchFailed if there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it ended just now
        if parent == os.getpid() and f"-m\0{module}\0".encode() in command:
            return int(process.name)
    raise BenchFailed(f"no process runs {module}")
