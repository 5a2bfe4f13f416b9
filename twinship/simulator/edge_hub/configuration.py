"""Applies `$edgeHub`'s desired properties when all of them parse, else none of them (ref 4.6).

`$edgeHub` reports the result. The last good configuration is stored, so routing continues after a restart
even if the present desired properties are bad. routing/routes.py parses the routes.
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
        """Apply the last good configurations, then the present desired properties."""
        for device, desired in self._registry.store.documents(DOCUMENTS).items():
            try:
                self._put_in_force(device, desired)
            except RouteError as error:  # an older version of the simulator stored it
                logger.error("%s: the stored configuration is not valid any more: %s", device, error)
        for device in self._devices:
            self._apply(device)

    def desired_changed(self, identity: Identity, _patch: Mapping[str, Any]) -> None:
        """A callback for `registry.on_desired`."""
        if identity.module == EDGE_HUB and identity.device in self._devices:
            self._apply(identity.device)

    def _apply(self, device: str) -> None:
        try:
            twin = self._registry.twin(Identity(device, EDGE_HUB))
        except NotFound:
            return
        if not twin.desired:
            return  # no deployment yet
        try:
            self._put_in_force(device, twin.desired)
        except RouteError as error:
            logger.error("%s: configuration refused, the old one stays in force: %s", device, error)
            text = f"Error while parsing desired properties - {error}"[:MAX_DESCRIPTION_CHARACTERS]
            self._report(device, twin.desired_version, {"code": 400, "description": text})
        else:
            logger.info("%s: configuration %s in force", device, twin.desired_version)
            self._registry.store.put(DOCUMENTS, device, dict(twin.desired))
            self._report(device, twin.desired_version, {"code": 200, "description": ""})

    def _put_in_force(self, device: str, desired: Mapping[str, Any]) -> None:
        """Apply the whole configuration; raises RouteError without applying any of it."""
        self._edge_hub.router.reconfigure(device, Routing.parse(desired), max_size_bytes(desired))

    def _report(self, device: str, version: int, status: Mapping[str, Any]) -> None:
        identity = Identity(device, EDGE_HUB)
        report = {"schemaVersion": "1.1", "lastDesiredVersion": version, "lastDesiredStatus": dict(status)}
        reported = self._registry.twin(identity).reported
        if any(reported.get(key) != value for key, value in report.items()):
            self._registry.patch_reported(identity, report)
