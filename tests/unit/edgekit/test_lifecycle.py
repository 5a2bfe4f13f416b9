"""run_module, in its own process because it ends in os._exit."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import Any

import pytest

SCRIPT = textwrap.dedent("""
    import gc, sys, threading, time
    from edgekit import log
    from edgekit.lifecycle import run_module

    def write(line):
        sys.stderr.write(line + "\\n")
        sys.stderr.flush()

    class Hub:
        stuck = threading.Event()
        stuck_reason = "connect: accepted, but not answered in 41 s"
        def start(self):
            write("hub.start")
            if "stuck" in sys.argv:
                self.stuck.set()
        def wait_sent(self, timeout_s):
            write(f"wait_sent {timeout_s > 0}")
            return 3
        def close(self, timeout_s):
            write(f"close {timeout_s:g}")
            time.sleep(min(timeout_s, 60 if "hang" in sys.argv else 0))

    def start():
        if "broken" in sys.argv:
            raise ValueError("no such folder")
        write("start")

    def stop(timeout_s):
        write(f"stop {timeout_s:g}")
        if "frozen" in sys.argv:
            write(f"frozen {gc.get_freeze_count() > 1000}")
        if "hang" in sys.argv:
            time.sleep(60)
        if "fails" in sys.argv:
            raise RuntimeError("boom")
        return {"frames": 2}

    log.setup("test")
    threading.Thread(target=time.sleep, args=(60,)).start()  # like the SDK's, delays a normal exit
    run_module(Hub(), start=start, stop=stop)
""")


def run(
    *arguments: str, kill: signal.Signals | None = None
) -> tuple[int, list[str], list[dict[str, Any]], float]:
    """Exit status, calls, log events, and the seconds from the signal to the exit."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RuntimeLogLevel": "info"},
    )
    assert process.stdout is not None
    lines: list[str] = []
    if kill is not None:
        while not lines or '"started"' not in lines[-1]:
            lines.append(process.stdout.readline())
        process.send_signal(kill)
    begin = time.monotonic()
    out, err = process.communicate(timeout=30)
    lines += out.splitlines()
    return (
        process.returncode,
        err.split("\n")[:-1],
        [json.loads(line) for line in lines],
        time.monotonic() - begin,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_module_in_order(number: signal.Signals) -> None:
    """Module, then hub; drain, then close; exit 0 although a thread runs; unfinished work is logged."""
    status, calls, events, _seconds = run(kill=number)
    assert status == 0
    assert calls == ["start", "hub.start", "stop 2", "wait_sent True", "close 1"]
    assert events[-1]["event"] == f"stopped: {number.name}"
    assert events[-1]["left"] == {"frames": 2, "unsent": 3}


def test_a_stuck_hub_is_exit_75_with_its_reason() -> None:
    """It does not wait for messages to a hub that does not answer."""
    status, calls, events, _seconds = run("stuck")
    assert status == 75
    assert calls == ["start", "hub.start", "stop 2", "wait_sent False", "close 1"]
    assert "not answered in 41 s" in events[-1]["event"]


def test_a_hanging_module_and_hub_cannot_delay_the_exit() -> None:
    """A hanging module costs two seconds, a hanging SDK one."""
    status, calls, _events, seconds = run("hang", kill=signal.SIGTERM)
    assert status == 0
    assert calls[-1] == "close 1"
    assert 2.5 < seconds < 15


def test_a_module_whose_stop_raises_still_exits() -> None:
    """The error is logged; the hub is drained and closed."""
    status, calls, events, _seconds = run("fails", kill=signal.SIGTERM)
    assert status == 0
    assert calls[-1] == "close 1"
    assert any("boom" in event.get("error", "") for event in events)


def test_objects_made_at_start_are_frozen() -> None:
    """The garbage collector then skips them in a full collection."""
    _status, calls, _events, _seconds = run("frozen", kill=signal.SIGTERM)
    assert "frozen True" in calls


def test_a_module_that_cannot_start_is_exit_1() -> None:
    """The last log line names the reason; the hub is not started."""
    status, calls, events, _seconds = run("broken")
    assert (status, calls) == (1, [])
    assert events[-1]["event"] == "not started: ValueError: no such folder"
