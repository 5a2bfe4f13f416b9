"""Runs work that may crash, hang or take long in a child process, which can be killed at any moment.

The child gets a time-out and limits of memory and CPU time, and it must not take time from the frames. It
writes its result to stdout, as one line of JSON.
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
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.cpu_affinity import ALLOWED_CORES
from inference.models.errors import ModelRefused, ModelUnavailable

_NICE = 10
_PATIENCE = 6  # a niced child on a busy device gets at most this many times the time-out
_PR_SET_PDEATHSIG = 1
#: For a child with numpy: on a machine with many cores its thread pools would reserve gigabytes of addresses.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of ours, without the user's site packages and PYTHON* variables.

    >>> module_command("inference.models.download")[1:]
    ('-I', '-m', 'inference.models.download')
    """
    return (sys.executable, "-I", "-m", module, *arguments)


@dataclass(frozen=True)
class Ended:
    """The exit status of a child (or minus the signal that killed it), and its last line as JSON."""

    status: int
    result: Any


class TookTooLong(Exception):
    """The child did not end in time and was killed. `starved`: mostly because no processor was free."""

    def __init__(self, message: str, *, starved: bool = False) -> None:
        super().__init__(message)
        self.starved = starved


class ChildProcess:
    """Runs one command at a time. `cancel` may be called from any thread.

    `overtaken` returns True if `cancel` was called before the child started: it is then killed at once.
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
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        idle: bool = False,
    ) -> Ended:
        """Start the command and wait for its end. Raises TookTooLong, and OSError if it does not start.

        `timeout_s` does not count the time that the child waits for a processor, up to six times as much.
        `idle`: run at SCHED_IDLE (sched(7)), only on a processor that has nothing else to do. If none is
        free, the child is soon killed as starved.
        """
        # A group of its own: a Ctrl-C at the terminal is meant for the module. But the session of the module:
        # Linux shares processors between sessions first (autogroup, sched(7)), so in a session of its own the
        # child would get half of them, whatever its nice value.
        with _off_the_core_of_the_frames():
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
            output = _communicate(child, stdin, timeout_s, idle=idle)
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


def raise_verdict(result: Any) -> None:
    """Raise the ModelRefused or ModelUnavailable that is in a child's result, if any."""
    match result:
        case {"refused": str(code), "message": str(message)}:
            raise ModelRefused(code, message)
        case {"unavailable": str(code), "message": str(message)}:
            raise ModelUnavailable(code, message)


def outcome(work: Callable[[], dict[str, object]]) -> Ended:
    """In the child: do the work. The status is 1 and the result a verdict if it raises one."""
    try:
        return Ended(0, work())
    except ModelRefused as error:
        return Ended(1, {"refused": error.code, "message": str(error)})
    except ModelUnavailable as error:
        return Ended(1, {"unavailable": error.code, "message": str(error)})


def print_result(ended: Ended) -> int:
    """In the child: write the result to stdout; returns the exit status."""
    sys.stdout.write(json.dumps(ended.result) + "\n")
    sys.stdout.flush()
    return ended.status


def confine(memory_bytes: int, cpu_s: int) -> None:
    """In the child: limit memory and CPU time, write no core file, die with the module."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The child dies with the thread that started it, so a module that is killed leaves no child behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


@contextlib.contextmanager
def _off_the_core_of_the_frames() -> Iterator[None]:
    """Move this thread to another core, if there is one, for the child that it starts meanwhile.

    A thread of the frames that has just worked much may wait for milliseconds even behind an idle child
    (EEVDF). The child inherits the cores, because it has the frames' priority until `_yield_to_frames`.
    """
    own = os.sched_getaffinity(0)
    _move_to(ALLOWED_CORES - own or ALLOWED_CORES)
    try:
        yield
    finally:
        _move_to(own)


def _move_to(cores: Set[int]) -> None:
    with contextlib.suppress(OSError):  # the container was moved to other cores
        os.sched_setaffinity(0, cores)


def _yield_to_frames(pid: int, *, idle: bool) -> None:
    with contextlib.suppress(OSError):  # it may have ended already
        os.setpriority(os.PRIO_PROCESS, pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + _NICE))
        if idle:  # it yields at once; a niced child keeps the processor for a slice, and a frame waits 3 ms
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))


def _communicate(child: subprocess.Popen[bytes], stdin: bytes, timeout_s: float, *, idle: bool) -> bytes:
    began, left = time.monotonic(), stdin or None
    while True:
        try:
            return child.communicate(left, timeout=timeout_s / 8)[0]
        except subprocess.TimeoutExpired as error:
            left = None  # the first call has written it
            elapsed_s = time.monotonic() - began
            own_s = _own_s(child.pid, elapsed_s)
            spent = own_s >= 0.9 * timeout_s
            starved = own_s < 0.5 * elapsed_s if idle else elapsed_s >= _PATIENCE * timeout_s
            if spent or starved:
                raise TookTooLong(f"no answer within {timeout_s:g} s", starved=not spent) from error


def _own_s(pid: int, elapsed_s: float) -> float:
    """The time that a process worked or slept, without the time that it waited for a processor."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # proc(5)
        if state == "R":  # the wait in progress is not counted yet, only work is
            return (int(fields[10]) + int(fields[11])) / os.sysconf("SC_CLK_TCK")
        return elapsed_s - int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return elapsed_s


def _last_line(output: bytes) -> Any:
    try:
        return json.loads(output.splitlines()[-1])
    except (IndexError, ValueError):
        return None
