"""The module: the hub's messages go into the state, the server shows it, the camera is asked for previews."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from dashboard.access import Access
from dashboard.lease import PreviewLease
from dashboard.server import Server, Source, listen
from dashboard.settings import DashboardEnvironment
from dashboard.state import State
from edgekit.frame.message import Message
from edgekit.health_file import HealthFile
from edgekit.hub.connection import Hub, MethodAnswer

INPUTS: Final = ("predictions", "latency", "events")
PICTURES: Final = "preview"


class Dashboard:
    """Connects hub, state and server. The hub's thread writes the state, the server's thread reads it."""

    def __init__(self, environment: DashboardEnvironment) -> None:
        """Bind the address. Raises OSError."""
        self._camera = environment.camera
        self._state = State(time.monotonic())
        self._lock = threading.Lock()
        inputs = {**dict.fromkeys(INPUTS, self._take), PICTURES: self._take_picture}
        self.hub: Final = Hub(inputs=inputs, on_twin=lambda _twin: None)
        self._lease = PreviewLease(self._call_camera, self._asked)
        self._server = Server(
            listen(environment.address, environment.port),
            Access(environment.token, environment.hosts),
            Source(self._view, lambda: self._state.version, self._picture, self._lease.pages),
            HealthFile(environment.health_file),
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

    # On the thread of the lease

    def _call_camera(self, method: str, payload: Mapping[str, Any]) -> MethodAnswer:
        return self.hub.call_module(self._camera, method, dict(payload))

    def _asked(self, failure: str) -> None:
        with self._lock:
            self._state.preview_asked(failure)
