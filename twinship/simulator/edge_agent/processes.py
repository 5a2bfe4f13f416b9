"""Which processes this simulator has started, kept in a file: the next one ends what a kill left behind.

A process is known by pid, start time and boot: a pid that was given to somebody else is never signalled.
Starts nothing itself (supervisor.py does).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RECORD = "processes.json"
LOCK = "agent.lock"
KILLED_WITHIN_S = 5.0


class FolderInUse(Exception):
    """Another simulator runs in this folder; one line with the cure."""


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for another. `started`: clock ticks since the boot."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now; None when there is none, or when it is a zombie."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *numbers = text.rpartition(")")[2].split()  # the name in parentheses may hold anything
        if state in ("Z", "X"):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid, int(numbers[18]), boot)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self


class ProcessRecord:
    """The file in the simulator's folder; written at each change, replaced at once."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD
        self._processes: dict[str, ProcessId] = {}
        self._folders: list[str] = []

    def keep_folder(self, folder: Path) -> None:
        """A folder elsewhere that must go when this simulator is gone."""
        self._folders.append(str(folder))
        self._write()

    def started(self, name: str, process: ProcessId) -> None:
        """A process was started under this name."""
        self._processes[name] = process
        self._write()

    def ended(self, name: str) -> None:
        """The process of this name is no more."""
        if self._processes.pop(name, None) is not None:
            self._write()

    def clear(self) -> None:
        """Everything has ended in order."""
        self._path.unlink(missing_ok=True)

    def reap(self) -> list[str]:
        """End what a killed predecessor left and remove its folders. Returns the names of what still ran."""
        try:
            left = json.loads(self._path.read_text(encoding="utf-8"))
            processes = {name: ProcessId(**kept) for name, kept in left["processes"].items()}
            folders = [str(folder) for folder in left["folders"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError):
            processes, folders = {}, []  # not written by us: nothing to go by
        reaped = kill_all(processes)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        self.clear()
        return reaped

    def _write(self) -> None:
        processes = {name: asdict(process) for name, process in self._processes.items()}
        kept = {"processes": processes, "folders": self._folders}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(kept), encoding="utf-8")
        os.replace(temporary, self._path)


def kill_all(processes: Mapping[str, ProcessId]) -> list[str]:
    """SIGKILL those that still run, with their groups, and wait until they are gone. Returns their names."""
    alive = {name: process for name, process in processes.items() if process.alive}
    for process in alive.values():
        kill_group(process.pid)
    deadline = time.monotonic() + KILLED_WITHIN_S
    while any(process.alive for process in alive.values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return sorted(alive)


def kill_group(pid: int) -> None:
    """SIGKILL a process that leads its own group, and whatever it started in it."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def lock_folder(folder: Path) -> int:
    """Hold the folder for this process; returns the open file, to be closed at last. Raises FolderInUse."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 20).decode("ascii", errors="replace").strip()
        os.close(descriptor)
        raise FolderInUse(
            f"{folder}: a simulator runs in this folder (pid {holder or '?'}): stop it, or use another"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def dying_with_parent(command: Sequence[str]) -> tuple[str, ...]:
    """The command line that starts `command`, an absolute path first, as a child that dies with us."""
    bootstrap = Path(__file__).with_name("child.py")
    return (sys.executable, "-I", "-S", str(bootstrap), str(os.getpid()), *command)
