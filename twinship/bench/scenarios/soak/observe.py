"""Observe a soak from outside: samples of each process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from twinship.bench import BenchFailed
from twinship.bench.rig.memory import child_pid, usage
from twinship.bench.rig.rig import MODULES, Rig
from twinship.bench.rig.watching import Ticker
from twinship.bench.scenarios.soak.flat import Sample

HUB: Final = "hub"


class Observer(Ticker):
    """Samples on a thread while it is entered. The thread alone writes, other threads read."""

    def __init__(self, rig: Rig, every_s: float) -> None:
        super().__init__(every_s)
        self.samples: dict[str, list[Sample]] = {name: [] for name in (HUB, *MODULES)}
        self._rig = rig
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def tick(self) -> None:
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
