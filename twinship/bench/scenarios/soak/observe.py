"""Observe a soak from outside: samples of each process, and frames that expired in the hub."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from twinship.bench import BenchFailed
from twinship.bench.rig.account import RestartedCounter
from twinship.bench.rig.memory import child_pid, usage
from twinship.bench.rig.rig import MODULES, Rig
from twinship.bench.rig.watching import Ticker, expired, metrics_page
from twinship.bench.scenarios.soak.flat import Sample

HUB: Final = "hub"
EXPIRED_S: Final = 1.0  # between two looks at the hub's counter


class Observer(Ticker):
    """Samples on a thread while it is entered. The thread alone writes, other threads read."""

    def __init__(self, rig: Rig, every_s: float) -> None:
        super().__init__(min(EXPIRED_S, every_s))
        self.samples: dict[str, list[Sample]] = {name: [] for name in (HUB, *MODULES)}
        self._expired = RestartedCounter()
        self._rig = rig
        self._every_s = every_s
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._due_s = 0.0

    @property
    def elapsed_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def expired(self) -> int:
        """Frames that expired in the hub so far, over all its processes. Call it before a kill of the hub."""
        with self._lock:
            with suppress(OSError, ValueError, KeyError):  # a hub that is being started begins at 0
                self._expired.see(expired(metrics_page(self._rig.simulator_folder)))
            return self._expired.total

    def tick(self) -> None:
        self.expired()
        if self.elapsed_s >= self._due_s:
            self._due_s = self.elapsed_s + self._every_s
            self._sample()

    def _sample(self) -> None:
        for name, pid in self._pids().items():
            if used := usage(pid):
                self.samples[name].append(Sample(round(self.elapsed_s, 1), pid, used))

    def _pids(self) -> Mapping[str, int]:
        states = self._rig.simulator.states()
        pids = {name: pid for name in MODULES if name in states and (pid := states[name].pid) is not None}
        try:
            return {HUB: child_pid("twinship.simulator.hub"), **pids}
        except BenchFailed:
            return pids  # it was killed
