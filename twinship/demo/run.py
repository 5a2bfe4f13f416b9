"""The demo, step by step: everything real, on this machine, in the order in which an engineer would do it.

Starts, publishes, waits and stops. What a step means is its room's business; the figures are report.py's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from twinship.demo import DemoFailed
from twinship.demo.folder import SIMULATOR, emptied
from twinship.demo.models import DemoData
from twinship.demo.report import Summary, read_sent, read_upstream, shortcomings, summarise
from twinship.demo.show import Screen
from twinship.demo.watch import Watch
from twinship.fleet import connection as connections
from twinship.fleet import keys
from twinship.fleet.publish import PublishResult, publish
from twinship.fleet.service import ServiceHub
from twinship.simulator import Simulator, SimulatorSettings

DEVICE = "twinship"
#: Under which the figures came about: no figure of a local hub should pass for one of a real edgeHub.
PROFILE = {"hub": "simulator", "delivery_window": 1, "durability": "normal"}
SILENCE_S = 20.0  # no answer for so long while frames are due: the run is over
CLOSING_S = 10.0  # for the modules' last messages
VERDICT_S = 60.0
ENDLESS_SWAP_AT = 150  # frames; where there is no half way


@dataclass(frozen=True)
class DemoSettings:
    """What a person may choose."""

    template: Path
    folder: Path  # emptied at start: identities, queue, model store, keys, ledgers, summary.json
    frames: int = 300  # 0: until Ctrl-C
    fps: float = 10.0


@dataclass(frozen=True)
class Outcome:
    """The figures, and what keeps the run from being a success."""

    summary: Summary
    shortcomings: list[str]
    interrupted: bool = False  # a run without end, ended by Ctrl-C


class Run:
    """One demo. The methods are its steps, in order."""

    def __init__(self, settings: DemoSettings, data: DemoData, screen: Screen) -> None:
        self.settings = settings
        self.data = data
        self.screen = screen
        self.interrupted = False
        self.upstream = settings.folder / "upstream.jsonl"
        self.sent = settings.folder / "sent.jsonl"

    def run(self) -> Outcome:
        """The whole walk. Raises DemoFailed, and what the rooms raise; children never outlive it."""
        with emptied(self.settings.folder):
            keys.new(self.settings.folder / "keys")
            settings = self._simulator_settings()
            with Simulator(settings) as simulator:
                self._walk(simulator)
                self._keep(simulator.endpoints.upstream, self.upstream)
                self._keep(settings.folder / "modules" / "camera_sim" / "sent.jsonl", self.sent)
            return self._add_up()

    def _simulator_settings(self) -> SimulatorSettings:
        folder = self.settings.folder
        variables = {
            "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(folder / "keys"),
            "CAMERA_FOLDER": str(self.data.pictures.resolve()),
        }
        return SimulatorSettings(self.settings.template, folder / SIMULATOR, variables, device=DEVICE)

    def _walk(self, simulator: Simulator) -> None:
        endpoints = simulator.endpoints
        self.screen.step(f"simulator is up: IoT Hub {endpoints.hub_name}, edgeHub {endpoints.gateway}:8883")
        hub = connections.find({}, endpoints.service_env)
        self._set(hub, "inference", {"inference": {"overload": "all"}, "telemetry": {"predictions": "all"}})
        self._set(hub, "camera_sim", {"camera": self._camera(paused=True)})
        simulator.start_modules()
        self.screen.step("camera_sim and inference run on the unmodified Azure SDK over TLS")
        self._publish(hub, self.data.models[0], until_active=False)
        watch = Watch(endpoints.upstream)
        try:
            with self.screen.frames(self.settings.frames):
                self._set(hub, "camera_sim", {"camera": self._camera(paused=False)})
                try:
                    self._frames(hub, watch)
                except KeyboardInterrupt:
                    if self.settings.frames:
                        raise
                    self.interrupted = True  # the only end that a run without end has: show its figures
            simulator.stop_modules()
            watch.wait_closed(CLOSING_S)
        finally:
            watch.close()

    def _camera(self, *, paused: bool) -> Mapping[str, object]:
        return {"fps": self.settings.fps, "frames": self.settings.frames, "paused": paused, "ledger": True}

    def _set(self, hub: connections.Connection, module: str, patch: Mapping[str, object]) -> None:
        with ServiceHub(hub) as service:
            service.patch_desired(DEVICE, module, patch, "*")

    def _publish(self, hub: connections.Connection, model: Path, *, until_active: bool) -> PublishResult:
        key = keys.signing_key(self.settings.folder / "keys")
        result = publish(hub, model, key, DEVICE, "inference", wait_s=VERDICT_S, until_active=until_active)
        if not result.ok:
            error = result.verdict.error
            why = f"{error.code}: {error.message}" if error else f"no verdict within {VERDICT_S:.0f} s"
            raise DemoFailed(f"{result.ref} was not taken by the module ({result.verdict.state}; {why})")
        self.screen.step(
            f"{result.ref} shipped by module twin: {result.ref.size:,} bytes, "
            f"in use after {result.waited_s:.1f} s"
        )
        return result

    def _frames(self, hub: connections.Connection, watch: Watch) -> None:
        """Until every frame is answered, or nothing comes any more, or (without an end) Ctrl-C."""
        swap_at = self.settings.frames // 2 or ENDLESS_SWAP_AT
        with self._second_model(hub) as swap:
            answered = 0
            while not self.settings.frames or answered < self.settings.frames:
                if not watch.wait_more(answered, SILENCE_S) and not swap.is_alive():
                    return  # silence: what is missing will be lost frames in the sum
                live = watch.live()
                answered = live.answered
                self.screen.live(live)
                if answered >= swap_at and swap.ident is None:
                    swap.start()

    @contextmanager
    def _second_model(self, hub: connections.Connection) -> Iterator[threading.Thread]:
        """A thread, not started yet, that ships the second model; its failure is raised at the end."""
        failures: list[Exception] = []

        def ship() -> None:
            try:
                self._publish(hub, self.data.models[1], until_active=False)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=ship, name="second-model", daemon=True)
        yield thread
        if thread.ident is not None:
            thread.join()
        for failure in failures:
            raise failure

    @staticmethod
    def _keep(ledger: Path, at: Path) -> None:
        """Copy a ledger; one that was never begun is an empty one."""
        at.write_bytes(ledger.read_bytes() if ledger.exists() else b"")

    def _add_up(self) -> Outcome:
        with self.sent.open() as sent, self.upstream.open() as upstream:
            summary = summarise(self.data.dataset, read_sent(sent), read_upstream(upstream))
        plain = summary.to_json() | {"profile": PROFILE}
        (self.settings.folder / "summary.json").write_text(json.dumps(plain, indent=2) + "\n")
        found = shortcomings(
            summary,
            expected_frames=self.settings.frames,
            expected_versions=self.data.versions,
            minimum_accuracy=self.data.minimum_accuracy,
        )
        return Outcome(summary, found, self.interrupted)
