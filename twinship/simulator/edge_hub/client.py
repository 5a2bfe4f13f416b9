"""One accepted connection at the edgeHub: handles each packet of the client.

A request that changes state is answered after the commit. The answer to a twin request is sent before the
PUBACK of the request: the SDK sends a request only once, so a PUBACK must mean that the answer was sent. The
answer itself needs no PUBACK and has QoS 0; with QoS 1 the client's PUBACK, its Nagle algorithm and the
server's delayed ACK would delay the client's next request by 40 ms.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final

from twinship.simulator.edge_hub import topics
from twinship.simulator.edge_hub.cloud_to_device import CloudToDevice
from twinship.simulator.edge_hub.connections import Connections
from twinship.simulator.edge_hub.methods import Methods
from twinship.simulator.edge_hub.router import MessageRouter
from twinship.simulator.edge_hub.sessions import Link, Session, Sessions
from twinship.simulator.edge_hub.topics import Subscription
from twinship.simulator.faults.faults import DELAY_PUBACK, LATE_TWIN, Faults
from twinship.simulator.faults.shaping import DelayQueue
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import NotFound, Registry
from twinship.simulator.iot_hub.twin_limits import TwinRefused
from twinship.simulator.mqtt.packets import (
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from twinship.simulator.routing.routes import StoreFull
from twinship.simulator.store import StorageFailed, Store

logger = logging.getLogger(__name__)

OK: Final = 200
NO_CONTENT: Final = 204
BAD_REQUEST: Final = 400
NOT_FOUND: Final = 404


@dataclass(frozen=True)
class Shared:
    """The parts of one edgeHub that all its connections use."""

    store: Store
    registry: Registry
    sessions: Sessions
    router: MessageRouter
    methods: Methods
    faults: Faults
    late_pubacks: DelayQueue
    late_twins: DelayQueue
    connections: Connections
    cloud_to_device: CloudToDevice


class Client:
    """A connection whose CONNECT was accepted. `expires`: when its token expires, seconds since the epoch."""

    def __init__(
        self, shared: Shared, session: Session, link: Link, expires: float, will: Will | None = None
    ) -> None:
        self.session = session
        self._will = will
        self._wall = shared.connections.wall
        self.expires = expires
        self._shared = shared
        self._link = link

    @property
    def identity(self) -> Identity:
        """The identity of the client."""
        return self.session.identity

    def receive(self, packet: Packet) -> None:
        """Handle one packet."""
        self.session.heard = self._wall()
        self._BY_PACKET[type(packet)](self, packet)

    def closed(self) -> None:
        """The connection has ended; its session stays unless it is a clean session."""
        if self.session.link is not self._link:
            return  # a newer connection has taken the session over
        self.session.link = None
        self._shared.connections.disconnected(self._link.gateway, self.identity, self.session.heard)
        if self._will is not None:
            self._publish_will(self._will)
        if not self.session.persistent:
            self._shared.sessions.forget(self.session)
            self._shared.router.delivery(self.identity).requeue_in_flight()

    def _publish_will(self, will: Will) -> None:
        """Send a will as telemetry (ref 4.11): at IoT Hub, and only in the client's own name."""
        try:
            telemetry = topics.parse(will.topic)
        except topics.TopicError:
            telemetry = None
        own = isinstance(telemetry, topics.Telemetry) and telemetry.sender == self.identity
        if self._link.gateway is not None or not own:
            logger.warning("%s: its will to %r is ignored", self.identity, will.topic[:200])
            return
        assert isinstance(telemetry, topics.Telemetry)
        will_properties = {**telemetry.properties, "iothub-MessageType": "Will"}
        with contextlib.suppress(StorageFailed):  # the process is about to end because of this error
            self._shared.router.telemetry(
                None, replace(telemetry, properties=will_properties), will.message, retain=will.retain
            )

    def _publish(self, packet: Publish) -> None:
        try:
            inbound = topics.parse(packet.topic)
        except topics.TopicError as error:
            logger.warning("%s: publish dropped: %s", self.identity, error)
            self._shared.router.dropped["not_understood"] += 1
            self._acknowledge(packet)
        else:
            self._BY_TOPIC[type(inbound)](self, inbound, packet)

    def _telemetry(self, telemetry: topics.Telemetry, packet: Publish) -> None:
        if packet.dup:
            logger.info("%s: packet %s was sent again", self.identity, packet.packet_id)
        if telemetry.sender == self.identity:
            try:
                self._shared.router.telemetry(
                    self._link.gateway, telemetry, packet.body, retain=packet.retain
                )
            except StoreFull as full:  # ref 4.4: without a PUBACK the client sends it again
                self._shared.router.unacknowledged["storage_failure"] += 1
                self._link.close(f"the store is full: {full}")
                return
        else:
            logger.warning("%s: publish in the name of %s dropped", self.identity, telemetry.sender)
            self._shared.router.dropped["foreign_sender"] += 1
        self._shared.store.after_commit(partial(self._stored, packet))

    def _stored(self, packet: Publish) -> None:
        if delay_s := self._shared.faults.value(DELAY_PUBACK):
            logger.info("%s: packet %s stored, its PUBACK is delayed", self.identity, packet.packet_id)
        self._shared.late_pubacks.hold(delay_s, partial(self._acknowledge, packet))

    def _twin_get(self, request: topics.TwinGet, packet: Publish) -> None:
        try:
            twin: Mapping[str, Any] = self._shared.registry.twin(self.identity).for_module()
        except NotFound:
            self._answer(NOT_FOUND, request.rid, b"", packet)
        else:
            self._shared.router.counts.twin_gets[self._link.gateway, str(self.identity)] += 1
            self._answer(OK, request.rid, _json(twin), packet)

    def _reported(self, request: topics.ReportedPatch, packet: Publish) -> None:
        try:
            patch = _object(packet.body)
            twin = self._shared.registry.patch_reported(self.identity, patch)
        except TwinRefused as refused:
            logger.warning("%s: reported patch refused: %s", self.identity, refused)
            self._answer(BAD_REQUEST, request.rid, b"", packet)
        except NotFound:
            self._answer(NOT_FOUND, request.rid, b"", packet)
        else:
            self._shared.router.counts.reported[self._link.gateway, str(self.identity)] += 1
            self._shared.router.twin_change(self._link.gateway, self.identity, packet.body)
            version = twin.reported_version if self._link.gateway is None else None
            self._answer(NO_CONTENT, request.rid, b"", packet, version)

    def _method_response(self, response: topics.MethodResponse, packet: Publish) -> None:
        self._shared.methods.answered(self.identity, response, packet.body)
        self._acknowledge(packet)

    def _answer(
        self, status: int, rid: str, body: bytes, packet: Publish, version: int | None = None
    ) -> None:
        answer = partial(self._send_answer, topics.twin_response(status, rid, version), body, packet)
        self._shared.store.after_commit(
            lambda: self._shared.late_twins.hold(self._shared.faults.value(LATE_TWIN), answer)
        )

    def _send_answer(self, topic: str, body: bytes, packet: Publish) -> None:
        if self.session.publish(Subscription.TWIN_RESPONSES, topic, body, qos_0=True) is None:
            logger.info("%s: no filter covers the answer %s, discarded", self.identity, topic)
        self._acknowledge(packet)

    def _acknowledge(self, packet: Publish) -> None:
        if packet.packet_id is not None:
            self._link.send(Puback(packet.packet_id).encode())

    def _puback(self, packet: Puback) -> None:
        self.session.puback(packet.packet_id)

    def _subscribe(self, packet: Subscribe) -> None:
        idle = [each for each, _ in packet.filters if topics.subscription(each) is None]
        if idle:  # one line, because a packet may have thousands
            others = f", and {len(idle) - 1} others" if idle[1:] else ""
            logger.info("%s: filter %r%s has no effect here", self.identity, idle[0][:200], others)
        granted = self.session.subscribe(packet.filters)
        self._shared.sessions.save(self.session)
        self._shared.store.after_commit(partial(self._subscribed, Suback(packet.packet_id, granted)))

    def _subscribed(self, suback: Suback) -> None:
        self._link.send(suback.encode())
        self.serve()

    def serve(self) -> None:
        """Send the client the messages and method calls that waited for it, as its subscriptions allow."""
        self._shared.router.delivery(self.identity).pump()
        self._shared.cloud_to_device.pump(self.identity)
        if self.session.ready_for(Subscription.METHODS):
            self._shared.methods.subscribed(self.identity)

    def _unsubscribe(self, packet: Unsubscribe) -> None:
        self.session.unsubscribe(packet.filters)
        self._shared.sessions.save(self.session)
        self._shared.store.after_commit(partial(self._link.send, Unsuback(packet.packet_id).encode()))

    def _pingreq(self, _packet: Pingreq) -> None:
        self._link.send(Pingresp().encode())

    def _disconnect(self, _packet: Disconnect) -> None:
        self._will = None  # MQTT-3.14.4-3
        self._link.close("the client disconnected")

    _BY_PACKET: ClassVar[Mapping[type[Packet], Callable[..., None]]] = {
        Publish: _publish,
        Puback: _puback,
        Subscribe: _subscribe,
        Unsubscribe: _unsubscribe,
        Pingreq: _pingreq,
        Disconnect: _disconnect,
    }
    _BY_TOPIC: ClassVar[Mapping[type[topics.Inbound], Callable[..., None]]] = {
        topics.Telemetry: _telemetry,
        topics.TwinGet: _twin_get,
        topics.ReportedPatch: _reported,
        topics.MethodResponse: _method_response,
    }


def _object(body: bytes) -> dict[str, Any]:
    try:
        patch = json.loads(body)
    except (ValueError, RecursionError):
        raise TwinRefused("the patch is not JSON") from None
    if not isinstance(patch, dict):
        raise TwinRefused("the patch is not a JSON object")
    return patch


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
