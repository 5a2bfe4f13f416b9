"""Sends what changed in a module to output `events`, because no module can read another one's twin.

The last event of each kind is repeated, so that a receiver that starts later knows the present state. A route
can leave the repeats out, because the kind and the repeat are message properties, too:

    FROM /messages/modules/inference/outputs/events WHERE repeated = 'false' INTO $upstream

>>> sent = []
>>> events = Events(lambda _output, message: not sent.append(message))
>>> events.changed("model", {"state": "active"}, now_ns=0)
>>> events.changed("model", {"state": "active"}, now_ns=1)  # nothing changed
>>> events.repeat(now_ns=REPEAT_NS)
>>> [message.properties for message in sent]
[{'kind': 'model', 'repeated': 'false'}, {'kind': 'model', 'repeated': 'true'}]
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edgekit.clock import wall_ns
from edgekit.frame.message import Message

EVENT_SCHEMA: Final = "twinship.event.v1"
OUTPUT: Final = "events"
REPEAT_NS: Final = 10_000_000_000


@dataclass(slots=True)
class _Last:
    body: Mapping[str, Any]
    at_ns: int  # of the change, wall clock, since the epoch
    sent_ns: int  # CLOCK_MONOTONIC
    stale: bool  # the outbox refused the change; the next message is not a repeat


class Events:
    """Remembers the last event of each kind. Any thread may call it."""

    def __init__(self, send: Callable[[str, Message], bool]) -> None:
        """`send` gets the name of the output and the message, and returns whether the outbox took it."""
        self._send = send
        self._last: dict[str, _Last] = {}
        self._lock = threading.Lock()

    def changed(self, kind: str, body: Mapping[str, Any], *, now_ns: int) -> None:
        """Send the event unless it equals the last one of its kind. `now_ns` is CLOCK_MONOTONIC."""
        with self._lock:
            last = self._last.get(kind)
            if last is None or last.body != body:
                self._last[kind] = _Last(body, wall_ns(), now_ns, stale=True)
                self._deliver(kind, self._last[kind])

    def repeat(self, *, now_ns: int) -> None:
        """Send the last event of each kind that is older than REPEAT_NS again."""
        with self._lock:
            for kind, last in self._last.items():
                if last.stale or now_ns - last.sent_ns >= REPEAT_NS:
                    last.sent_ns = now_ns
                    self._deliver(kind, last)

    def _deliver(self, kind: str, last: _Last) -> None:
        event = {
            "schema": EVENT_SCHEMA,
            "kind": kind,
            "repeated": not last.stale,
            "at_ns": last.at_ns,
            **last.body,
        }
        properties = {"kind": kind, "repeated": str(not last.stale).lower()}
        body = json.dumps(event, separators=(",", ":")).encode()
        message = Message(body, properties, content_type="application/json", content_encoding="utf-8")
        if self._send(OUTPUT, message):
            last.stale = False
