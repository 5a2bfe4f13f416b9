"""Receivers of the built-in endpoint: where they begin, who may read beside whom, what they get (ref 6)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from twinship.simulator.amqp.connection import Connection
from twinship.simulator.amqp.links import AmqpError, Link
from twinship.simulator.amqp.messages import Message, text
from twinship.simulator.amqp.performatives import Composite, make
from twinship.simulator.amqp.types import Described, Timestamp
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.event_log import EventLog, StoredEvent, offset_of, sequence_of

MAX_RECEIVERS: Final = 5  # without an epoch, of one partition and consumer group
AT_ONCE: Final = 4  # messages in one turn, about 0.5 ms, so that no MQTT client waits for a reader
EPOCH: Final = "com.microsoft:epoch"
RUNTIME_METRIC: Final = "com.microsoft:enable-receiver-runtime-metric"
_SELECTOR: Final = re.compile(
    r"\s*amqp\.annotation\.(x-opt-[a-z-]+)\s*(>=|>)\s*'?(-?[0-9]{1,19}|@latest)'?\s*", re.IGNORECASE
)
#: Names in storage → annotations. The others are properties of the message (below).
_ANNOTATIONS: Final = {
    "connectionDeviceId": "iothub-connection-device-id",
    "connectionModuleId": "iothub-connection-module-id",
    "connectionDeviceGenerationId": "iothub-connection-auth-generation-id",
    "messageSchema": "iothub-message-schema",
    "iothub-creation-time-utc": "iothub-creation-time-utc",
    "iothub-interface-id": "iothub-interface-id",
    "dt-subject": "dt-subject",
}
_PROPERTIES: Final = {
    "messageId": "message_id",
    "correlationId": "correlation_id",
    "contentType": "content_type",
    "contentEncoding": "content_encoding",
}


class Receivers:
    """The receivers of every partition and consumer group, over all connections."""

    def __init__(self) -> None:
        self._present: dict[tuple[str, int], list[EventReceiver]] = {}

    def join(self, receiver: EventReceiver) -> None:
        """Add a receiver; one with an epoch ends those without and with a lower one. Raises AmqpError."""
        present = self._present.setdefault(receiver.key, [])
        epoch = receiver.epoch
        highest = max((each.epoch for each in present if each.epoch is not None), default=None)
        if highest is not None and (epoch is None or epoch < highest):
            raise AmqpError(
                "amqp:link:stolen", f"a receiver with epoch {highest} reads this partition in this group"
            )
        if epoch is None and len(present) >= MAX_RECEIVERS:
            raise AmqpError(
                "amqp:resource-limit-exceeded",
                f"{MAX_RECEIVERS} receivers read this partition in this consumer group already",
            )
        if epoch is not None:
            for each in list(present):
                each.take_over(AmqpError("amqp:link:stolen", f"a receiver with epoch {epoch} took over"))
            present.clear()
        present.append(receiver)

    def leave(self, receiver: EventReceiver) -> None:
        """Remove a receiver, if it is still there."""
        present = self._present.get(receiver.key, [])
        if receiver in present:
            present.remove(receiver)


class EventReceiver:
    """One receiver link: sends the events of a partition after a position, as credit allows."""

    def __init__(
        self,
        connection: Connection,
        link: Link,
        log: EventLog,
        receivers: Receivers,
        *,
        group: str,
        partition: int,
        generation: Callable[[Identity], str | None],
        end: Callable[[AmqpError], None],
    ) -> None:
        """Join the receivers. Raises AmqpError."""
        self.key = (group.casefold(), partition)
        self.epoch = _epoch(link)
        self.after = position(_selector(link), log, partition)
        self._connection = connection
        self._link = link
        self._log = log
        self._receivers = receivers
        self._partition = partition
        self._generation = generation
        self.take_over = end  # called when another receiver takes over
        wanted = link.attach.desired_capabilities or ()
        self._with_metric = RUNTIME_METRIC in (wanted if isinstance(wanted, list) else [wanted])
        receivers.join(self)

    def pump(self) -> bool:
        """Send some events; True: more can be sent at once."""
        link, most = self._link, min(AT_ONCE, self._link.credit)
        if not self._connection.may_send(link):
            return False
        bounds = self._log.bounds(self._partition)
        self.after = max(self.after, bounds.first - 1)  # the retention has removed what was before
        for event in self._log.read(self._partition, self.after, most):
            if not self._connection.may_send(link):
                return False
            metric = partition_state(self._log, self._partition) if self._with_metric else {}
            self._connection.send(link, event_message(event, self._generation, metric).encode())
            self.after = event.sequence
        if self.after >= bounds.last and link.drain and link.credit:
            self._connection.drained(link)
        return self.after < bounds.last and self._connection.may_send(link)

    def closed(self) -> None:
        """The link has ended."""
        self._receivers.leave(self)

    def settled(self, context: Any, outcome: str) -> None:
        """Events are sent settled."""


def position(selector: str | None, log: EventLog, partition: int) -> int:
    """The sequence number after which a receiver begins. Raises AmqpError for a filter that ref 6 lacks."""
    bounds = log.bounds(partition)
    if selector is None:
        return bounds.first - 1
    match = _SELECTOR.fullmatch(selector)
    if match is None:
        raise AmqpError("amqp:not-implemented", "the filter is not a comparison of an offset, number or time")
    name, inclusive, value = match[1].casefold(), match[2] == ">=", match[3].casefold()
    if value == "@latest":
        return bounds.last
    number = int(value)
    if name in ("x-opt-enqueued-time", "x-opt-enqueuedtimeutc"):
        return log.before_time(partition, number if inclusive else number + 1)
    if name == "x-opt-sequence-number":
        after = number - inclusive
    elif name == "x-opt-offset":
        after = sequence_of(number - inclusive)
    else:
        raise AmqpError("amqp:not-implemented", "the filter compares another annotation")
    if after > bounds.last:
        raise AmqpError(
            "com.microsoft:argument-out-of-range",
            f"the position is invalid: the last sequence number of the partition is {bounds.last}, "
            f"its offset {offset_of(bounds.last)}",
        )
    return max(after, bounds.first - 1)


def event_message(
    event: StoredEvent, generation: Callable[[Identity], str | None], metric: Mapping[str, Any]
) -> Message:
    """An event as a message: system properties become properties and annotations, as in IoT Hub (ref 6)."""
    system, enqueued = event.system, Timestamp(event.enqueued_ms)
    annotations: dict[str, Any] = {
        "x-opt-sequence-number": event.sequence,
        "x-opt-offset": offset_of(event.sequence),
        "x-opt-enqueued-time": enqueued,
    }
    annotations |= {name: system[key] for key, name in _ANNOTATIONS.items() if key in system}
    if device := system.get("connectionDeviceId"):
        module = system.get("connectionModuleId")
        annotations["iothub-connection-auth-method"] = _AUTH_METHODS[module is not None]
        if (of_device := generation(Identity(device, module))) is not None:
            annotations.setdefault("iothub-connection-auth-generation-id", of_device)
    annotations["iothub-enqueuedtime"] = enqueued
    annotations["iothub-message-source"] = system.get("iothub-message-source", "Telemetry")
    properties: dict[str, Any] = {name: system[key] for key, name in _PROPERTIES.items() if key in system}
    if (user := system.get("userId")) is not None:
        properties["user_id"] = user.encode()
    for name in ("content_type", "content_encoding"):  # symbols are ASCII
        if name in properties:
            properties[name] = properties[name].encode("ascii", "replace").decode("ascii")
    return Message(
        make("properties", **properties),
        event.properties,
        event.body,
        annotations=annotations,
        delivery_annotations=metric,
    )


_AUTH_METHODS: Final = {
    is_module: json.dumps(
        {"scope": "module" if is_module else "device", "type": "sas", "issuer": "iothub"},
        separators=(",", ":"),
    )
    for is_module in (False, True)
}


def partition_state(log: EventLog, partition: int) -> dict[str, Any]:
    """The newest event of a partition, as `$management` and the runtime metric name it."""
    bounds = log.bounds(partition)
    return {
        "last_enqueued_sequence_number": bounds.last,
        "last_enqueued_offset": offset_of(bounds.last) if bounds.last >= 0 else "-1",
        "last_enqueued_time_utc": Timestamp(log.enqueued_ms(partition, bounds.last)),
    }


def _epoch(link: Link) -> int | None:
    value = (link.attach.properties or {}).get(EPOCH)
    return value if isinstance(value, int) else None


def _selector(link: Link) -> str | None:
    source = link.attach.source
    filters = source.filter if isinstance(source, Composite) else None
    for name, value in (filters or {}).items():
        if name != "apache.org:selector-filter:string":
            raise AmqpError("amqp:not-implemented", "this filter is not in this simulator")
        return text(value.value if isinstance(value, Described) else value)
    return None
