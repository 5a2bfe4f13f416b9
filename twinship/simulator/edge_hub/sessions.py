"""MQTT sessions: the subscriptions of a client and the messages it has not acknowledged yet (ref 4.3).

A session outlives its connection, and its subscriptions outlive the process. It belongs to the server where
it was opened: the hub of an edge device, or IoT Hub (gateway None). It sends through a Link, which the server
or a test provides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from twinship.simulator.edge_hub.topics import Subscription, matches, subscription
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import Publish
from twinship.simulator.store import Store

MAX_UNACKNOWLEDGED: Final = (
    1024  # a client that acknowledges nothing must not fill the memory: it is disconnected
)
_LAST_PACKET_ID: Final = 0xFFFF
DOCUMENTS: Final = "sessions"


class Link(Protocol):
    """A live connection to one client."""

    gateway: str | None  # the edge device that the client connected to; None: IoT Hub

    def send(self, data: bytes) -> None:
        """Write bytes; does nothing after the connection has ended."""

    def close(self, reason: str) -> None:
        """End the connection and log the reason."""


@dataclass(slots=True)
class Unacknowledged:
    """A QoS 1 message without a PUBACK. `resend`: send it again on a new connection."""

    topic: str
    body: bytes = field(repr=False)
    acknowledged: Callable[[], None] | None
    resend: bool


class Session:
    """The session of one client; its link is the newest connection."""

    def __init__(
        self, identity: Identity, gateway: str | None, filters: Mapping[str, int] | None = None
    ) -> None:
        self.identity = identity
        self.gateway = gateway
        self.link: Link | None = None
        self.heard = 0.0  # when its last packet came, seconds since the epoch
        self.persistent = True
        self.unacknowledged: dict[int, Unacknowledged] = {}
        self.filters: dict[str, int] = {}
        self._meanings: dict[Subscription, list[str]] = {}
        self._last_packet_id = 0
        self.subscribe((filters or {}).items())

    def subscribe(self, filters: Iterable[tuple[str, int]]) -> tuple[int, ...]:
        """Add filters; returns the QoS granted to each, at most 1 (ref 4.3)."""
        granted = []
        for topic_filter, qos in filters:
            self.filters[topic_filter] = min(qos, 1)
            granted.append(min(qos, 1))
        self._read_filters()
        return tuple(granted)

    def unsubscribe(self, filters: Iterable[str]) -> None:
        """Remove filters; an unknown filter is not an error (MQTT-3.10.4-5)."""
        for topic_filter in filters:
            self.filters.pop(topic_filter, None)
        self._read_filters()

    def ready_for(self, meaning: Subscription) -> bool:
        """Whether the client is connected and has subscribed to this."""
        return self.link is not None and meaning in self._meanings

    def qos(self, meaning: Subscription, topic: str) -> int | None:
        """The QoS of the subscription that covers this topic; None: no stored filter does."""
        most = None
        for known in self._meanings.get(meaning, ()):
            if matches(known, topic):
                most = max(most or 0, self.filters[known])
        return most

    def publish(
        self,
        meaning: Subscription,
        topic: str,
        body: bytes,
        *,
        acknowledged: Callable[[], None] | None = None,
        resend: bool = False,
        qos_0: bool = False,
    ) -> int | None:
        """Send a message if a stored filter covers it.

        Returns its packet id; 0 if it was sent with QoS 0 (of the filter, or by `qos_0`), so that no PUBACK
        comes; None if it was not sent. `acknowledged` is called when the PUBACK comes.
        """
        qos = self.qos(meaning, topic)
        if self.link is None or qos is None:
            return None
        if qos == 0 or qos_0:
            self.link.send(Publish(topic, body).encode())
            return 0
        if len(self.unacknowledged) >= MAX_UNACKNOWLEDGED:
            self.link.close(f"{MAX_UNACKNOWLEDGED} messages without a PUBACK")
            return None
        packet_id = self._free_packet_id()
        self.unacknowledged[packet_id] = Unacknowledged(topic, body, acknowledged, resend)
        self.link.send(Publish(topic, body, 1, packet_id).encode())
        return packet_id

    def resend(self, packet_id: int) -> None:
        """Send an unacknowledged message again: same packet id, DUP set (MQTT-3.3.1-1)."""
        waiting = self.unacknowledged[packet_id]
        if self.link is not None and any(matches(known, waiting.topic) for known in self.filters):
            self.link.send(Publish(waiting.topic, waiting.body, 1, packet_id, dup=True).encode())

    def puback(self, packet_id: int) -> None:
        """Handle a PUBACK; an unknown packet id is not an error."""
        waiting = self.unacknowledged.pop(packet_id, None)
        if waiting is not None and waiting.acknowledged is not None:
            waiting.acknowledged()

    def resume(self) -> None:
        """On a new connection: send `resend` messages again in order (MQTT-4.4.0-1); forget the others."""
        for packet_id, waiting in list(self.unacknowledged.items()):
            if waiting.resend:
                self.resend(packet_id)
            else:
                del self.unacknowledged[packet_id]

    def _free_packet_id(self) -> int:
        packet_id = self._last_packet_id
        while True:
            packet_id = packet_id % _LAST_PACKET_ID + 1
            if packet_id not in self.unacknowledged:
                self._last_packet_id = packet_id
                return packet_id

    def _read_filters(self) -> None:
        self._meanings = {}
        for topic_filter in self.filters:
            meaning = subscription(topic_filter)
            if meaning is Subscription.INPUTS and self.gateway is None:
                continue  # only edgeHub has inputs: IoT Hub routes nothing to a module
            if meaning is not None:
                self._meanings.setdefault(meaning, []).append(topic_filter)


class Sessions:
    """All sessions by identity; the persistent ones are in the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions = {
            identity: Session(identity, stored["gateway"], stored["filters"])
            for identity, stored in _read(store.documents(DOCUMENTS)).items()
        }

    def get(self, identity: Identity) -> Session | None:
        """The session of an identity, connected or not."""
        return self._sessions.get(identity)

    def connected(self) -> list[Session]:
        """All sessions whose client is connected."""
        return [session for session in self._sessions.values() if session.link is not None]

    def open(self, identity: Identity, gateway: str | None, *, clean: bool) -> tuple[Session, bool]:
        """The session for a CONNECT, and whether it was present before (MQTT-3.1.2-4 to -6).

        A session at another server ends with this, and its subscriptions are forgotten.
        """
        present = self._sessions.get(identity)
        if present is not None and not clean and present.persistent and present.gateway == gateway:
            return present, True
        session = self._sessions[identity] = Session(identity, gateway)
        session.persistent = not clean
        self.save(session)
        return session, False

    def save(self, session: Session) -> None:
        """Store a session's subscriptions; removes the record of a clean session."""
        if session.persistent:
            self._store.put(
                DOCUMENTS, str(session.identity), {"gateway": session.gateway, "filters": session.filters}
            )
        else:
            self._store.delete(DOCUMENTS, str(session.identity))

    def remove(self, identity: Identity) -> None:
        """Forget the session of a removed identity."""
        self._sessions.pop(identity, None)
        self._store.delete(DOCUMENTS, str(identity))

    def forget(self, session: Session) -> None:
        """Forget a clean session whose connection has ended."""
        if self._sessions.get(session.identity) is session:
            del self._sessions[session.identity]


def _read(documents: Mapping[str, Any]) -> dict[Identity, Any]:
    return {Identity.parse(name): stored for name, stored in documents.items()}
