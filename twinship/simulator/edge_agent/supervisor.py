"""Keeps a program running by its restart policy: starts it, logs its output, waits, starts it again.

Runs in the agent's event loop. When to restart is restart.py's rule, what to run is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from twinship.simulator.edge_agent.processes import ProcessId, ProcessRecord, dying_with_parent, kill_group
from twinship.simulator.edge_agent.rotated_log import RotatedLog
from twinship.simulator.manifest.manifest import RestartPolicy

EXIT_STUCK = 75  # a module that found its hub stuck asks to be started again: its own last word, not a crash
# edgeAgent waits 10 s and doubles up to 5 min. The first ones are shorter here: somebody is watching.
DELAYS_S = (0.1, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
HEALTHY_AFTER_S = 600.0  # a module that ran this long is trusted again (edgeAgent's "intensive care" time)
NOT_AT_ONCE_S = 5.0  # exit 75 this soon after the start is a loop, whatever the module thinks


def is_restarted(policy: RestartPolicy, exit_code: int) -> bool:
    """What the policy says about this exit; unhealthy is nothing that happens here."""
    return policy in ("always", "on-unhealthy") or (policy == "on-failure" and exit_code != 0)


def delay_s(quick_exits: int, exit_code: int, ran_s: float) -> float:
    """How long to wait before the next start, after this many exits in a row that came too soon."""
    if exit_code == EXIT_STUCK and ran_s >= NOT_AT_ONCE_S:
        return 0.0
    return DELAYS_S[min(quick_exits, len(DELAYS_S)) - 1] if quick_exits else 0.0


def quick_exits_after(quick_exits: int, ran_s: float) -> int:
    """The count that goes into delay_s, after a run of `ran_s`."""
    return 1 if ran_s >= HEALTHY_AFTER_S else quick_exits + 1


logger = logging.getLogger(__name__)

OUTPUT_AFTER_EXIT_S = 0.5  # how long a program's own children may still write after it has ended
READ_BYTES = 64 * 1024
EXIT_NOT_STARTED = 126  # as a shell says it

RuntimeStatus = Literal["running", "stopped", "failed", "backoff"]


@dataclass(frozen=True)
class Program:
    """What to run: an absolute path with arguments, its whole environment, and what to do when it ends."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    restart_policy: RestartPolicy = "always"


@dataclass(frozen=True)
class RunState:
    """What edgeAgent reports of a module (ref 8). Times are seconds since the epoch."""

    runtime_status: RuntimeStatus = "stopped"
    exit_code: int = 0
    restart_count: int = 0
    started: float | None = None
    exited: float | None = None
    restarted: float | None = None
    pid: int | None = None


