"""`$edgeHub`'s desired properties: into force when they parse, refused as a whole when not (ref 4.6).

Either way `$edgeHub` reports it. The last good configuration is kept, so that a bad one does not stop the
messages after a restart either. What a route means is routes.py's.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

from twinship.simulator.edge_hub.edge_hub import EdgeHub
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import EDGE_HUB, NotFound, Registry
from twinship.simulator.routing.routes import RouteError, Routing, max_size_bytes

logger = logging.getLogger(__name__)

DOCUMENTS: Final = "edge_hub_configuration"
MAX_DESCRIPTION_CHARACTERS: Final = 1000  # a reported text may have 4096 bytes


class EdgeConfiguration:
    """Follows the `$edgeHub` twin of each edge device."""

    def __init__(self, registry: Registry, edge_hub: EdgeHub, devices: Collection[str]) -> None:
        self._registry = registry
        self._edge_hub = edge_hub
        self._devices = devices

    def start(self) -> None:
        """Put the last good configurations in force, then what the twins say now."""
        for device, desired in self._registry.store.documents(DOCUMENTS).items():
            try:
                self._put_in_force(device, desired)
            except RouteError as error:  # it was good for the version that kept it
                logger.error("%s: the last configuration is good no more: %s", device, error)
        for device in self._devices:
            self._apply(device)

    def desired_changed(self, identity: Identity, _patch: Mapping[str, Any]) -> None:
        """Enrol this in `registry.on_desired`."""
        if identity.module == EDGE_HUB and identity.device in self._devices:
            self._apply(identity.device)

    def _apply(self, device: str) -> None:
        try:
            twin = self._registry.twin(Identity(device, EDGE_HUB))
        except NotFound:
            return
        if not twin.desired:
            return  # nobody has deployed anything yet
        try:
            self._put_in_force(device, twin.desired)
        except RouteError as error:
            logger.error("%s: configuration refused, the old one stays: %s", device, error)
            text = f"Error while parsing desired properties - {error}"[:MAX_DESCRIPTION_CHARACTERS]
            self._report(device, twin.desired_version, {"code": 400, "description": text})
        else:
            logger.info("%s: configuration %s in force", device, twin.desired_version)
            self._registry.store.put(DOCUMENTS, device, dict(twin.desired))
            self._report(device, twin.desired_version, {"code": 200, "description": ""})

    def _put_in_force(self, device: str, desired: Mapping[str, Any]) -> None:
        """All of it, or RouteError and nothing."""
        self._edge_hub.reconfigure(device, Routing.parse(desired), max_size_bytes(desired))

    def _report(self, device: str, version: int, status: Mapping[str, Any]) -> None:
        identity = Identity(device, EDGE_HUB)
        report = {"schemaVersion": "1.1", "lastDesiredVersion": version, "lastDesiredStatus": dict(status)}
        reported = self._registry.twin(identity).reported
        if any(reported.get(key) != value for key, value in report.items()):
            self._registry.patch_reported(identity, report)
