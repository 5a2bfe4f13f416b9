"""Supervises one program: starts it, logs its output, and restarts it by its restart policy.

Everything runs in the agent's event loop.
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
from typing import Final, Literal

from twinship.simulator.edge_agent.processes import ProcessId, ProcessRecord, dying_with_parent, kill_group
from twinship.simulator.edge_agent.rotated_log import RotatedLog
from twinship.simulator.manifest.modules_content import RestartPolicy

logger = logging.getLogger(__name__)

EXIT_STUCK: Final = 75  # a module exits with it to be restarted, because its hub connection is stuck
EXIT_NOT_STARTED: Final = 126  # as in a shell
# edgeAgent waits 10 s and doubles up to 5 min. The first delays are shorter here: a person is waiting.
DELAYS_S: Final = (0.1, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
HEALTHY_AFTER_S: Final = 600.0  # after such a run the delays start again (edgeAgent's "intensive care" time)
STUCK_LOOP_S: Final = 5.0  # exit 75 earlier than this is a crash loop and gets a delay
OUTPUT_AFTER_EXIT_S: Final = 0.5  # how long a program's children may still write after it has ended
READ_BYTES: Final = 64 * 1024

RuntimeStatus = Literal["running", "stopped", "failed", "backoff"]


@dataclass(frozen=True)
class Program:
    """What to run: an absolute path with arguments, the complete environment, and the restart policy."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    restart_policy: RestartPolicy = "always"
    longest_delay_s: float = DELAYS_S[-1]


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


def is_restarted(policy: RestartPolicy, exit_code: int) -> bool:
    """Whether the policy restarts after this exit. The simulator never reports a module as unhealthy.

    >>> is_restarted("on-failure", 1), is_restarted("on-failure", 0), is_restarted("never", 1)
    (True, False, False)
    """
    return policy in ("always", "on-unhealthy") or (policy == "on-failure" and exit_code != 0)


def delay_s(quick_exits: int, exit_code: int, ran_s: float) -> float:
    """Seconds until the next start, after `quick_exits` exits in a row.

    >>> delay_s(quick_exits=3, exit_code=1, ran_s=20.0), delay_s(3, EXIT_STUCK, 20.0)
    (2.5, 0.0)
    """
    if exit_code == EXIT_STUCK and ran_s >= STUCK_LOOP_S:
        return 0.0
    return DELAYS_S[min(quick_exits, len(DELAYS_S)) - 1] if quick_exits else 0.0


def quick_exits_after(quick_exits: int, ran_s: float) -> int:
    """The new count for delay_s after a run of `ran_s`."""
    return 1 if ran_s >= HEALTHY_AFTER_S else quick_exits + 1


class RunningProcess:
    """One process. `exited` becomes its exit code; 128 + n after signal n, as in Docker."""

    def __init__(self, program: Program, log: RotatedLog) -> None:
        self._loop = asyncio.get_running_loop()
        self._log = log
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._output_closed = asyncio.Event()
        self._output, output = os.pipe()
        try:
            self._process = subprocess.Popen(
                dying_with_parent(program.command),
                env=dict(program.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # the terminal's Ctrl-C must reach only the agent, which ends all in order
            )
        except BaseException:
            os.close(self._output)
            raise
        finally:
            os.close(output)
        self.pid = self._process.pid
        try:
            self._watch = os.pidfd_open(self.pid)
        except OSError:  # no descriptor is free: nobody would see the end of this process
            kill_group(self.pid)
            self._process.wait()
            os.close(self._output)
            raise
        self._loop.add_reader(self._watch, self._has_exited)
        self._loop.add_reader(self._output, self._has_written)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it still runs."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL the process and its group."""
        if self._process.returncode is None:
            kill_group(self.pid)

    async def output_ended(self) -> None:
        """Wait until all output is in the log; kill children that keep the pipe open."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._output_closed.wait(), OUTPUT_AFTER_EXIT_S)
        if not self._output_closed.is_set():
            kill_group(self.pid)  # safe: the group still has members, so its number is not reused
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
        self._output_closed.set()


class Supervised:
    """A supervised program, from start() to stop()."""

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
        self._restarting: asyncio.Event | None = None  # a requested restart; set when the program runs again
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start; call it once, in the event loop."""
        self._task = asyncio.create_task(self._run(), name=f"supervise {self.program.name}")
        self._task.add_done_callback(_log_failure)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s`; returns when the program has ended."""
        self._stopping.set()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
        if self._task is None:
            return
        done, _ = await asyncio.wait([self._task], timeout=grace_s)
        if not done:
            logger.warning("%s did not end within %g s of SIGTERM: killed", self.program.name, grace_s)
            self.kill()
        await asyncio.wait([self._task])  # wait() does not cancel the task when this coroutine is cancelled

    def kill(self) -> None:
        """SIGKILL, as a crash: the restart policy applies."""
        if self._process is not None:
            self._process.kill()

    async def restart(self, grace_s: float) -> bool:
        """SIGTERM, then SIGKILL after `grace_s`, and start again at once, with any restart policy.

        A requested restart does not count as a quick exit. False if the program did not run or was stopped.
        """
        if (process := self._process) is None:
            return False
        self._restarting = restarted = self._restarting or asyncio.Event()
        process.send_signal(signal.SIGTERM)
        done, _ = await asyncio.wait([process.exited], timeout=grace_s)
        if not done:
            logger.warning("%s did not end within %g s of SIGTERM: killed", self.program.name, grace_s)
            process.kill()
        await restarted.wait()
        return self._process is not None

    async def crash(self) -> None:
        """SIGKILL, and wait for the exit. It does not count as a quick exit."""
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
                if self._restarting is not None:
                    self._quick_exits = 0
                    continue
                self._quick_exits = quick_exits_after(self._quick_exits, ran_s)
                if self._stopping.is_set() or not is_restarted(self.program.restart_policy, code):
                    break
                wait_s = delay_s(self._quick_exits, code, ran_s)
                await self._back_off(min(wait_s, self.program.longest_delay_s))
        self._restart_done()
        in_order = self._stopping.is_set() or self.state.exit_code == 0
        self._change(runtime_status="stopped" if in_order else "failed")

    async def _once(self, log: RotatedLog) -> int:
        """Run the program once; returns its exit code."""
        try:
            process = RunningProcess(self.program, log)
        except OSError as error:
            log.write(f"{self.program.command[0]} cannot be started: {error}\n".encode())
            self._change(exit_code=EXIT_NOT_STARTED, started=time.time(), exited=time.time())
            self._restart_done()
            return EXIT_NOT_STARTED
        self._process = process
        with contextlib.suppress(OSError):  # no descriptor is free; the process dies with this one anyway
            if (process_id := ProcessId.of(process.pid)) is not None:
                self._record.started(self.program.name, process_id)
        self._change(runtime_status="running", started=time.time(), pid=process.pid)
        self._restart_done()
        code = await process.exited
        self._process = None
        self._change(exit_code=code, exited=time.time(), pid=None)
        await process.output_ended()
        self._record.ended(self.program.name)
        return code

    def _restart_done(self) -> None:
        if self._restarting is not None:
            self._restarting.set()
            self._restarting = None

    async def _back_off(self, wait_s: float) -> None:
        logger.info("%s ended with %d; restart in %g s", self.program.name, self.state.exit_code, wait_s)
        self._change(runtime_status="backoff")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)
        if not self._stopping.is_set():
            self._change(restart_count=self.state.restart_count + 1, restarted=time.time())

    def _change(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self._on_change()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("%s failed: %s", task.get_name(), error)
