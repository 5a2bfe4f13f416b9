"""Memory, threads and processor time of processes, from /proc."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinship.bench import BenchFailed

_RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
_THREADS: Final = re.compile(r"^Threads:\s+(\d+)$", re.MULTILINE)
_PROPORTIONAL: Final = re.compile(r"^Pss:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """Resident memory, its proportional share (a page of n processes counts 1/n) and threads."""

    rss_mb: float
    pss_mb: float
    threads: int


def usage(pid: int) -> Usage | None:
    """What a process uses now; None for one that has ended."""
    folder = Path("/proc") / str(pid)
    try:
        status, rollup = (folder / "status").read_text(), (folder / "smaps_rollup").read_text()
    except OSError:
        return None
    rss, pss, threads = _RESIDENT.search(status), _PROPORTIONAL.search(rollup), _THREADS.search(status)
    if not (rss and pss and threads):
        return None  # a zombie has a status without memory
    return Usage(round(int(rss[1]) / 1024, 2), round(int(pss[1]) / 1024, 2), int(threads[1]))


def processor_s(pid: int) -> float:
    """Processor time of all threads of a process so far. Raises BenchFailed for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise BenchFailed(f"process {pid} has ended") from error
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)


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
