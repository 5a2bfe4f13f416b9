"""The simulated edgeHub. It opens no socket and reads only the clock that it is given.

One object serves all edge devices ("gateways") of a simulator, and the clients that connect to IoT Hub itself
(gateway None): these have no routes and no inputs, and their messages are upstream at once.

Its parts: authentication (CONNECT), client (packets of a connection), sessions (subscriptions and packet
ids), queues (waiting messages), deliveries (messages in flight), router and upstream (where a message goes),
methods (direct methods), connections (reports and counters).
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from twinship.simulator.clock import Clock
from twinship.simulator.edge_hub import topics, upstream
from twinship.simulator.edge_hub.authentication import Refused, authenticate
from twinship.simulator.edge_hub.client import Client, Shared
from twinship.simulator.edge_hub.cloud_to_device import CloudToDevice
from twinship.simulator.edge_hub.connections import Connections
from twinship.simulator.edge_hub.methods import MethodAnswer, MethodRequest, Methods, invoke_edge_hub
from twinship.simulator.edge_hub.queues import DROPPED, MessageQueue
from twinship.simulator.edge_hub.router import MessageRouter
from twinship.simulator.edge_hub.sessions import Link, Sessions
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.edge_hub.topics import Subscription
from twinship.simulator.edge_hub.upstream import UpstreamFile
from twinship.simulator.faults.faults import CUT_UPSTREAM, DELAY_PUBACK, EXPIRE_TOKENS, LATE_TWIN, Faults
from twinship.simulator.faults.shaping import DelayQueue
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.event_log import EventLog
from twinship.simulator.iot_hub.identity_document import Presence
from twinship.simulator.iot_hub.registry import EDGE_AGENT, EDGE_HUB, Registry
from twinship.simulator.iot_hub.twin import TwinDocument
from twinship.simulator.iot_hub.twin_events import twin_event
from twinship.simulator.mqtt.packets import NOT_AUTHORIZED, SERVER_UNAVAILABLE, Connack, Connect
from twinship.simulator.store import StorageFailed

logger = logging.getLogger(__name__)


class EdgeHub:
    """`gateways`: the address of each edge device by its name. A token's audience is it or the hub."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        *,
        gateways: Mapping[str, str],
        upstream_path: Path,
        settings: EdgeHubSettings,
        faults: Faults | None = None,
        events: EventLog | None = None,
    ) -> None:
        store = registry.store
        self.dropped: Counter[str] = Counter(store.documents(DROPPED))  # by reason
        self._faults = faults or Faults()
        self._registry = registry
        self._clock = clock
        self._gateways = gateways
        self._settings = settings
        self._sessions = Sessions(store)
        queue = MessageQueue(upstream.QUEUE, store, self.dropped)
        self.events = events or EventLog(store, clock)
        self._upstream = UpstreamFile(upstream_path, queue, store, clock, self.events)
        self.router = MessageRouter(
            store, clock, settings, self._upstream, self._sessions.get, self.dropped, self._faults
        )
        methods = Methods(self._sessions.get, settings.method_connect_grace_s)
        self.connections = Connections(registry, clock)
        self.cloud_to_device = CloudToDevice(store, clock, self._sessions.get, registry.generation)
        late_pubacks, late_twins = DelayQueue(clock), DelayQueue(clock)
        self._shared = Shared(
            store,
            registry,
            self._sessions,
            self.router,
            methods,
            self._faults,
            late_pubacks,
            late_twins,
            self.connections,
            self.cloud_to_device,
        )
        self._faults.on_change.append(self._faults_changed)
        self._restore(queue)
        self._upstream.start()
        self.events.start()
        self.cloud_to_device.start()
        for gateway in gateways:
            self.connections.start(gateway)
        self._sweep_later()

    def connect(self, connect: Connect, link: Link) -> Client:
        """Accept a client: send CONNACK, take its session over, deliver waiting messages. Raises Refused."""
        try:
            return self._admit(connect, link)
        except Refused as refused:
            self.connections.refused(link.gateway, refused.code)
            raise

    def _admit(self, connect: Connect, link: Link) -> Client:
        accepted = authenticate(
            connect,
            keys=self._registry.keys,
            hosts=self._hosts(link.gateway),
            now=self._clock.wall() + self._faults.value(EXPIRE_TOKENS),
            at_iot_hub=link.gateway is None,
        )
        identity = accepted.identity
        self._check_gateway(identity, link.gateway)
        if (before := self._sessions.get(identity)) is not None and before.link is not None:
            before.link.close("taken over by a newer connection of the same identity")
        session, present = self._sessions.open(identity, link.gateway, clean=connect.clean_session)
        session.link = link
        self.connections.connected(link.gateway, identity, accepted.model_id)
        link.send(Connack(0, present).encode())
        logger.info("%s: connected, session %s", identity, "present" if present else "new")
        client = Client(self._shared, session, link, accepted.expires, connect.will)
        self._resume(client, present)
        return client

    def presence(self, identity: Identity) -> Presence:
        """Connection and activity; an edge device and its system modules are always connected."""
        if identity.device in self._gateways and identity.module in (None, EDGE_AGENT, EDGE_HUB):
            return self.connections.always()
        seen, session = self.connections.seen(identity), self._sessions.get(identity)
        if session is None or session.link is None:
            return seen
        return replace(seen, active=max(seen.active or 0.0, session.heard))

    def connected_clients(self, gateway: str) -> int:
        """The number of clients connected to one edge device."""
        return sum(session.gateway == gateway for session in self._sessions.connected())

    async def invoke_method(self, target: Identity, call: MethodRequest) -> MethodAnswer:
        """Call a direct method; raises NotConnected, NoAnswer, for `$edgeHub` also ArgumentInvalid."""
        if target.module == EDGE_HUB and target.device in self._gateways:
            return invoke_edge_hub(call)
        self.router.counts.methods[target] += 1
        return await self._shared.methods.invoke(target, call)

    def desired_changed(self, identity: Identity, patch: Mapping[str, Any]) -> None:
        """Send a subscribed client the change of its desired properties; the patch contains `$version`."""
        self._registry.store.after_commit(partial(self._send_desired, identity, patch))

    def twin_changed(
        self, identity: Identity, before: TwinDocument, after: TwinDocument, replaced: bool
    ) -> None:
        """Send a twin change event upstream (a callback for `registry.on_change`)."""
        hub, now = self._registry.hub_name, self._clock.wall()
        self.router.twin_event(twin_event(identity, before, after, replaced=replaced, hub=hub, now=now))

    def revoke(self, identity: Identity) -> None:
        """Close the connection of an identity that was removed, disabled, or given other keys."""
        session = self._sessions.get(identity)
        if session is not None and session.link is not None:
            session.link.close("its identity was removed, disabled or given other keys")

    def remove(self, identity: Identity) -> None:
        """Close the connection of a removed identity and forget its session."""
        self.revoke(identity)
        self._sessions.remove(identity)
        self.cloud_to_device.removed(identity)
        self.connections.removed(identity)

    def counters(self) -> dict[str, Any]:
        """Connected clients, and counters since the start of the process (ttl_expiry: of the store)."""
        return {
            "dropped": dict(self.dropped),
            "unacknowledged": dict(self.router.unacknowledged),
            "connected": len(self._sessions.connected()),
            "message_bytes": self._registry.store.message_bytes,
        }

    def close(self) -> None:
        """Write the waiting upstream messages and close every connection."""
        with contextlib.suppress(StorageFailed):  # the process is about to end because of this error
            self._registry.store.commit()
            self._upstream.close()
        for session in self._sessions.connected():
            if session.link is not None:
                session.link.close("the hub stops")
        self.connections.report()

    def _hosts(self, gateway: str | None) -> tuple[str, ...]:
        hub = self._registry.hub_name
        return (hub,) if gateway is None else (hub, self._gateways[gateway])

    def _check_gateway(self, identity: Identity, gateway: str | None) -> None:
        if gateway is None:
            return  # IoT Hub accepts every identity, also modules of edge devices
        if identity.device in self._gateways and identity.device != gateway:
            raise Refused(NOT_AUTHORIZED, f"{identity}: belongs to another edge device than {gateway}")
        most = self._settings.max_connected_clients
        if not self._known(identity, gateway) and self.connected_clients(gateway) >= most:
            # 3, not 5: the SDK gives up on 5 (ref statement 24), and a later attempt may succeed
            raise Refused(SERVER_UNAVAILABLE, f"{identity}: MaxConnectedClients ({most}) are connected")

    def _known(self, identity: Identity, gateway: str) -> bool:
        session = self._sessions.get(identity)
        return session is not None and session.gateway == gateway

    def _resume(self, client: Client, present: bool) -> None:
        delivery = self.router.delivery(client.identity)
        if present:
            client.session.resume()
            delivery.resumed()
        else:
            delivery.requeue_in_flight()
        client.serve()

    def _send_desired(self, identity: Identity, patch: Mapping[str, Any]) -> None:
        if (session := self._sessions.get(identity)) is not None:
            body = json.dumps(patch, separators=(",", ":")).encode()
            topic = topics.desired_patch(patch["$version"])
            send = partial(session.publish, Subscription.DESIRED, topic, body)
            self._shared.late_twins.hold(self._faults.value(LATE_TWIN), send)

    def _faults_changed(self) -> None:
        for name, late in (
            (DELAY_PUBACK, self._shared.late_pubacks),
            (LATE_TWIN, self._shared.late_twins),
        ):
            if not self._faults.value(name):
                late.release()
        self._upstream.cut = bool(self._faults.value(CUT_UPSTREAM))
        self._upstream.drain()

    def _restore(self, upstream_queue: MessageQueue) -> None:
        for stored in self._registry.store.messages():
            if stored.queue == upstream_queue.name:
                upstream_queue.restore(stored)
            else:
                self.router.delivery(Identity.parse(stored.queue)).queue.restore(stored)

    def _sweep_later(self) -> None:
        self._clock.later(self._settings.message_cleanup_interval_s, self._sweep)

    def _sweep(self) -> None:
        self.router.sweep()
        self._sweep_later()
