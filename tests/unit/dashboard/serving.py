"""A dashboard's server on a free port of loopback."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from threading import Lock
from typing import Any

from dashboard.access import Access
from dashboard.control import Change, Outcome
from dashboard.server import Changes, Server, Source, listen
from dashboard.state import State
from edgekit.health_file import HealthFile
from tests.unit.dashboard.bodies import body


@dataclass
class Served:
    """A running server and its state."""

    state: State
    port: int
    lock: Lock
    connected: bool = True
    pages: list[int] = field(default_factory=list)  # how many were open, at each change
    control: bool = False  # whether the twin allows changes
    changes: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)  # made, with their payloads
    outcome: Outcome = field(default_factory=lambda: Outcome(True, "The camera is paused."))  # of each change
    answers: list[HTTPResponse] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://127.0.0.1:{self.port}/"

    def take(self, *messages: dict[str, Any]) -> None:
        """The hub delivers these messages."""
        with self.lock:
            for message in messages:
                self.state.take(body(message), {}, time.monotonic())

    def take_picture(self, body: bytes, **properties: str) -> None:
        """The hub delivers this preview."""
        with self.lock:
            self.state.take_picture(body, properties, time.monotonic())

    def send(
        self, path: str, method: str = "GET", content: bytes | str | None = None, **headers: str
    ) -> HTTPConnection:
        """Send one request, and do not wait for its answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        connection.request(method, path, content, headers={"Connection": "close", **given})
        return connection

    def get(
        self, path: str, method: str = "GET", content: bytes | str | None = None, **headers: str
    ) -> HTTPResponse:
        """One request; the body is not read yet."""
        self.answers.append(self.send(path, method, content, **headers).getresponse())
        return self.answers[-1]

    def change(self, change: Change, payload: Mapping[str, Any]) -> Outcome:
        """The module makes this change."""
        self.changes.append((change.name, payload))
        return self.outcome


@contextmanager
def serving(token: str | None = None, tls: ssl.SSLContext | None = None) -> Iterator[Served]:
    """Serve until the block ends."""
    listener = listen("127.0.0.1", 0)
    served = Served(State(time.monotonic()), listener.getsockname()[1], Lock())

    def view() -> dict[str, Any]:
        with served.lock:
            return served.state.view(time.monotonic(), connected=served.connected)

    def picture(key: str) -> bytes | None:
        with served.lock:
            return served.state.picture(key)

    source = Source(view, lambda: served.state.version, picture, served.pages.append)
    changes = Changes(lambda: served.control, lambda *change: served.change(*change))
    server = Server(listener, Access(token, frozenset()), source, HealthFile(None), changes, tls)
    served.stop = partial(server.stop, 10)
    server.start()
    try:
        yield served
    finally:
        for answer in served.answers:
            answer.close()
        served.stop()
