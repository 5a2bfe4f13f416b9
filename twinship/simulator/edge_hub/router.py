"""Routes each message to its endpoints and stores it once for each of them (ref 4.4).

Owns the delivery of every module. The caller sends the PUBACK, after the commit.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from twinship.simulator.clock import Clock
from twinship.simulator.edge_hub import topics
from twinship.simulator.edge_hub.deliveries import Delivery
from twinship.simulator.edge_hub.queues import MessageQueue
from twinship.simulator.edge_hub.sessions import Session
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.edge_hub.upstream import UpstreamFile
from twinship.simulator.faults.faults import Faults
from twinship.simulator.identity import Identity, identity_of
from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.routing.routes import Routing, Sink, StoreFull
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

MAX_TOPIC_BYTES: Final = 0xFFFF
TWIN_CHANGE_SOURCE: Final = "/twinChangeNotifications"
TWIN_CHANGE_SCHEMA: Final = "twinChangeNotification"
AT_IOT_HUB_PRIORITY: Final = (
    0  # these messages are in the cloud already and do not wait behind those of edge devices
)


@dataclass
class Counts:
    """Counters for the metrics. A gateway is an edge device, None is IoT Hub; a client is `d` or `d/m`."""

    received: Counter[tuple[str | None, str, str]] = field(default_factory=Counter)  # gateway, client, output
    twin_gets: Counter[tuple[str | None, str]] = field(default_factory=Counter)  # gateway, client
    reported: Counter[tuple[str | None, str]] = field(default_factory=Counter)  # gateway, client
    methods: Counter[Identity] = field(default_factory=Counter)  # called device or module


class MessageRouter:
    """The routes of each edge device and the delivery of each module. `dropped` counts messages by reason."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: EdgeHubSettings,
        upstream: UpstreamFile,
        session: Callable[[Identity], Session | None],
        dropped: Counter[str],
        faults: Faults,
    ) -> None:
        self.dropped = dropped
        self.counts = Counts()
        self._store = store
        self._clock = clock
        self._settings = settings
        self._upstream = upstream
        self._session = session
        self._faults = faults
        self._routing: dict[str, Routing] = {}
        self._max_store_bytes: dict[str, int | None] = {}
        self.unacknowledged: Counter[str] = Counter()
        self._deliveries: dict[Identity, Delivery] = {}
        self._ids = _message_ids()

    def reconfigure(self, gateway: str, routing: Routing, max_store_bytes: int | None = None) -> None:
        """Apply a configuration to all later messages; connections stay as they are (ref statement 56)."""
        self._routing[gateway] = routing
        self._max_store_bytes[gateway] = max_store_bytes

    def telemetry(
        self, gateway: str | None, telemetry: topics.Telemetry, body: bytes, *, retain: bool = False
    ) -> None:
        """Store a message of a module or device for every endpoint that its routes name. Raises StoreFull.

        Without a gateway the message has come to IoT Hub, where the routes of edge devices do not apply, and
        RETAIN becomes a property (ref 4.11).
        """
        system = {**telemetry.system, **_stamps(telemetry.sender, next(self._ids))}
        output = system.get("outputName")
        self.counts.received[gateway, str(telemetry.sender), output or ""] += 1
        source = topics.telemetry_source(telemetry.sender, output)
        properties = telemetry.properties
        if retain and gateway is None:
            properties = {**properties, "mqtt-retain": "true"}
        self._route(gateway, RoutedMessage(source, properties, system, body))

    def twin_change(self, gateway: str | None, reporter: Identity, patch: bytes) -> None:
        """Route a reported patch as a message (ref 4.9); IoT Hub needs a route of its own for that."""
        if gateway is None:
            return
        system = {"messageSchema": TWIN_CHANGE_SCHEMA, **_stamps(reporter, next(self._ids))}
        try:
            self._route(gateway, RoutedMessage(TWIN_CHANGE_SOURCE, {}, system, patch))
        except StoreFull as full:  # the patch itself stays accepted
            self._drop("store_full", f"change of {reporter}: {full}")

    def twin_event(self, event: RoutedMessage) -> None:
        """Send an event of IoT Hub itself upstream."""
        self._upstream.add(event, AT_IOT_HUB_PRIORITY, None)

    def delivery(self, identity: Identity) -> Delivery:
        """The delivery to one module; the registry need not have the module."""
        if (delivery := self._deliveries.get(identity)) is None:
            queue = MessageQueue(str(identity), self._store, self.dropped)
            session = partial(self._session, identity)
            delivery = Delivery(identity, queue, session, self._clock, self._settings, self._faults)
            self._deliveries[identity] = delivery
        return delivery

    def deliveries(self, device: str) -> list[Delivery]:
        """The deliveries to the modules of one edge device."""
        return [delivery for identity, delivery in self._deliveries.items() if identity.device == device]

    def sweep(self) -> None:
        """Drop expired messages, also of modules that are not connected (ref 4.7)."""
        for delivery in self._deliveries.values():
            delivery.queue.sweep(self._clock.wall())

    def _route(self, gateway: str | None, message: RoutedMessage) -> None:
        if (size := _routing_size(message)) > self._settings.max_message_bytes:
            limit = self._settings.max_message_bytes
            self._drop("too_large", f"{message.source}: {size} bytes with properties, the limit is {limit}")
            return
        if gateway is None:
            self._upstream.add(message, AT_IOT_HUB_PRIORITY, None)
            return
        routing = self._routing.get(gateway)
        sinks = routing.match(message) if routing is not None else ()
        if not sinks:
            self.dropped["no_route"] += 1
        self._check_space(gateway, size * len(sinks))
        for sink in sinks:
            expires = None if sink.ttl_s is None else self._clock.wall() + sink.ttl_s
            if sink.module is None:
                self._upstream.add(message, sink.priority, expires)
            else:
                self._enqueue(identity_of(gateway, sink.module), sink, message, expires)

    def _check_space(self, gateway: str, more_bytes: int) -> None:
        limit = self._max_store_bytes.get(gateway)
        if limit is not None and self._store.message_bytes + more_bytes > limit:
            raise StoreFull(
                f"{self._store.message_bytes} bytes are stored, storeLimits.maxSizeBytes is {limit}"
            )

    def _enqueue(self, to: Identity, sink: Sink, message: RoutedMessage, expires: float | None) -> None:
        topic = topics.input_message(to, sink.input, topics.join_bag(message.properties, message.system))
        if len(topic) * 4 > MAX_TOPIC_BYTES and len(topic.encode()) > MAX_TOPIC_BYTES:
            self._drop(
                "topic_too_long", f"{message.source}: its properties do not fit into the topic for {to}"
            )
            return
        delivery = self.delivery(to)
        delivery.queue.add(
            topic,
            message.body,
            priority=sink.priority,
            expires=expires,
            ready_at=self._clock.mono() + self._settings.hop_delay_s,
            wall=self._clock.wall(),
        )
        self._store.after_commit(delivery.pump)

    def _drop(self, reason: str, text: str) -> None:
        self.dropped[reason] += 1
        logger.warning("message dropped, %s: %s", reason, text)


def _message_ids() -> Iterator[str]:
    """Unique ids: the first part of a random UUID and a count, which is faster than a new UUID for each."""
    prefix = str(uuid.uuid4())[:-12]
    return (f"{prefix}{number:012x}" for number in itertools.count())


def _stamps(sender: Identity, message_id: str) -> Mapping[str, str]:
    """The system properties that the hub sets, over those of the sender (ref 4.4)."""
    stamps = {
        "connectionDeviceId": sender.device,
        "edgeMessageId": message_id,
        "edgeHubOriginInterface": "downstream" if sender.module is None else "internal",
    }
    if sender.module is not None:
        stamps["connectionModuleId"] = sender.module
    return stamps


def _routing_size(message: RoutedMessage) -> int:
    """Bytes of the body plus characters of all properties, also those that the hub set (ref 4.4)."""
    properties, system = message.properties, message.system
    texts = (*properties, *properties.values(), *system, *system.values())
    return len(message.body) + len("".join(texts))
