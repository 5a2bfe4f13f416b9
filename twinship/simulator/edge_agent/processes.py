"""The processes that this simulator has started, recorded in a file: the next simulator ends leftovers.

Pid, start time and boot id identify a process, so a reused pid is never signalled.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from twinship.simulator.common.private_files import open_private, write_private

logger = logging.getLogger(__name__)

RECORD_FILE = "processes.json"
LOCK_FILE = "agent.lock"
KILLED_WITHIN_S = 5.0


class FolderInUse(Exception):
    """Another simulator uses this folder. The text is one line with the cure."""


@dataclass(frozen=True)
class ProcessId:
    """The identity of one process. `started` is in clock ticks since the boot."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now; None if there is none or it is a zombie."""
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *numbers = text.rpartition(")")[2].split()  # the name in parentheses may contain anything
        if state in ("Z", "X"):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid, int(numbers[18]), boot)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self


class ProcessRecord:
    """The record in the simulator's folder. Each change replaces the file atomically.

    A failed write, as on a full disk, is logged and ends nothing: the next change writes everything.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / RECORD_FILE
        self._failing = False
        self._processes: dict[str, ProcessId] = {}
        self._folders: list[str] = []

    def add_folder(self, folder: Path) -> None:
        """Record a folder elsewhere that reap() must remove."""
        self._folders.append(str(folder))
        self._write()

    def started(self, name: str, process: ProcessId) -> None:
        """Record a process under this name."""
        self._processes[name] = process
        self._write()

    def ended(self, name: str) -> None:
        """Remove the process of this name."""
        if self._processes.pop(name, None) is not None:
            self._write()

    def clear(self) -> None:
        """Remove the file: everything has ended in order."""
        self._path.unlink(missing_ok=True)

    def reap(self) -> list[str]:
        """Kill the processes and remove the folders of a killed simulator; returns the process names."""
        try:
            record = json.loads(self._path.read_text(encoding="utf-8"))
            processes = {name: ProcessId(**fields) for name, fields in record["processes"].items()}
            folders = [str(folder) for folder in record["folders"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError):
            processes, folders = {}, []  # not written by a simulator
        killed = kill_all(processes)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        self.clear()
        return killed

    def _write(self) -> None:
        processes = {name: asdict(process) for name, process in self._processes.items()}
        try:
            write_private(self._path, json.dumps({"processes": processes, "folders": self._folders}))
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.error("%s: started processes are not recorded: %s", self._path, error)
            self._failing = True


def end_leftover_processes(folder: Path) -> None:
    """Kill what a killed simulator in this folder has left running."""
    ProcessRecord(folder).reap()


def kill_all(processes: Mapping[str, ProcessId]) -> list[str]:
    """SIGKILL the processes that still run, with their groups, and wait; returns their names."""
    alive = {name: process for name, process in processes.items() if process.alive}
    for process in alive.values():
        kill_group(process.pid)
    deadline = time.monotonic() + KILLED_WITHIN_S
    while any(process.alive for process in alive.values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return sorted(alive)


def kill_group(pid: int) -> None:
    """SIGKILL a process group by its leader."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def lock_folder(folder: Path) -> int:
    """Lock the folder for this process; closing the returned descriptor unlocks it. Raises FolderInUse."""
    descriptor = open_private(folder / LOCK_FILE, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 20).decode("ascii", errors="replace").strip()
        os.close(descriptor)
        raise FolderInUse(
            f"{folder}: a simulator runs in this folder (pid {holder or '?'}): stop it, or use another folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def dying_with_parent(command: Sequence[str]) -> tuple[str, ...]:
    """A command line that runs `command` (an absolute path first) as a child that dies with this process."""
    bootstrap = Path(__file__).with_name("child.py")
    return (sys.executable, "-I", "-S", str(bootstrap), str(os.getpid()), *command)
