"""Processes of the simulator: their record, restarts, logs and end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import largest_file
from twinship.simulator.edge_agent.hub_process import Addresses, hub_program
from twinship.simulator.edge_agent.processes import (
    FolderInUse,
    ProcessId,
    ProcessRecord,
    kill_all,
    lock_folder,
)
from twinship.simulator.edge_agent.rotated_log import RotatedLog, last_line
from twinship.simulator.edge_agent.supervisor import (
    DELAYS_S,
    EXIT_STUCK,
    Program,
    Supervised,
    delay_s,
    is_restarted,
    quick_exits_after,
)
from twinship.simulator.loopback import NoAddress, free_addresses, holder, is_free
from twinship.simulator.manifest.modules_content import RestartPolicy

SLEEP = "import time; print('up', flush=True); time.sleep(60)"


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A sleeping process in its own group."""
    process = subprocess.Popen([sys.executable, "-S", "-c", SLEEP], start_new_session=True)
    yield process
    process.kill()
    process.wait()


# identity and record


def test_a_process_is_identified_by_its_start(sleeper: subprocess.Popen[bytes]) -> None:
    """The same pid with another start time or boot id is another process; an ended one is None."""
    known = ProcessId.of(sleeper.pid)
    assert known is not None
    assert known.alive
    assert not replace(known, started=known.started - 1).alive
    assert not replace(known, boot="another").alive
    sleeper.kill()
    wait_for(lambda: not known.alive, "the end, seen although nobody has waited for the zombie")


