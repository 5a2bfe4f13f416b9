"""Cloud-to-device messages: a stored queue for each device, and feedback about what became of them (ref 5.5).

A device that has subscribed gets its messages in order. A PUBACK completes one. A new connection delivers
again what has no PUBACK; after ten deliveries the message ends. Its `ack` says which end makes feedback.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

from twinship.simulator.clock import Clock
from twinship.simulator.common.times import iso_time
from twinship.simulator.edge_hub import topics
from twinship.simulator.edge_hub.sessions import Link, Session
from twinship.simulator.edge_hub.topics import Subscription
from twinship.simulator.identity import Identity
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

MAX_WAITING: Final = 50  # of one device (ref 5.5)
MAX_BYTES: Final = 65_536  # body and properties (ref 5.5)
MAX_DELIVERIES: Final = 10  # the service's default
TIME_TO_LIVE_S: Final = 3_600.0  # the service's default
MAX_FEEDBACK: Final = 1_000  # records that no service reads push the oldest out
CHECK_EVERY_S: Final = 1.0
ACKS: Final = ("none", "positive", "negative", "full")
SUCCESS, EXPIRED, TOO_OFTEN = "Success", "Expired", "DeliveryCountExceeded"
DOCUMENTS, FEEDBACK = "cloud_to_device", "feedback"


class NotAccepted(Exception):
    """The message is not stored. The text is the reason."""


class NoDevice(NotAccepted):
    """There is no device of this name."""


class QueueFull(NotAccepted):
    """As many messages as a device may have wait for it."""


@dataclass(slots=True)
class CloudMessage:
    """One message. `system` has the names of routes; times are seconds since the epoch."""

    device: str
    properties: Mapping[str, str]
    system: Mapping[str, str]
    body: bytes = field(repr=False)
    ack: str = "none"
    expires: float = 0.0
    enqueued: float = 0.0
    deliveries: int = 0


@dataclass(eq=False, slots=True)
class _Queued:
    key: str
    message: CloudMessage
    session: Session | None = None  # which has sent it
    link: Link | None = None


class CloudToDevice:
    """The queues of all devices. `on_feedback` is called when there is feedback to read."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        session: Callable[[Identity], Session | None],
        generation: Callable[[Identity], str | None],
    ) -> None:
        self.on_feedback: Callable[[], None] = lambda: None
        self._store = store
        self._clock = clock
        self._session = session
        self._generation = generation
        self._waiting: dict[str, dict[str, _Queued]] = {}
        for key, stored in sorted(store.documents(DOCUMENTS).items()):
            body = base64.b64decode(stored.pop("body"))
            self._keep(_Queued(key, CloudMessage(body=body, **stored)))
        self._feedback = dict(sorted(store.documents(FEEDBACK).items()))
        keys = [key for queue in self._waiting.values() for key in queue]
        self._next = 1 + max(map(int, (*keys, *self._feedback)), default=0)

    def start(self) -> None:
        """Begin to end messages whose time is over."""
        self._clock.later(CHECK_EVERY_S, self._check)

    def send(self, message: CloudMessage) -> None:
        """Store a message and deliver it after the commit. Raises NotAccepted."""
        if self._generation(Identity(message.device)) is None:
            raise NoDevice(f"there is no device {message.device!r}")
        texts = (*message.properties, *message.properties.values(), *message.system.values())
        if len(message.body) + sum(map(len, texts)) > MAX_BYTES:
            raise NotAccepted(f"the message is larger than {MAX_BYTES} bytes")
        if len(self._waiting.get(message.device, ())) >= MAX_WAITING:
            raise QueueFull(f"{MAX_WAITING} messages wait for {message.device!r} already")
        message.enqueued = self._clock.wall()
        message.expires = message.expires or message.enqueued + TIME_TO_LIVE_S
        queued = _Queued(self._key(), message)
        self._keep(queued)
        self._save(queued)
        self._store.after_commit(partial(self.pump, Identity(message.device)))

    def pump(self, identity: Identity) -> None:
        """Send a device what waits for it, as its connection and subscription allow."""
        session = self._session(identity)
        if identity.module is not None or session is None or session.link is None:
            return
        for queued in list(self._waiting.get(identity.device, {}).values()):
            if not self._deliver(queued, session):
                return

    def removed(self, identity: Identity) -> None:
        """Forget the messages of a removed device."""
        for key in self._waiting.pop(identity.device, {}) if identity.module is None else ():
            self._store.delete(DOCUMENTS, key)

    def feedback(self, most: int) -> dict[str, Mapping[str, Any]]:
        """The oldest feedback records by key."""
        return {key: self._feedback[key] for key in list(self._feedback)[:most]}

    def feedback_read(self, keys: list[str]) -> None:
        """Remove feedback records that a service has accepted."""
        for key in keys:
            if self._feedback.pop(key, None) is not None:
                self._store.delete(FEEDBACK, key)

    def _deliver(self, queued: _Queued, session: Session) -> bool:
        message = queued.message
        if queued.session is session and queued.link is session.link:
            return True
        if not session.ready_for(Subscription.CLOUD_TO_DEVICE):
            return False
        if message.deliveries >= MAX_DELIVERIES:
            self._end(queued, TOO_OFTEN)
            return True
        resent = queued.session is session  # by the session itself, with DUP
        queued.session, queued.link = session, session.link
        message.deliveries += 1
        self._save(queued)
        return resent or self._publish(queued, session)

    def _publish(self, queued: _Queued, session: Session) -> bool:
        message = queued.message
        bag = topics.join_bag(message.properties, message.system)
        topic = f"devices/{message.device}/messages/devicebound/{bag}"
        done = partial(self._end, queued, SUCCESS)
        sent = session.publish(
            Subscription.CLOUD_TO_DEVICE, topic, message.body, acknowledged=done, resend=True
        )
        if sent == 0:
            done()
        elif sent is None:
            queued.session = queued.link = None
        return sent is not None

    def _end(self, queued: _Queued, outcome: str) -> None:
        queue = self._waiting.get(queued.message.device, {})
        if queue.pop(queued.key, None) is None:
            return
        self._store.delete(DOCUMENTS, queued.key)
        logger.info("%s: a cloud-to-device message ended: %s", queued.message.device, outcome)
        if queued.message.ack in ("full", "positive" if outcome == SUCCESS else "negative"):
            self._add_feedback(queued.message, outcome)

    def _add_feedback(self, message: CloudMessage, outcome: str) -> None:
        if len(self._feedback) >= MAX_FEEDBACK:
            self.feedback_read([next(iter(self._feedback))])
        key = self._key()
        self._feedback[key] = {
            "originalMessageId": message.system.get("messageId", ""),
            "enqueuedTimeUtc": iso_time(self._clock.wall()),
            "statusCode": outcome,
            "description": outcome,
            "deviceId": message.device,
            "deviceGenerationId": self._generation(Identity(message.device)) or "",
        }
        self._store.put(FEEDBACK, key, self._feedback[key])
        self._store.after_commit(self.on_feedback)

    def _check(self) -> None:
        now = self._clock.wall()
        due = [
            queued
            for queue in self._waiting.values()
            for queued in queue.values()
            if queued.message.expires <= now
        ]
        for queued in due:
            self._end(queued, EXPIRED)
        self._clock.later(CHECK_EVERY_S, self._check)

    def _key(self) -> str:
        key, self._next = f"{self._next:016d}", self._next + 1
        return key

    def _keep(self, queued: _Queued) -> None:
        self._waiting.setdefault(queued.message.device, {})[queued.key] = queued

    def _save(self, queued: _Queued) -> None:
        body = base64.b64encode(queued.message.body).decode("ascii")
        self._store.put(DOCUMENTS, queued.key, {**asdict(queued.message), "body": body})
