"""From a publish to the queues: which endpoints a message goes to, stored once for each (ref 4.4).

Holds every module's delivery and the way upstream. Knows no MQTT: acknowledging is the caller's.
"""

from __future__ import annotations

import itertools
import logging
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from twinship.simulator.clock import Clock
from twinship.simulator.edge_hub import topics
from twinship.simulator.edge_hub.deliveries import Delivery
from twinship.simulator.edge_hub.queues import MessageQueue
from twinship.simulator.edge_hub.sessions import Session
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.faults.faults import Faults
from twinship.simulator.identity import Identity, identity_of
from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.routing.routes import Routing, Sink, StoreFull
from twinship.simulator.store import Store


@dataclass
class Counts:
    """Counted where it happens. A gateway is an edge device, None IoT Hub; a client `d` or `d/m`."""

    received: Counter[tuple[str | None, str, str]] = field(default_factory=Counter)  # gateway, client, output
    twin_gets: Counter[tuple[str | None, str]] = field(default_factory=Counter)  # gateway, client
    reported: Counter[tuple[str | None, str]] = field(default_factory=Counter)  # gateway, client
    methods: Counter[Identity] = field(default_factory=Counter)  # who was called


logger = logging.getLogger(__name__)

MAX_TOPIC_BYTES: Final = 0xFFFF
TWIN_CHANGE_SOURCE: Final = "/twinChangeNotifications"
TWIN_CHANGE_SCHEMA: Final = "twinChangeNotification"
AT_IOT_HUB_PRIORITY: Final = 0  # what is there already does not wait behind what an edge still has to send


class Upstream(Protocol):
    """Where messages for the cloud go: the file in the process, a list in tests."""

    def add(self, message: RoutedMessage, priority: int, expires: float | None) -> None: ...


class MessageRouter:
    """Routes in force for each edge device, and a delivery for each module. `dropped` counts by reason."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        settings: EdgeHubSettings,
        upstream: Upstream,
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
        """Put a configuration in force, at once and for messages from now on."""
        self._routing[gateway] = routing
        self._max_store_bytes[gateway] = max_store_bytes

    def telemetry(self, gateway: str | None, telemetry: topics.Telemetry, body: bytes) -> None:
        """Store a module's or device's message for every endpoint it is routed to.

        Without a gateway it is at IoT Hub already, where no edge device's routes apply. Raises StoreFull.
        """
        system = {**telemetry.system, **_stamps(telemetry.sender, next(self._ids))}
        output = system.get("outputName")
        self.counts.received[gateway, str(telemetry.sender), output or ""] += 1
        source = topics.telemetry_source(telemetry.sender, output)
        self._route(gateway, RoutedMessage(source, telemetry.properties, system, body))

    def twin_change(self, gateway: str | None, reporter: Identity, patch: bytes) -> None:
        """A reported patch is a routable message too (ref 4.9); at IoT Hub only by a route of its own."""
        if gateway is None:
            return
        system = {"messageSchema": TWIN_CHANGE_SCHEMA, **_stamps(reporter, next(self._ids))}
        try:
            self._route(gateway, RoutedMessage(TWIN_CHANGE_SOURCE, {}, system, patch))
        except StoreFull as full:  # the patch itself is not refused
            self._drop("store_full", f"change of {reporter}: {full}")

    def delivery(self, identity: Identity) -> Delivery:
        """The deliveries to one module, known or not."""
        if (delivery := self._deliveries.get(identity)) is None:
            queue = MessageQueue(str(identity), self._store, self._expired)
            session = partial(self._session, identity)
            delivery = Delivery(identity, queue, session, self._clock, self._settings, self._faults)
            self._deliveries[identity] = delivery
        return delivery

    def deliveries(self, device: str) -> list[Delivery]:
        """The deliveries to the modules of one edge device."""
        return [delivery for identity, delivery in self._deliveries.items() if identity.device == device]

    def sweep(self) -> None:
        """Drop what has expired, also for modules that are away (ref 4.7)."""
        for delivery in self._deliveries.values():
            delivery.queue.sweep(self._clock.wall())

    def _expired(self) -> None:
        self.dropped["ttl_expiry"] += 1

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
            raise StoreFull(f"{self._store.message_bytes} bytes wait, storeLimits.maxSizeBytes is {limit}")

    def _enqueue(self, to: Identity, sink: Sink, message: RoutedMessage, expires: float | None) -> None:
        topic = topics.input_message(to, sink.input, topics.join_bag(message.properties, message.system))
        if len(topic) * 4 > MAX_TOPIC_BYTES and len(topic.encode()) > MAX_TOPIC_BYTES:
            self._drop("topic_too_long", f"{message.source}: its properties do not fit the topic to {to}")
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
    """UUIDs without end: the front of a random one, and a count. A random one each is dear."""
    front = str(uuid.uuid4())[:-12]
    return (f"{front}{number:012x}" for number in itertools.count())


def _stamps(sender: Identity, message_id: str) -> Mapping[str, str]:
    """What the hub itself knows of a message; it overrules what the sender wrote (ref 4.4)."""
    stamps = {
        "connectionDeviceId": sender.device,
        "edgeMessageId": message_id,
        "edgeHubOriginInterface": "downstream" if sender.module is None else "internal",
    }
    if sender.module is not None:
        stamps["connectionModuleId"] = sender.module
    return stamps


def _routing_size(message: RoutedMessage) -> int:
    """Bytes of the body and characters of all properties, the hub's own included (ref 4.4)."""
    properties, system = message.properties, message.system
    texts = (*properties, *properties.values(), *system, *system.values())
    return len(message.body) + len("".join(texts))
