"""The module: the hub's messages go into the state, the server shows it, the camera is asked for previews."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from dashboard.access import Access
from dashboard.control import CAMERA, INFERENCE, Change, DashboardSection, Outcome, perform
from dashboard.lease import PreviewLease
from dashboard.server import Changes, Server, Source, listen
from dashboard.settings import DashboardEnvironment
from dashboard.state import State
from edgekit.frame.message import Message
from edgekit.health_file import HealthFile
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from edgekit.settings import validate

logger = logging.getLogger(__name__)

INPUTS: Final = ("predictions", "latency", "events")
PICTURES: Final = "preview"


class Dashboard:
    """Connects hub, state and server. The hub's thread writes the state, the server's thread reads it."""

    def __init__(self, environment: DashboardEnvironment) -> None:
        """Bind the address. Raises OSError."""
        self._modules = {CAMERA: environment.camera, INFERENCE: environment.inference}
        self._section = DashboardSection()
        self._state = State(time.monotonic())
        self._lock = threading.Lock()
        inputs = {**dict.fromkeys(INPUTS, self._take), PICTURES: self._take_picture}
        self.hub: Final = Hub(inputs=inputs, on_twin=self._on_twin)
        self._lease = PreviewLease(lambda method, payload: self._call(CAMERA, method, payload), self._asked)
        self._server = Server(
            listen(environment.address, environment.port),
            Access(environment.token, environment.hosts),
            Source(self._view, lambda: self._state.version, self._picture, self._lease.pages),
            HealthFile(environment.health_file),
            Changes(lambda: self._section.control, self._change),
            environment.tls,
        )

    def start(self) -> None:
        """Serve the page; the hub starts later."""
        self._server.start()
        self._lease.start()

    def stop(self, timeout_s: float) -> dict[str, int]:
        """Stop serving; messages that arrive from now on wait in edgeHub."""
        self._lease.stop()
        self.hub.stop_inputs(timeout_s / 2)
        self._server.stop(timeout_s / 2)
        return {}

    def _on_twin(self, twin: Twin) -> None:
        """Apply and answer the section `dashboard`; without one, or with a bad one, the page only reads."""
        section = twin.desired.get("dashboard", {})
        self._section, answer = validate(section, DashboardSection, last=DashboardSection())
        patch = answer.reported("dashboard", int(twin.desired.get("$version", 0)))
        if twin.reported.get("dashboard") != patch["dashboard"]:
            self.hub.report(patch)
        if not answer.accepted:
            logger.warning("twin: dashboard: the page only reads: %s", answer.ad)

    def _take(self, message: Message, _arrival: int) -> None:
        with self._lock:
            self._state.take(message.body, message.properties, time.monotonic())

    def _take_picture(self, message: Message, _arrival: int) -> None:
        with self._lock:
            self._state.take_picture(message.body, message.properties, time.monotonic())

    def _view(self) -> dict[str, Any]:
        connected = self.hub.connected
        with self._lock:
            return self._state.view(time.monotonic(), connected=connected)

    def _picture(self, key: str) -> bytes | None:
        with self._lock:
            return self._state.picture(key)

    # On the thread of the lease, or of a change

    def _call(self, role: str, method: str, payload: Mapping[str, Any]) -> MethodAnswer:
        return self.hub.call_module(self._modules[role], method, dict(payload))

    def _change(self, change: Change, payload: Mapping[str, Any]) -> Outcome:
        outcome = perform(change, lambda: self._call(change.role, change.method, payload))
        logger.info("control: %s", change.name, extra={"done": outcome.done, "outcome": outcome.text})
        return outcome

    def _asked(self, failure: str) -> None:
        with self._lock:
            self._state.preview_asked(failure)
