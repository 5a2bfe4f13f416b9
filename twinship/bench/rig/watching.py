"""Observe running processes from outside: resident memory, edgeHub's queue and drop counters, answers."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from prometheus_client.parser import text_string_to_metric_families

from twinship.bench.rig.memory import resident_mb
from twinship.bench.rig.rig import DEVICE, Rig

TIMEOUT_S: Final = 5.0
_CAPTURED: Final = re.compile(rb'"captured":\s*(\d+)')  # once in each prediction, alone or in a batch


def metrics_page(simulator: Path, device: str = DEVICE) -> str:
    """edgeHub's metrics of an edge device. `simulator` is the folder of the running simulator."""
    url = json.loads((simulator / "endpoints.json").read_text())["metrics"][device]["edgeHub"]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy: it is on this machine
    with opener.open(url, timeout=TIMEOUT_S) as answer:
        return str(answer.read().decode())


def total(metrics: str, name: str, **labels: str) -> int:
    """The sum of all samples with this name and these labels; 0 if there is none.

    >>> total('dropped_total{reason="a"} 3' + chr(10), "dropped_total", reason="a")
    3
    """
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
    """Messages that edgeHub dropped because the time to live of their route was over."""
    return total(metrics, "edgehub_messages_dropped_total", reason="ttl_expiry")


def connects(metrics: str, module: str) -> int:
    """How often this module has connected."""
    return total(metrics, "edgehub_client_connect_success_total", id=f"{DEVICE}/{module}")


@dataclass
class Peaks:
    """The largest values that were sampled."""

    queue: int = 0  # messages in edgeHub for inference
    memory_mb: dict[str, float] = field(default_factory=dict)  # module → resident


class Ticker(ABC):
    """Calls `tick` on a thread every `every_s` seconds while it is entered."""

    def __init__(self, every_s: float) -> None:
        self._tick_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._tick_s):
            self.tick()

    @abstractmethod
    def tick(self) -> None:
        """What a subclass does each time."""


class PeakSampler(Ticker):
    """Samples while it is entered, and once at the beginning."""

    EVERY_S: Final = 0.2

    def __init__(self, rig: Rig) -> None:
        super().__init__(self.EVERY_S)
        self.peaks = Peaks()
        self._rig = rig
        self.tick()

    def tick(self) -> None:
        peaks = self.peaks
        peaks.queue = max(peaks.queue, queued(metrics_page(self._rig.simulator_folder), "inference"))
        for module, state in self._rig.simulator.states().items():
            if state.pid is not None:
                peak_mb = max(peaks.memory_mb.get(module, 0.0), resident_mb(state.pid))
                peaks.memory_mb[module] = round(peak_mb, 1)


class Answers:
    """Counts the answers upstream and keeps the newest capture time.

    It does not parse the messages, because the modules need the cores.
    """

    def __init__(self, path: Path) -> None:
        self.count = 0
        self.newest_ns = 0  # capture time of an answered frame, ns since the epoch
        self._path = path
        self._position = 0

    def update(self) -> Self:
        """Read the complete lines that were appended."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._position)
                appended = file.read()
            appended = appended[: appended.rfind(b"\n") + 1]
            self._position += len(appended)
            captured = [int(each) for each in _CAPTURED.findall(appended)]
            self.count += len(captured)
            self.newest_ns = max([self.newest_ns, *captured])
        return self