def test_leftover_processes_are_ended(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """The next start kills recorded processes and removes recorded folders."""
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    record, known = ProcessRecord(tmp_path), ProcessId.of(sleeper.pid)
    assert known is not None
    record.add_folder(sockets)
    record.started("camera", known)
    record.started("gone", replace(known, pid=4_000_000))
    assert ProcessRecord(tmp_path).reap() == ["camera"]
    assert sleeper.wait(60) == -signal.SIGKILL
    assert not sockets.exists()
    assert ProcessRecord(tmp_path).reap() == []


def test_a_reused_pid_is_never_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """Another process has the pid now, and it stays alive."""
    known = ProcessId.of(sleeper.pid)
    assert known is not None
    record = ProcessRecord(tmp_path)
    record.started("camera", replace(known, started=known.started - 1))
    assert record.reap() == []
    assert sleeper.poll() is None
    assert kill_all({"camera": known}) == ["camera"]


@pytest.mark.parametrize("text", ["", "[]", '{"processes": {"a": {"pid": "x"}}, "folders": []}'])
def test_an_invalid_record_is_ignored(tmp_path: Path, text: str) -> None:
    """A truncated or foreign file does not prevent a start."""
    (tmp_path / "processes.json").write_text(text)
    assert ProcessRecord(tmp_path).reap() == []


def test_a_folder_holds_one_simulator(tmp_path: Path) -> None:
    """The error names the holder; when the first process has ended in any way, the folder is free."""
    held = lock_folder(tmp_path)
    with pytest.raises(FolderInUse, match=f"pid {os.getpid()}"):
        lock_folder(tmp_path)
    os.close(held)
    os.close(lock_folder(tmp_path))


# restart policy


@pytest.mark.parametrize(
    ("policy", "exit_code", "restarted"),
    [
        ("always", 0, True),
        ("always", 1, True),
        ("on-unhealthy", 1, True),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("never", 0, False),
        ("never", 1, False),
    ],
)
def test_the_policy_decides_about_a_restart(policy: RestartPolicy, exit_code: int, restarted: bool) -> None:
    """As in edgeAgent (ref 8)."""
    assert is_restarted(policy, exit_code) is restarted


def test_a_crash_loop_backs_off() -> None:
    """Each quick exit waits longer, up to five minutes; a run of ten minutes resets the delay."""
    waits, quick = [], 0
    for _ in range(12):
        quick = quick_exits_after(quick, ran_s=1.0)
        waits.append(delay_s(quick, 1, ran_s=1.0))
    assert waits == [*DELAYS_S, 300.0, 300.0]
    assert delay_s(quick_exits_after(quick, ran_s=601.0), 1, ran_s=601.0) == DELAYS_S[0]


def test_a_stuck_module_is_restarted_at_once() -> None:
    """A module requests it with exit code 75; in a quick loop the code is a crash like any other."""
    assert delay_s(5, EXIT_STUCK, ran_s=60.0) == 0.0
    assert delay_s(5, EXIT_STUCK, ran_s=0.1) == DELAYS_S[4]


# supervision


def supervised(
    tmp_path: Path, code: str, policy: RestartPolicy = "always", environment: Mapping[str, str] | None = None
) -> Supervised:
    """A supervised Python program; create it in an event loop."""
    program = Program("module", (sys.executable, "-S", "-c", code), environment or {}, policy)
    return Supervised(program, tmp_path, ProcessRecord(tmp_path), lambda: None)


async def until(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_for, condition, "a change of state")


def test_output_and_exit_code_are_recorded(tmp_path: Path) -> None:
    """Both streams go to the log completely; the state has the exit code; the record is empty."""

    async def run() -> None:
        code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
        module = supervised(tmp_path, code, "never")
        module.start()
        await until(lambda: module.state.runtime_status == "failed")
        assert (module.state.exit_code, module.state.restart_count, module.state.pid) == (3, 0, None)
        await module.stop(1.0)

    asyncio.run(run())
    assert sorted((tmp_path / "module.log").read_text().split()) == ["err", "out"]
    assert json.loads((tmp_path / "processes.json").read_text())["processes"] == {}


def test_a_killed_module_is_restarted(tmp_path: Path) -> None:
    """Policy "always" starts a new process; restart count and times change."""

    async def run() -> None:
        module = supervised(tmp_path, SLEEP)
        module.start()
        await until(lambda: module.state.pid is not None)
        first = module.state.pid
        await module.crash()
        await until(lambda: module.state.pid not in (None, first))
        assert (module.state.exit_code, module.state.restart_count) == (137, 1)
        await module.stop(5.0)
        assert (module.state.runtime_status, module.state.exit_code) == ("stopped", 143)

    asyncio.run(run())


def test_a_requested_crash_does_not_count(tmp_path: Path) -> None:
    """After repeated crash() calls the delay stays the same."""

    async def run() -> None:
        module = supervised(tmp_path, SLEEP)
        module.start()
        for _ in range(4):
            await until(lambda: module.state.pid is not None)
            await module.crash()
        await until(lambda: module.state.restart_count == 4)
        await module.stop(5.0)

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < sum(DELAYS_S[:4])  # the delays of four that count


def test_a_program_that_cannot_be_started_is_a_failure_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 126 and a line in the log; the same policy applies."""
    monkeypatch.setattr("sys.executable", "/nowhere/python")

    async def run() -> None:
        module = supervised(tmp_path, "", "never")
        module.start()
        await until(lambda: module.state.runtime_status == "failed")
        assert module.state.exit_code == 126

    asyncio.run(run())
    assert "cannot be started" in last_line(tmp_path / "module.log")


def test_a_full_disk_does_not_end_the_supervision(tmp_path: Path) -> None:
    """Without a log and a record a crashed program starts again; the record is written when it can be."""
    logs, recorded = tmp_path / "logs", tmp_path / "recorded"

    async def run() -> None:
        program = Program("module", (sys.executable, "-S", "-c", SLEEP), {})
        module = Supervised(program, logs, ProcessRecord(recorded), lambda: None)
        module.start()
        await until(lambda: module.state.pid is not None)
        await module.crash()
        await until(lambda: module.state.restart_count == 1 and module.state.pid is not None)
        logs.mkdir()
        recorded.mkdir()
        await module.crash()
        await until(lambda: last_line(module.log_path) == "up")
        pid = module.state.pid
        assert json.loads((recorded / "processes.json").read_text())["processes"]["module"]["pid"] == pid
        await module.stop(5.0)

    asyncio.run(run())


def test_a_failed_record_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One line for a full disk; a later failure is logged again."""
    record, known = ProcessRecord(tmp_path / "none"), ProcessId(1, 1, "")
    record.started("a", known)
    record.ended("a")
    (line,) = (each.getMessage() for each in caplog.records)
    assert line.startswith(f"{tmp_path}/none/processes.json: started processes are not recorded: ")
    (tmp_path / "none").mkdir()
    record.started("a", known)
    (tmp_path / "none").rename(tmp_path / "moved")
    record.ended("a")
    assert len(caplog.records) == 2


def test_a_program_may_limit_its_delay(tmp_path: Path) -> None:
    """The hub does, so that it is back within 10 s after any number of failed starts."""
    addresses = Addresses("127.0.0.2", "127.0.0.3")
    assert hub_program(tmp_path, "d", addresses, delivery_window=1, environment={}).longest_delay_s <= 5.0

    async def run() -> None:
        program = Program("module", (sys.executable, "-S", "-c", "exit(1)"), {}, longest_delay_s=0.0)
        module = Supervised(program, tmp_path, ProcessRecord(tmp_path), lambda: None)
        module.start()
        await until(lambda: module.state.restart_count == 4)
        await module.stop(5.0)

    began = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - began < sum(DELAYS_S[:4])


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """After the grace period stop() kills it and its children, and returns only then."""
    code = (
        "import os, signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']);"
        "print(child.pid, flush=True); time.sleep(60)"
    )

    async def run() -> None:
        module = supervised(tmp_path, code)
        module.start()
        await until(lambda: last_line(module.log_path) != "")
        await module.stop(0.2)
        assert module.state.exit_code == 137

    asyncio.run(run())
    child = int(last_line(tmp_path / "module.log"))
    wait_for(lambda: ProcessId.of(child) is None, "the child's end")


def test_a_child_that_keeps_the_log_open_is_ended(tmp_path: Path) -> None:
    """When a module ends and leaves a child, the supervisor kills the child and continues."""
    code = (
        "import subprocess, sys;"
        "print(subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)']).pid)"
    )

    async def run() -> None:
        module = supervised(tmp_path, code, "never")
        module.start()
        await until(lambda: module.state.exited is not None)
        await module.stop(5.0)

    asyncio.run(run())
    child = int(last_line(tmp_path / "module.log"))
    wait_for(lambda: ProcessId.of(child) is None, "the orphan's end")


def test_stopping_ends_a_back_off(tmp_path: Path) -> None:
    """stop() does not wait for the restart."""

    async def run() -> None:
        module = supervised(tmp_path, "raise SystemExit(1)")
        module.start()
        await until(lambda: module.state.restart_count == 1)
        await until(lambda: (module.state.exited or 0.0) > (module.state.restarted or 0.0))
        async with asyncio.timeout(0.5):
            await module.stop(10.0)
        assert module.state.runtime_status == "stopped"

    asyncio.run(run())


def test_modules_see_only_their_environment(tmp_path: Path) -> None:
    """A module inherits nothing else."""

    async def run() -> None:
        code = "import os; print(sorted(set(os.environ) - {'LC_CTYPE'}))"
        module = supervised(tmp_path, code, "never", {"GIVEN": "1"})
        module.start()
        await until(lambda: module.state.runtime_status == "stopped" and module.state.exited is not None)

    asyncio.run(run())
    assert last_line(tmp_path / "module.log") == "['GIVEN']"


def test_modules_die_with_a_killed_agent(tmp_path: Path) -> None:
    """kill -9 of the process that started a module ends the module."""
    agent = f"""
import asyncio, sys
from pathlib import Path
from twinship.simulator.edge_agent.processes import ProcessRecord
from twinship.simulator.edge_agent.supervisor import Program, Supervised
async def main():
    folder = Path({str(tmp_path)!r})
    program = Program("module", (sys.executable, "-S", "-c", {SLEEP!r}), {{}})
    module = Supervised(program, folder, ProcessRecord(folder), lambda: None)
    module.start()
    await asyncio.sleep(60)
asyncio.run(main())
"""
    process = subprocess.Popen([sys.executable, "-c", agent])
    wait_for(lambda: last_line(tmp_path / "module.log") == "up", "the module")
    (kept,) = json.loads((tmp_path / "processes.json").read_text())["processes"].values()
    module = ProcessId(**kept)
    assert module.alive
    process.kill()
    process.wait()
    wait_for(lambda: not module.alive, "the module's end")


def test_a_child_whose_parent_has_ended_does_not_start(tmp_path: Path) -> None:
    """The parent ended before prctl: the child exits at once."""
    child = Path(__file__).parents[5] / "twinship" / "simulator" / "edge_agent" / "child.py"
    marker = tmp_path / "ran"
    command = [sys.executable, str(child), "1", sys.executable, "-c", f"open({str(marker)!r}, 'w')"]
    assert subprocess.run(command, check=False).returncode == 1
    assert not marker.exists()


# logs


def test_a_log_is_rotated_by_size(tmp_path: Path) -> None:
    """There are three files, the newest without a number, none above the limit."""
    with contextlib.closing(RotatedLog(tmp_path / "m.log", max_bytes=100, max_files=3)) as log:
        for number in range(100):
            log.write(b"line %02d\n" % number)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["m.log", "m.log.1", "m.log.2"]
    assert all((tmp_path / name).stat().st_size <= 100 for name in files)
    assert last_line(tmp_path / "m.log") == "line 99"
    newest = "".join((tmp_path / name).read_text() for name in ("m.log.2", "m.log.1", "m.log"))
    assert newest.split("\n")[-2] == "line 99"
    assert newest.count("line") == len(newest) // 8


def test_a_restart_appends_to_the_log(tmp_path: Path) -> None:
    """The earlier lines stay."""
    for text in (b"first\n", b"second\n\n"):
        with contextlib.closing(RotatedLog(tmp_path / "m.log")) as log:
            log.write(text)
    assert (tmp_path / "m.log").read_text() == "first\nsecond\n\n"
    assert last_line(tmp_path / "m.log") == "second"
    assert last_line(tmp_path / "none.log") == ""


def test_a_full_disk_loses_lines_of_the_log_and_not_the_module(tmp_path: Path) -> None:
    """write() raises nothing, and no file is needed for it."""
    for path in (Path("/dev/full"), tmp_path / "none" / "m.log"):
        with contextlib.closing(RotatedLog(path)) as log:
            log.write(b"x")
            log.write(b"y")


def test_a_log_goes_on_when_there_is_space_again(tmp_path: Path) -> None:
    """The line that the full disk cut is ended first, so the next line stands alone."""
    with contextlib.closing(RotatedLog(tmp_path / "m.log")) as log:
        with largest_file(10):
            for line in (b"first\n", b"second\n", b"lost\n"):
                log.write(line)
        log.write(b"third\n")
        log.write(b"fourth\n")
    assert (tmp_path / "m.log").read_text() == "first\nseco\nthird\nfourth\n"


# addresses


def test_free_addresses_are_loopback_and_different() -> None:
    """All ports can be bound at once; a free preferred address comes first."""
    first, second = free_addresses(2, (8883, 8443))
    assert first != second
    assert all(address.startswith("127.") and is_free(address, 8883) for address in (first, second))
    assert free_addresses(1, (8883,), prefer=(second,)) == (second,)


def test_a_taken_address_is_skipped() -> None:
    """holder() names address, port and process."""
    (address,) = free_addresses(1, (8883,))
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(address, port)
        assert free_addresses(1, (port,), prefer=(address,)) != (address,)
        found = holder(address, port)
        assert found is not None
        assert f"{address}:{port}" in found
        assert f"pid {os.getpid()}" in found


def test_a_listener_on_every_address_is_named() -> None:
    """It blocks every loopback address; the error names it and the cure."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(NoAddress, match=rf"0\.0\.0\.0:{port} .*pid {os.getpid()}.*stop it"):
            free_addresses(1, (port,))
