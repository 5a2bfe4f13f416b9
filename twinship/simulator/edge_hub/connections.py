"""Counts connections for the metrics, and reports them as `clients` of the `$edgeHub` twin (ref 8).

Also stores when each client connected, disconnected and was last heard, for the service's view of it.

The changes within one second are one patch, so a client that reconnects all the time causes one per second.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from dataclasses import replace
from typing import Any, Final

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.common.times import iso_time
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import Presence
from twinship.simulator.iot_hub.registry import EDGE_HUB, NotFound, Registry
from twinship.simulator.iot_hub.twin_limits import TwinRefused
from twinship.simulator.store import StorageFailed

logger = logging.getLogger(__name__)

GATHER_S: Final = 1.0
DOCUMENTS: Final = "presence"
CONNECTED, DISCONNECTED = "Connected", "Disconnected"
# Names in a twin may not hold these; edgeHub writes them percent-encoded.
_ESCAPED: Final = str.maketrans({".": "%2E", "$": "%24", " ": "%20", "#": "%23"})


class Connections:
    """The clients of all edge devices ("gateways") of a simulator."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self.connects: Counter[tuple[str | None, str]] = Counter()  # by gateway and client
        self.disconnects: Counter[tuple[str | None, str]] = Counter()
        self.refusals: Counter[tuple[str | None, int]] = Counter()  # by gateway and CONNACK code
        self._registry = registry
        self._clock = clock
        self.wall = clock.wall
        self._started = clock.wall()
        self._seen = {
            Identity.parse(name): Presence(**stored, connected=False)
            for name, stored in registry.store.documents(DOCUMENTS).items()
        }
        self._unreported: dict[str, dict[str, Any]] = {}  # gateway -> client -> what changed
        self._alarm: Alarm | None = None

    def start(self, gateway: str) -> None:
        """Report clients as disconnected that an earlier hub process left as connected."""
        for name, client in self._reported(gateway).items():
            if isinstance(client, dict) and client.get("status") == CONNECTED:
                self._change(gateway, name, {"status": DISCONNECTED, "lastDisconnectedTimeUtc": self._now()})

    def connected(self, gateway: str | None, identity: Identity, model_id: str) -> None:
        """A client's CONNECT was accepted."""
        self.connects[gateway, str(identity)] += 1
        self._save(identity, Presence(True, self.wall(), self.wall(), model_id))
        self._change(gateway, _name(identity), {"status": CONNECTED, "lastConnectedTimeUtc": self._now()})

    def disconnected(self, gateway: str | None, identity: Identity, active: float) -> None:
        """A client's connection ended; a device that is not a module is removed from the report."""
        self.disconnects[gateway, str(identity)] += 1
        seen = replace(self.seen(identity), connected=False, state_updated=self.wall(), active=active)
        with contextlib.suppress(StorageFailed):  # the process is about to end because of this error
            self._save(identity, seen)
        gone = {"status": DISCONNECTED, "lastDisconnectedTimeUtc": self._now()}
        self._change(gateway, _name(identity), gone if identity.module is not None else None)

    def seen(self, identity: Identity) -> Presence:
        """What is known of a client, without its activity since its CONNECT."""
        return self._seen.get(identity, Presence())

    def always(self) -> Presence:
        """The presence of an edge device and its system modules."""
        return Presence(True, self._started, self.wall())

    def removed(self, identity: Identity) -> None:
        """Forget a removed identity."""
        if self._seen.pop(identity, None) is not None:
            self._registry.store.delete(DOCUMENTS, str(identity))

    def refused(self, gateway: str | None, code: int) -> None:
        """A client's CONNECT was refused."""
        self.refusals[gateway, code] += 1

    def report(self) -> None:
        """Report the changes since the last report."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        unreported, self._unreported = self._unreported, {}
        for gateway, clients in unreported.items():
            try:
                self._registry.patch_reported(Identity(gateway, EDGE_HUB), {"clients": clients})
            except NotFound:
                logger.debug("%s has no $edgeHub to report its clients", gateway)
            except StorageFailed:
                return  # the process is about to end because of this error
            except TwinRefused as refused:
                logger.warning("%s: the report of its clients was refused: %s", gateway, refused)

    def _save(self, identity: Identity, seen: Presence) -> None:
        self._seen[identity] = seen
        stored = {name: value for name, value in vars(seen).items() if name != "connected"}
        self._registry.store.put(DOCUMENTS, str(identity), stored)

    def _change(self, gateway: str | None, name: str, change: dict[str, str] | None) -> None:
        if gateway is None:
            return  # IoT Hub itself has no $edgeHub twin
        clients = self._unreported.setdefault(gateway, {})
        if change is None:
            clients[name] = None
        else:
            clients[name] = {**(clients.get(name) or {}), **change}
        if self._alarm is None:
            self._alarm = self._clock.later(GATHER_S, self.report)

    def _reported(self, gateway: str) -> dict[str, Any]:
        try:
            clients = self._registry.twin(Identity(gateway, EDGE_HUB)).reported.get("clients")
        except NotFound:
            return {}
        return clients if isinstance(clients, dict) else {}

    def _now(self) -> str:
        return iso_time(self._clock.wall(), "milliseconds")


def _name(identity: Identity) -> str:
    return str(identity).translate(_ESCAPED)
