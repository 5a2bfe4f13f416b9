"""Scenario `endpoint`: a reader of the Event Hub-compatible endpoint beside the messages of modules.

A sender's messages of 1 KB go to a receiver and upstream, one at a time and at most RATE a second. First
without a reader (the floor), then with one that reads live, then while another reads the backlog of both.
The reader is azure-eventhub in a process of its own (reader.py).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.rig.memory import resident_mb
from twinship.bench.scenarios.hub.clients import LOAD_S, WORK, HubProcess, load
from twinship.bench.scenarios.hub.hop import Task
from twinship.bench.scenarios.hub.reader import READY, Reading

RATE: Final = 1_400.0  # messages a second: what `throughput` must reach with a window of 16
ROUTES: Final = {"work": WORK, "cloud": "FROM /messages/modules/sender/* INTO $upstream"}
_HOP: Final = ("hop_p50_ms", "hop_p99_ms", "pairs_per_s")


@dataclass(frozen=True)
class Extent:
    """How many messages are sent in each part."""

    messages: int = 15_000
    during_backlog: int = 5_000


def measure(bench: Bench) -> Mapping[str, Any]:
    """Hop in ms without a reader, with a live one and during a backlog; lag and rate of readers; MiB idle."""
    return run(bench, Extent())


def run(bench: Bench, extent: Extent) -> Mapping[str, Any]:
    """The figures. Raises BenchFailed."""
    hub = HubProcess.at_free_addresses(bench.folder / "hub")
    with hub.running() as process:
        task = replace(hub.task(hub.deploy(ROUTES), extent.messages, 0), pairs_per_s=RATE)
        idle_mb = round(resident_mb(process.pid), 1)
        bench.progress("messages without a reader", 0.0)
        floor = _hop(task)
        bench.progress("messages with a live reader", 0.3)
        with _reader(hub, "now", extent.messages) as result:
            live = _hop(task)
            live |= result()
        bench.progress("messages during a backlog", 0.6)
        with _reader(hub, "start", 2 * extent.messages) as result:
            backlog = _hop(replace(task, pairs=extent.during_backlog))
            backlog["per_s"] = result()["per_s"]
    return {"floor": floor, "live": live, "backlog": backlog, "idle_mb": idle_mb}


def _hop(task: Task) -> dict[str, float]:
    figures = load(task)
    return {name: figures[name] for name in _HOP}


@contextlib.contextmanager
def _reader(hub: HubProcess, start: str, count: int) -> Iterator[Callable[[], dict[str, float]]]:
    """A reader from the moment it gets every event; call the result for its figures. Raises BenchFailed."""
    variables = hub.variables()
    task = Reading(
        variables["IOTHUB_EVENTHUB_CONNECTION_STRING"], variables["REQUESTS_CA_BUNDLE"], start, count
    )
    command = [sys.executable, "-P", "-m", "twinship.bench.scenarios.hub.reader"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(task.to_json())
        process.stdin.close()
        process.stdin = None  # communicate() would flush it

        def figures() -> dict[str, float]:
            try:
                output, errors = process.communicate(timeout=LOAD_S)
            except subprocess.TimeoutExpired:
                raise BenchFailed(f"the reader did not get {count} events within {LOAD_S:g} s") from None
            if process.returncode != 0:
                raise BenchFailed(errors.strip().splitlines()[-1])
            found: dict[str, float] = json.loads(output)
            return found

        try:
            if process.stdout.readline().strip() != READY:
                raise BenchFailed(process.communicate()[1].strip().splitlines()[-1])
            yield figures
        finally:
            process.kill()