class RunningProcess:
    """One process. `exited` is its exit code, 128 + n after signal n, as Docker counts."""

    def __init__(self, program: Program, log: RotatedLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._silent = asyncio.Event()
        self._output, output = os.pipe()
        try:
            self._process = subprocess.Popen(
                dying_with_parent(program.command),
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # the terminal's Ctrl-C is for the agent, which ends all in order
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(output)
        self.pid = self._process.pid
        self._watch = os.pidfd_open(self.pid)
        self._loop.add_reader(self._watch, self._has_exited)
        self._loop.add_reader(self._output, self._has_written)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the process itself; nothing happens when it has ended."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the process and its group."""
        if self._process.returncode is None:
            kill_group(self.pid)

    async def output_ended(self) -> None:
        """Wait until everything written is in the log; what its children hold open is cut off."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._silent.wait(), OUTPUT_AFTER_EXIT_S)
        if not self._silent.is_set():
            kill_group(self.pid)  # its group still has members, so that the number cannot be anybody else's
            self._close_output()

    def _has_exited(self) -> None:
        self._loop.remove_reader(self._watch)
        os.close(self._watch)
        code = self._process.wait()
        self.exited.set_result(code if code >= 0 else 128 - code)

    def _has_written(self) -> None:
        data = os.read(self._output, READ_BYTES)
        if data:
            self._log.write(data)
        else:
            self._close_output()

    def _close_output(self) -> None:
        self._loop.remove_reader(self._output)
        os.close(self._output)
        self._silent.set()


class Supervised:
    """A program under supervision, from start() to stop()."""

    def __init__(
        self, program: Program, logs: Path, record: ProcessRecord, on_change: Callable[[], None]
    ) -> None:
        self.program = program
        self.state = RunState()
        self.log_path = logs / f"{program.name}.log"
        self._record = record
        self._on_change = on_change
        self._process: RunningProcess | None = None
        self._quick_exits = 0
        self._stopping = asyncio.Event()
        self._again: asyncio.Event | None = None  # set when it runs again, by whoever asked for that
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; must be called once, in the event loop."""
        self._task = asyncio.create_task(self._run(), name=f"supervise {self.program.name}")
        self._task.add_done_callback(_say_why)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, SIGKILL when it has not ended after `grace_s`; returns when it has."""
        self._stopping.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
        if self._task is None:
            return
        done, _ = await asyncio.wait([self._task], timeout=grace_s)
        if not done:
            logger.warning("%s did not end within %g s of SIGTERM: killed", self.program.name, grace_s)
            self.kill()
        await asyncio.wait([self._task])  # not the task itself: being cancelled here must not end it

    def kill(self) -> None:
        """SIGKILL, as a crash: the restart policy decides what follows."""
        if self._process is not None:
            self._process.kill()

    async def restart(self, grace_s: float) -> bool:
        """SIGTERM, SIGKILL after `grace_s`, and start at once, whatever the policy says of such an end.

        Being asked for, it does not count against the program. False when it did not run, or was stopped.
        """
        if (process := self._process) is None:
            return False
        self._again = again = self._again or asyncio.Event()
        process.send_signal(signal.SIGTERM)
        done, _ = await asyncio.wait([process.exited], timeout=grace_s)
        if not done:
            logger.warning("%s did not end within %g s of SIGTERM: killed", self.program.name, grace_s)
            process.kill()
        await again.wait()
        return self._process is not None

    async def crash(self) -> None:
        """SIGKILL, and wait until it is noticed. Being asked for, it does not count against the program."""
        if self._process is not None:
            exited = self._process.exited
            self._quick_exits = 0
            self._process.kill()
            await exited

    async def _run(self) -> None:
        with contextlib.closing(RotatedLog(self.log_path)) as log:
            while not self._stopping.is_set():
                began = time.monotonic()
                code = await self._once(log)
                ran_s = time.monotonic() - began
                if self._again is not None:
                    self._quick_exits = 0
                    continue
                self._quick_exits = quick_exits_after(self._quick_exits, ran_s)
                if self._stopping.is_set() or not is_restarted(self.program.restart_policy, code):
                    break
                await self._back_off(delay_s(self._quick_exits, code, ran_s))
        self._has_restarted()
        asked = self._stopping.is_set() or self.state.exit_code == 0
        self._change(runtime_status="stopped" if asked else "failed")

    async def _once(self, log: RotatedLog) -> int:
        """Run it from start to end."""
        try:
            process = RunningProcess(self.program, log)
        except OSError as error:
            log.write(f"{self.program.command[0]} cannot be started: {error}\n".encode())
            self._change(exit_code=EXIT_NOT_STARTED, started=time.time(), exited=time.time())
            self._has_restarted()
            return EXIT_NOT_STARTED
        self._process = process
        if (known := ProcessId.of(process.pid)) is not None:
            self._record.started(self.program.name, known)
        self._change(runtime_status="running", started=time.time(), pid=process.pid)
        self._has_restarted()
        code = await process.exited
        self._process = None
        self._change(exit_code=code, exited=time.time(), pid=None)
        await process.output_ended()
        self._record.ended(self.program.name)
        return code

    def _has_restarted(self) -> None:
        if self._again is not None:
            self._again.set()
            self._again = None

    async def _back_off(self, wait_s: float) -> None:
        logger.info(
            "%s ended with %d; started again in %g s", self.program.name, self.state.exit_code, wait_s
        )
        self._change(runtime_status="backoff")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        if not self._stopping.is_set():
            self._change(restart_count=self.state.restart_count + 1, restarted=time.time())

    def _change(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self._on_change()


def _say_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s has ended: %s", task.get_name(), error)
