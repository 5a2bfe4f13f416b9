"""Who comes and who goes: counted for the metrics, and reported by `$edgeHub` as `clients` (ref 8).

What happens within a second is one patch; a client that flaps costs one a second. Decides nobody's entry.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from twinship.simulator.clock import Alarm, Clock
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import EDGE_HUB, NotFound, Registry
from twinship.simulator.iot_hub.twin import TwinRefused
from twinship.simulator.store import StorageFailed

logger = logging.getLogger(__name__)

GATHER_S: Final = 1.0
CONNECTED, DISCONNECTED = "Connected", "Disconnected"
# Names in a twin may not hold these; edgeHub writes them percent-encoded.
_ESCAPED: Final = str.maketrans({".": "%2E", "$": "%24", " ": "%20", "#": "%23"})


class Connections:
    """The clients of every edge device ("gateway") of a simulator."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self.connects: Counter[tuple[str | None, str]] = Counter()  # by gateway and client
        self.disconnects: Counter[tuple[str | None, str]] = Counter()
        self.refusals: Counter[tuple[str | None, int]] = Counter()  # by gateway and CONNACK code
        self._registry = registry
        self._clock = clock
        self._unreported: dict[str, dict[str, Any]] = {}  # gateway -> client -> what changed
        self._alarm: Alarm | None = None

    def begin(self, gateway: str) -> None:
        """Nobody is there when a hub starts: clients that its predecessor left as connected are not."""
        for name, client in self._reported(gateway).items():
            if isinstance(client, dict) and client.get("status") == CONNECTED:
                self._note(gateway, name, {"status": DISCONNECTED, "lastDisconnectedTimeUtc": self._now()})

    def came(self, gateway: str | None, identity: Identity) -> None:
        """A client was let in."""
        self.connects[gateway, str(identity)] += 1
        self._note(gateway, _name(identity), {"status": CONNECTED, "lastConnectedTimeUtc": self._now()})

    def went(self, gateway: str | None, identity: Identity) -> None:
        """A client's connection ended; of devices that are no modules nothing is kept."""
        self.disconnects[gateway, str(identity)] += 1
        gone = {"status": DISCONNECTED, "lastDisconnectedTimeUtc": self._now()}
        self._note(gateway, _name(identity), gone if identity.module is not None else None)

    def refused(self, gateway: str | None, code: int) -> None:
        """A client was not let in."""
        self.refusals[gateway, code] += 1

    def report(self) -> None:
        """Write what has changed since the last time."""
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
                return  # the process ends for that very reason
            except TwinRefused as refused:
                logger.warning("%s: clients are not reported: %s", gateway, refused)

    def _note(self, gateway: str | None, name: str, change: dict[str, str] | None) -> None:
        if gateway is None:
            return  # IoT Hub itself has no $edgeHub that would report its clients
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
        stamp = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds")
        return stamp.replace("+00:00", "Z")


def _name(identity: Identity) -> str:
    return str(identity).translate(_ESCAPED)
