"""Scenario `soak`: an hour at 100 frames/s with swaps and link cuts, and kills in the last 20 minutes.

Phase 1 has no kills: after ten minutes no process may grow. In phase 2 hub, camera and inference are killed
in turn (never the launcher, which starts them again). At the end every frame must be in exactly one count.
TWINSHIP_SOAK_SCALE=0.02 shortens both phases, for a first look; its growth says little.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.rig import account
from twinship.bench.rig.operator import steady_camera
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.waiting import quiet, until
from twinship.bench.rig.watching import Answers, expired, metrics_page, queued
from twinship.bench.scenarios.soak.flat import Sample, growth, worst
from twinship.bench.scenarios.soak.observe import HUB, Observer
from twinship.fleet import FleetError
from twinship.simulator import NoControl, set_fault

SCALE: Final = "TWINSHIP_SOAK_SCALE"
FPS: Final = 100.0
VICTIMS: Final = (HUB, "camera_sim", "inference")
BACK_S: Final = 60.0  # from a kill to the answer to a frame that was captured after it
FINISHED_S: Final = 60.0
QUIET_S: Final = 2.5  # without an answer: there will be none; `latency` messages come every second
RESTART_S: Final = 20.0  # inference decides 15 s after its start which frames a killed process has lost
LOOK_S: Final = 1.0
MAX_GROWTH_MB: Final = 2.0


@dataclass(frozen=True)
class Extent:
    """Durations in seconds."""

    steady_s: float = 2400.0
    settle_s: float = 600.0  # part of steady_s: growth counts from here on
    kills_s: float = 1200.0
    swap_every_s: float = 60.0
    cut_every_s: float = 150.0
    cut_s: float = 10.0
    #: The launcher waits up to 5 s before the fourth start of a module, and frames live 10 s in the hub.
    kill_every_s: float = 100.0
    sample_every_s: float = 10.0
    victims: tuple[str, ...] = VICTIMS  # killed in this order, again and again

    def scaled(self, scale: float) -> Self:
        """Shorter phases, and more frequent events as far as a small machine can do them."""
        return replace(
            self,
            steady_s=self.steady_s * scale,
            settle_s=self.settle_s * scale,
            kills_s=self.kills_s * scale,
            swap_every_s=max(min(6.0, self.swap_every_s), self.swap_every_s * scale),
            cut_every_s=max(min(7.0, self.cut_every_s), self.cut_every_s * scale),
            cut_s=max(min(1.0, self.cut_s), self.cut_s * scale),
            kill_every_s=max(min(4.0, self.kill_every_s), self.kill_every_s * scale),
            sample_every_s=max(min(0.5, self.sample_every_s), self.sample_every_s * scale),
        )


def measure(bench: Bench) -> Mapping[str, Any]:
    """The figures; `missed` lists the limits that they exceed."""
    figures = run(bench, Extent().scaled(scale()))
    return {**figures, "missed": shortcomings(figures)}


def scale(environment: Mapping[str, str] = os.environ) -> float:
    """The value of TWINSHIP_SOAK_SCALE. Raises BenchFailed unless it is above 0 and at most 1.

    >>> scale({}), scale({"TWINSHIP_SOAK_SCALE": "0.02"})
    (1.0, 0.02)
    """
    text = environment.get(SCALE, "1")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise BenchFailed(f"{SCALE}={text[:40]!r} is not a number above 0 and at most 1, such as 0.02")
    return value


def run(bench: Bench, extent: Extent) -> dict[str, Any]:
    """The figures alone."""
    with Rig(RigSettings(bench.folder / "rig", bench.pictures, steady_camera(FPS))) as rig:
        rig.start()
        rig.publish(bench.models[0])
        with Observer(rig, extent.sample_every_s) as observer:
            return _Soak(bench, extent, rig, observer).run()


class _Soak:
    """One run: its events come one after the other, from this thread."""

    def __init__(self, bench: Bench, extent: Extent, rig: Rig, observer: Observer) -> None:
        self._bench = bench
        self._extent = extent
        self._rig = rig
        self._observer = observer
        self._answers = Answers(rig.upstream)
        self._swaps = 0
        self._failed_swaps: list[str] = []
        self._cuts: Counter[str] = Counter()
        self._kills: Counter[str] = Counter()
        self._back_s: dict[str, float] = {}
        self._decided_at = 0.0  # monotonic time when the account of the last kill is complete

    def run(self) -> dict[str, Any]:
        """Both phases, then the account."""
        extent = self._extent
        self._rig.patch("camera_sim", {"camera": {"paused": False}})
        until(lambda: self._answers.update().count, BACK_S, "the first answer")
        events = {"swap": (extent.swap_every_s, self._swap), "cut": (extent.cut_every_s, self._cut)}
        self._phase("without kills", extent.steady_s, events)
        steady = {name: list(samples) for name, samples in self._observer.samples.items()}
        grown = {name: growth(samples, extent.settle_s) for name, samples in steady.items()}
        self._phase("with kills", extent.kills_s, {**events, "kill": (extent.kill_every_s, self._kill)})
        frames = self._finish()
        return {
            "steady_s": extent.steady_s,
            "kills_s": extent.kills_s,
            "answers": self._answers.count,
            "swaps": self._swaps,
            "failed_swaps": self._failed_swaps,
            "cuts": dict(self._cuts),
            "kills": dict(self._kills),
            "back_after_s": self._back_s,
            **worst(grown),
            "growth": {name: each.to_json() for name, each in grown.items()},
            "frames": frames,
            "samples": {name: table(samples) for name, samples in self._observer.samples.items()},
        }

    def _phase(
        self, name: str, seconds: float, events: Mapping[str, tuple[float, Callable[[], None]]]
    ) -> None:
        """Run the events at their intervals until the time is over; each happens at least once."""
        began = time.monotonic()
        due_s = {event: every_s for event, (every_s, _) in events.items()}
        happened: Counter[str] = Counter()
        least = {event: len(self._extent.victims) if event == "kill" else 1 for event in events}
        while (now_s := time.monotonic() - began) < seconds or any(
            happened[event] < least[event] for event in events
        ):
            self._progress(name, now_s, seconds)
            event = min(due_s, key=due_s.__getitem__)
            if due_s[event] <= now_s:
                every_s, act = events[event]
                act()
                happened[event] += 1
                due_s[event] = time.monotonic() - began + every_s
            else:
                time.sleep(min(LOOK_S, due_s[event] - now_s))

    def _progress(self, name: str, now_s: float, seconds: float) -> None:
        whole_s = self._extent.steady_s + self._extent.kills_s
        share = min(1.0, self._observer.elapsed_s / whole_s)
        kills = f", {self._kills.total()} kills" if self._kills else ""
        self._bench.progress(
            f"{name}, {now_s / 60:.1f} of {seconds / 60:.1f} minutes: "
            f"{self._answers.update().count:,} answers, {self._swaps} swaps, "
            f"{self._cuts.total()} link cuts{kills}",
            share,
        )

    def _swap(self) -> None:
        model = self._bench.models[(self._swaps + len(self._failed_swaps) + 1) % 2]
        try:
            self._rig.publish(model)
            self._swaps += 1
        except (BenchFailed, FleetError) as error:
            self._failed_swaps.append(str(error))

    def _cut(self) -> None:
        """Cut the link to the cloud, and the next time every connection of the modules."""
        name = "drop-connections" if self._cuts.total() % 2 else "cut-upstream"
        folder = self._rig.simulator_folder
        try:
            if name == "drop-connections":
                set_fault(folder, name)
            else:
                set_fault(folder, name, 1)
                time.sleep(self._extent.cut_s)
                set_fault(folder, name, 0)
        except NoControl as error:
            raise BenchFailed(f"soak: the hub takes no fault: {error}") from error
        self._cuts[name] += 1

    def _kill(self) -> None:
        """Kill the next victim and wait for the answer to a frame that was captured after that."""
        victim = self._extent.victims[self._kills.total() % len(self._extent.victims)]
        killed_ns = time.time_ns()
        if victim == HUB:
            self._rig.simulator.kill_hub()
            self._rig.simulator.wait_hub()
        else:
            pid = self._rig.simulator.states()[victim].pid
            if pid is None:
                raise BenchFailed(f"soak: the module {victim} does not run")
            os.kill(pid, signal.SIGKILL)
        self._kills[victim] += 1
        until(
            lambda: self._answers.update().newest_ns > killed_ns,
            BACK_S,
            f"an answer after the kill of {victim}",
        )
        back_s = round((time.time_ns() - killed_ns) / 1e9, 2)
        if victim == "inference":
            self._decided_at = time.monotonic() + RESTART_S
        self._back_s[victim] = max(back_s, self._back_s.get(victim, 0.0))

    def _queued(self) -> int:
        return queued(metrics_page(self._rig.simulator_folder), "inference")

    def _finish(self) -> dict[str, Any]:
        """Pause the camera, wait until no frame is under way, end the modules, and add up."""
        self._bench.progress("waiting for the last frames", 1.0)
        self._rig.patch("camera_sim", {"camera": {"paused": True}})
        is_quiet = quiet(lambda: self._answers.update().count, self._queued, QUIET_S)
        until(
            lambda: is_quiet() and time.monotonic() > self._decided_at,
            FINISHED_S,
            "the last frames",
            every_s=0.2,
        )
        self._rig.stop()
        time.sleep(LOOK_S)  # the closing messages go upstream
        with self._rig.sent.open() as sent, self._rig.upstream.open() as upstream:
            hub = metrics_page(self._rig.simulator_folder)
            waiting = queued(hub, "inference")
            found = account.account(sent, upstream, expired=expired(hub), waiting=waiting)
            return found.to_json()


def shortcomings(figures: Mapping[str, Any]) -> list[str]:
    """Each limit that the figures exceed, one line."""
    found = []
    for name, grown in figures["growth"].items():
        if (mb := max(grown["rss_mb"], grown["pss_mb"])) > MAX_GROWTH_MB:
            found.append(f"{name} grew by {mb:.1f} MB, the limit is {MAX_GROWTH_MB:g}")
        if grown["threads"] > 0:
            found.append(f"{name} has {grown['threads']} more threads")
        if grown["restarts"]:
            found.append(f"{name} was started again {grown['restarts']} times without a kill")
    found += account.shortcomings(figures["frames"])
    if figures["failed_swaps"]:
        found.append(f"{len(figures['failed_swaps'])} swaps failed: {figures['failed_swaps'][0]}")
    return found


def table(samples: list[Sample]) -> dict[str, list[float]]:
    """Samples over time as columns, for the report."""
    return {
        "at_s": [each.at_s for each in samples],
        "rss_mb": [each.usage.rss_mb for each in samples],
        "pss_mb": [each.usage.pss_mb for each in samples],
        "threads": [each.usage.threads for each in samples],
    }
