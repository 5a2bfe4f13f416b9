"""The module: the hub's messages go into the state, the server shows it."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from dashboard.access import Access
from dashboard.server import Server, Source, listen
from dashboard.settings import DashboardEnvironment
from dashboard.state import State
from edgekit.frame.message import Message
from edgekit.health_file import HealthFile
from edgekit.hub.connection import Hub

INPUTS: Final = ("predictions", "latency")


class Dashboard:
    """Connects hub, state and server. The hub's thread writes the state, the server's thread reads it."""

    def __init__(self, environment: DashboardEnvironment) -> None:
        """Bind the address. Raises OSError."""
        self._state = State(time.monotonic())
        self._lock = threading.Lock()
        self.hub: Final = Hub(inputs=dict.fromkeys(INPUTS, self._take), on_twin=lambda _twin: None)
        self._server = Server(
            listen(environment.address, environment.port),
            Access(environment.token, environment.hosts),
            Source(self._view, lambda: self._state.version),
            HealthFile(environment.health_file),
        )

    def start(self) -> None:
        """Serve the page; the hub starts later."""
        self._server.start()

    def stop(self, timeout_s: float) -> dict[str, int]:
        """Stop serving; messages that arrive from now on wait in edgeHub."""
        self.hub.stop_inputs(timeout_s / 2)
        self._server.stop(timeout_s / 2)
        return {}

    def _take(self, message: Message, _arrival: int) -> None:
        with self._lock:
            self._state.take(message.body, message.properties, time.monotonic())

    def _view(self) -> dict[str, Any]:
        connected = self.hub.connected
        with self._lock:
            return self._state.view(time.monotonic(), connected=connected)
