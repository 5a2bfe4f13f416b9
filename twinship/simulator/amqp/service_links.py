"""Links of the service: cloud-to-device messages in, feedback out (ref 5.5)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from twinship.simulator.amqp.connection import Connection
from twinship.simulator.amqp.links import AmqpError, Link, Received
from twinship.simulator.amqp.messages import Message, decode_message, text
from twinship.simulator.amqp.performatives import Composite, make
from twinship.simulator.amqp.types import Malformed
from twinship.simulator.edge_hub.cloud_to_device import (
    ACKS,
    CloudMessage,
    CloudToDevice,
    NoDevice,
    NotAccepted,
    QueueFull,
)

ACK: Final = "iothub-ack"
FEEDBACK_TYPE: Final = "application/vnd.microsoft.iothub.feedback.json"
MAX_RECORDS: Final = 64  # of one feedback message
#: The conditions that service SDKs translate into errors of their own, as DeviceNotFoundError of Node's.
_CONDITIONS: Final[Mapping[type[Exception], str]] = {
    NoDevice: "amqp:not-found",
    QueueFull: "amqp:resource-limit-exceeded",
}
_TO: Final = re.compile(r"/devices/([^/]+)/messages/devicebound", re.IGNORECASE)
_SYSTEM: Final = {
    "to": "to",
    "message_id": "messageId",
    "correlation_id": "cid",
    "content_type": "contentType",
    "content_encoding": "contentEncoding",
}


class DeviceBound:
    """A sender of cloud-to-device messages: each is answered after the commit."""

    def __init__(
        self,
        connection: Connection,
        queues: CloudToDevice,
        after_commit: Callable[[Callable[[], None]], None],
    ) -> None:
        self._connection = connection
        self._queues = queues
        self._after_commit = after_commit

    def received(self, message: Received) -> None:
        """Store a message, or reject it with the reason."""
        try:
            self._queues.send(cloud_message(decode_message(message.payload)))
        except (NotAccepted, Malformed, ValueError) as error:
            condition = _CONDITIONS.get(type(error), "amqp:not-allowed")
            self._connection.settle(
                message, make("rejected", error=AmqpError(condition, str(error)).composite())
            )
        else:
            self._after_commit(lambda: self._connection.settle(message, make("accepted")))


class Feedback:
    """A receiver of feedback. What it does not accept comes again, to it or to another."""

    def __init__(self, connection: Connection, link: Link, queues: CloudToDevice, taken: set[str]) -> None:
        self._connection = connection
        self._link = link
        self._queues = queues
        self._taken = taken  # records that a receiver of any connection has and has not accepted

    def pump(self) -> bool:
        """Send what is there as one message."""
        records = self._queues.feedback(MAX_RECORDS + len(self._taken))
        fresh = {key: each for key, each in records.items() if key not in self._taken}
        chosen = list(fresh)[:MAX_RECORDS]
        if chosen and self._connection.may_send(self._link):
            body = json.dumps([fresh[key] for key in chosen]).encode()
            message = Message(make("properties", content_type=FEEDBACK_TYPE), {}, body)
            self._taken.update(chosen)
            self._connection.send(self._link, message.encode(), context=chosen)
        elif not chosen and self._link.drain and self._link.credit:
            self._connection.drained(self._link)
        return False

    def settled(self, context: Any, outcome: str) -> None:
        """Accepted and rejected records are done with."""
        self._taken.difference_update(context)
        if outcome in ("accepted", "rejected"):
            self._queues.feedback_read(context)

    def closed(self) -> None:
        """Records without an outcome can be sent again."""
        for context in self._link.unsettled.values():
            self._taken.difference_update(context)


def cloud_message(message: Message) -> CloudMessage:
    """A message of a service for a device. Raises Malformed."""
    properties = message.properties
    if (match := _TO.fullmatch(properties.to or "")) is None:
        raise Malformed("the property 'to' is not /devices/ID/messages/devicebound")
    if message.is_value and not isinstance(message.body, bytes | str):
        raise Malformed("the body is neither data nor text")
    body = message.body.encode() if isinstance(message.body, str) else message.body
    ack = text(message.application.get(ACK, "none")).casefold()
    if ack not in ACKS:
        raise Malformed(f"{ACK} is none of {', '.join(ACKS)}")
    system = {
        name: str(value) for key, name in _SYSTEM.items() if (value := getattr(properties, key)) is not None
    }
    own = {name: _plain(value) for name, value in message.application.items()}
    if ack != "none":
        own[ACK] = ack
    expires = (properties.absolute_expiry_time or 0) / 1000
    return CloudMessage(match[1], own, system, body, ack, expires)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | dict | Composite):
        raise Malformed("a property is neither text nor a number")
    return text(value) if isinstance(value, bytes) else str(value)
