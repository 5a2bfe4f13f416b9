"""The demo, step by step: real processes on this machine, in the order in which an engineer would do it."""

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
from twinship.demo.page import open_page, page_address
from twinship.demo.report import Summary, read_send_log, read_upstream, shortcomings, summarise
from twinship.demo.show import Screen
from twinship.demo.watch import Watch
from twinship.fleet import connection as connections
from twinship.fleet import keys
from twinship.fleet.artefact_store import inline_or, simulator_folder
from twinship.fleet.publish import publish
from twinship.fleet.service import ServiceHub
from twinship.simulator import Simulator, SimulatorSettings

DEVICE = "twinship"
#: The conditions of the figures, which are not those of a real edgeHub.
PROFILE = {"hub": "simulator", "delivery_window": 1, "durability": "normal"}
SILENCE_S = 20.0  # without an answer: there will be none
CLOSING_S = 10.0  # for the modules' last messages
VERDICT_S = 60.0
ENDLESS_SWAP_AT = 150  # frames; a run without end has no middle


@dataclass(frozen=True)
class DemoSettings:
    """The options of the demo."""

    template: Path
    folder: Path  # emptied at start; for identities, queue, model store, keys, logs, summary.json
    frames: int = 300  # 0: until Ctrl-C
    fps: float = 10.0
    camera_source: str = ""  # as the twin's `camera.source`; empty: the pictures of the models' data set
    camera_folder: Path | None = None  # that `camera_source` lies in, if it is a file
    open_page: bool = False  # show the dashboard in a browser


@dataclass(frozen=True)
class Outcome:
    """The figures, and the reasons why the run is no success."""

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
        self._variables: Mapping[str, str] = {}  # of the simulator's service.env
        self.upstream = settings.folder / "upstream.jsonl"
        self.sent = settings.folder / "sent.jsonl"

    def run(self) -> Outcome:
        """Run all steps; no child process outlives them. Raises DemoFailed and the errors of the steps."""
        with emptied(self.settings.folder):
            keys.new(self.settings.folder / "keys")
            settings = self._simulator_settings()
            with Simulator(settings) as simulator:
                self._drive(simulator)
                self._copy(simulator.endpoints.upstream, self.upstream)
                self._copy(settings.folder / "modules" / "camera_sim" / "sent.jsonl", self.sent)
            return self._add_up()

    def _simulator_settings(self) -> SimulatorSettings:
        folder = self.settings.folder
        variables = {
            "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(folder / "keys"),
            "CAMERA_FOLDER": str((self.settings.camera_folder or self.data.pictures).resolve()),
        }
        return SimulatorSettings(self.settings.template, folder / SIMULATOR, variables, device=DEVICE)

    def _drive(self, simulator: Simulator) -> None:
        endpoints = simulator.endpoints
        self.screen.step(f"simulator is up: IoT Hub {endpoints.hub_name}, edgeHub {endpoints.gateway}:8883")
        hub = connections.find({}, endpoints.service_env)
        self._variables = connections.settings({}, endpoints.service_env)
        self._patch(hub, "inference", {"inference": {"overload": "all"}, "telemetry": {"predictions": "all"}})
        self._limit_frames(hub, self._before_swap, paused=True)
        simulator.start_modules()
        if page := page_address(self._simulator_settings()):
            self.screen.step(f"dashboard: {page}")
            if self.settings.open_page and not open_page(page):
                self.screen.step("dashboard: not opened here; open the address in a browser")
        self.screen.step("camera_sim and inference run on the unmodified Azure SDK over TLS")
        self._publish(hub, self.data.models[0])
        watch = Watch(endpoints.upstream)
        try:
            with self.screen.frames(self.settings.frames):
                self._limit_frames(hub, self._before_swap)
                try:
                    self._wait_frames(hub, watch)
                except KeyboardInterrupt:
                    if self.settings.frames:
                        raise
                    self.interrupted = True  # the only way to end such a run: show its figures
            simulator.stop_modules()
            watch.wait_closed(CLOSING_S)
        finally:
            watch.close()

    @property
    def _before_swap(self) -> int:
        """Frames that do not wait for the second model, so that it has some to answer on a slow machine."""
        return self.settings.frames - self.settings.frames // 4

    def _limit_frames(self, hub: connections.Connection, frames: int, *, paused: bool = False) -> None:
        camera: dict[str, object] = {
            "fps": self.settings.fps,
            "frames": frames,
            "paused": paused,
            "ledger": True,
        }
        if self.settings.camera_source:
            camera["source"] = self.settings.camera_source
        self._patch(hub, "camera_sim", {"camera": camera})

    def _patch(self, hub: connections.Connection, module: str, patch: Mapping[str, object]) -> None:
        with ServiceHub(hub) as service:
            service.patch_desired(DEVICE, module, patch, "*")

    def _publish(self, hub: connections.Connection, model: Path) -> None:
        key = keys.signing_key(self.settings.folder / "keys")
        store = inline_or(simulator_folder(self._variables))
        result = publish(
            hub, model, key, DEVICE, "inference", store=store, wait_s=VERDICT_S, until_active=False
        )
        if not result.ok:
            error = result.verdict.error
            why = f"{error.code}: {error.message}" if error else f"no verdict within {VERDICT_S:.0f} s"
            raise DemoFailed(f"the module did not accept {result.ref} ({result.verdict.state}; {why})")
        self.screen.step(
            f"{result.ref} shipped by module twin: {result.ref.size:,} bytes, "
            f"in use after {result.waited_s:.1f} s"
        )

    def _wait_frames(self, hub: connections.Connection, watch: Watch) -> None:
        """Wait until every frame is answered, or none for SILENCE_S, or until Ctrl-C."""
        swap_at = self.settings.frames // 2 or ENDLESS_SWAP_AT
        with self._second_model(hub) as swap:
            answered = 0
            while not self.settings.frames or answered < self.settings.frames:
                if not watch.wait_more(answered, SILENCE_S) and not swap.is_alive():
                    return  # the summary counts the missing frames as lost
                live = watch.live()
                answered = live.answered
                self.screen.live(live)
                if answered >= swap_at and swap.ident is None:
                    swap.start()

    @contextmanager
    def _second_model(self, hub: connections.Connection) -> Iterator[threading.Thread]:
        """A thread, not started yet, that publishes the second model; its error is raised at the end."""
        failures: list[Exception] = []

        def ship() -> None:
            try:
                self._publish(hub, self.data.models[1])
                self._limit_frames(hub, self.settings.frames)
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=ship, name="second-model", daemon=True)
        yield thread
        if thread.ident is not None:
            thread.join()
        for failure in failures:
            raise failure

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        """Copy a file; a missing one counts as empty."""
        target.touch(mode=0o600)
        target.write_bytes(source.read_bytes() if source.exists() else b"")

    def _add_up(self) -> Outcome:
        # a full disk can cut a line inside a character
        with self.sent.open(errors="replace") as sent, self.upstream.open(errors="replace") as upstream:
            log, arrived = read_send_log(sent), read_upstream(upstream)
        summary = summarise(self.data.dataset, log.frames, arrived, unreadable_sent=log.unreadable_lines)
        plain = summary.to_json() | {"profile": PROFILE}
        (self.settings.folder / "summary.json").write_text(json.dumps(plain, indent=2) + "\n")
        found = shortcomings(
            summary,
            expected_frames=self.settings.frames,
            expected_versions=self.data.versions,
            minimum_accuracy=self.data.minimum_accuracy,
        )
        return Outcome(summary, found, self.interrupted)
