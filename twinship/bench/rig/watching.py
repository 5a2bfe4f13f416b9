"""Looks at running processes from outside: resident memory, edgeHub's queue, what it dropped."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from twinship.bench.rig.rig import DEVICE, Rig

_RESIDENT: Final = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
TIMEOUT_S: Final = 5.0


def page(simulator: Path) -> str:
    """edgeHub's metrics as it serves them; `simulator`: the folder of the running hub."""
    url = json.loads((simulator / "endpoints.json").read_text())["metrics"][DEVICE]["edgeHub"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
    with opener.open(url, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode())


def total(metrics: str, name: str, **labels: str) -> int:
    """The sum of all samples of this name that have these labels; 0 where there is none."""
    samples = (sample for family in text_string_to_metric_families(metrics) for sample in family.samples)
    return int(
        sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
    )


def queued(metrics: str, module: str) -> int:
    """Messages that wait in edgeHub for this module."""
    return total(metrics, "edgehub_queue_length", endpoint=f"{DEVICE}/{module}")


def expired(metrics: str) -> int:
    """Messages that outlived the time to live of their route."""
    return total(metrics, "edgehub_messages_dropped_total", reason="ttl_expiry")


def connects(metrics: str, module: str) -> int:
    """How often this module has come onto the line."""
    return total(metrics, "edgehub_client_connect_success_total", id=f"{DEVICE}/{module}")


def resident_mb(process: int) -> float:
    """Resident memory; 0 for a process that has ended."""
    try:
        found = _RESIDENT.search(Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


@dataclass
class Peaks:
    """The largest values since the watch began."""

    queue: int = 0
    memory_mb: dict[str, float] = field(default_factory=dict)  # module → resident


class Watch:
    """Samples while it is entered."""

    EVERY_S: Final = 0.2

    def __init__(self, rig: Rig) -> None:
        self.peaks = Peaks()
        self._rig = rig
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watching", daemon=True)

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.EVERY_S):
            self._sample()

    def _sample(self) -> None:
        peaks = self.peaks
        peaks.queue = max(peaks.queue, queued(page(self._rig.upstream.parent), "inference"))
        for module, state in self._rig.simulator.states().items():
            if state.pid is not None:
                peaks.memory_mb[module] = round(
                    max(peaks.memory_mb.get(module, 0.0), resident_mb(state.pid)), 1
                )
