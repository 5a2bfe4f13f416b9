"""One child process at a time for what may crash, hang or take long: started, limited, ended early.

What it does is for whoever names its command (`prove`, `fetch`); it answers with one line of JSON on stdout.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.cpu_affinity import ALLOWED_CORES
from inference.models.errors import ModelRefused, ModelUnavailable

_NICE = 10
_PATIENCE = 6  # times the time-out is the most that a nice child gets that a busy device keeps waiting
_PR_SET_PDEATHSIG = 1
#: For a child with numpy: its pools would reserve gigabytes of addresses on a machine with many cores.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit status (minus the signal that killed it), and its last line as JSON."""

    status: int
    said: Any


class TookTooLong(Exception):
    """It did not come to an end in time, and was killed. `starved`: mostly for want of a processor."""

    def __init__(self, message: str, *, starved: bool = False) -> None:
        super().__init__(message)
        self.starved = starved


class ChildProcess:
    """Runs one command after the other. `cancel` may be called from any thread.

    `overtaken` says that a cancel came before there was a child to end.
    """

    def __init__(self, overtaken: Callable[[], bool] = lambda: False) -> None:
        self._overtaken = overtaken
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        said_to: bytes = b"",
        environment: Mapping[str, str] | None = None,
        idle: bool = False,
    ) -> Ended:
        """Start it with `said_to` on its stdin and wait. Raises TookTooLong, and OSError when none starts.

        The time that a busy device keeps it waiting is not its own: it gets that on top, within limits.
        `idle`: it runs only where a processor has nothing else to do (SCHED_IDLE, sched(7)), and where
        that is seldom it is soon ended as starved.
        """
        # A group of its own: a Ctrl-C at the terminal is for the module, not for the child. The session is
        # the module's: Linux shares processors among sessions first (autogroup, sched(7)), and in a session
        # of its own the child would get half of them, however nice it is.
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", **(environment or {})},
            process_group=0,
        )
        _yield_to_frames(child.pid, idle=idle)  # before its imports, which are most of its work
        with self._lock:
            self._child = child
        if self._overtaken():
            child.kill()
        try:
            output = _communicate(child, said_to, timeout_s, idle=idle)
        except TookTooLong:
            child.kill()
            child.communicate()
            raise
        finally:
            with self._lock:
                self._child = None
        return Ended(child.returncode, _last_line(output))

    def cancel(self) -> None:
        """Kill the child, if there is one: run() then returns."""
        with self._lock:
            if self._child is not None:
                self._child.kill()


def raise_verdict(said: Any) -> None:
    """Raise ModelRefused or ModelUnavailable when that is what a child said."""
    match said:
        case {"refused": str(code), "message": str(message)}:
            raise ModelRefused(code, message)
        case {"unavailable": str(code), "message": str(message)}:
            raise ModelUnavailable(code, message)


def outcome(work: Callable[[], dict[str, object]]) -> Ended:
    """In the child: do it, and what came of it; the exit status is 1 for a verdict."""
    try:
        return Ended(0, work())
    except ModelRefused as error:
        return Ended(1, {"refused": error.code, "message": str(error)})
    except ModelUnavailable as error:
        return Ended(1, {"unavailable": error.code, "message": str(error)})


def answer(ended: Ended) -> int:
    """In the child: say it; its exit status."""
    sys.stdout.write(json.dumps(ended.said) + "\n")
    sys.stdout.flush()
    return ended.status


def confine(memory_bytes: int, cpu_s: int) -> None:
    """In the child: whatever happens to this process, it happens to this process only."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Dies with the thread that started it: a module that is killed leaves nothing behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _yield_to_frames(pid: int, *, idle: bool) -> None:
    with contextlib.suppress(OSError):  # it may have ended already
        # Not the core that the frames have, if there is another: a thread that has just worked much may have
        # to wait there for milliseconds even behind an idle child (EEVDF).
        os.sched_setaffinity(pid, ALLOWED_CORES - os.sched_getaffinity(0) or ALLOWED_CORES)
        os.setpriority(os.PRIO_PROCESS, pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + _NICE))
        if idle:  # gives its processor up at once; a nice one keeps it for a slice, 3 ms that a frame waits
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def _communicate(child: subprocess.Popen[bytes], said_to: bytes, timeout_s: float, *, idle: bool) -> bytes:
    begun, left = time.monotonic(), said_to or None
    while True:
        try:
            return child.communicate(left, timeout=timeout_s / 8)[0]
        except subprocess.TimeoutExpired as error:
            left = None  # what it was told was handed over with the first call
            elapsed_s = time.monotonic() - begun
            own_s = _own_s(child.pid, elapsed_s)
            spent = own_s >= 0.9 * timeout_s
            starved = own_s < 0.5 * elapsed_s if idle else elapsed_s >= _PATIENCE * timeout_s
            if spent or starved:
                raise TookTooLong(f"no answer within {timeout_s:g} s", starved=not spent) from error


def _own_s(pid: int, elapsed_s: float) -> float:
    """How long a process worked or slept, without the time that it was ready and no processor was free."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5)
        if state == "R":  # this wait is counted nowhere yet; work is
            return (int(fields[10]) + int(fields[11])) / os.sysconf("SC_CLK_TCK")
        return elapsed_s - int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return elapsed_s


def _last_line(output: bytes) -> Any:
    try:
        return json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return None
