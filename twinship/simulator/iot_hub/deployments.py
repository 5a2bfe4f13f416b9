"""Stores the automatic deployments and applies them to the edge devices that they target (ref 8).

When a device's twin or a configuration changes, the device is reconciled in the next turn of the event loop:
if other configurations are in force than were applied last, they are applied. A device that no configuration
targets any more keeps its modules, as on IoT Hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.configuration import Configuration, compile_target, in_force
from twinship.simulator.iot_hub.configuration import merged as merged_content
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, Presence
from twinship.simulator.iot_hub.query.terms import Evaluate
from twinship.simulator.iot_hub.registry import EDGE_AGENT, InvalidConfiguration, Registry, check_etag
from twinship.simulator.iot_hub.twin_limits import TwinRefused

logger = logging.getLogger(__name__)

CONFIGURATION: Final = "configuration"  # kinds of documents in the store
DEPLOYED: Final = "deployed"
MOST_CONFIGURATIONS: Final = 100

Later = Callable[[Callable[[], None]], object]


class NoConfiguration(LookupError):
    """There is no configuration with this id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"there is no configuration {id!r}")


class ConfigurationExists(Exception):
    """The configuration exists already, and the request has no If-Match to update it."""


class Deployments:
    """`later` runs a function in the next turn of the event loop, after the present change is complete."""

    def __init__(self, registry: Registry, later: Later) -> None:
        self._registry = registry
        self._later = later
        store = registry.store
        self._targets: dict[str, Evaluate] = {}
        self._configurations: dict[str, Configuration] = {}
        for stored in store.documents(CONFIGURATION).values():
            self._add(Configuration(**stored))
        #: Edge device → the configurations applied last, each as [id, generation], the base first.
        self._deployed: dict[str, list[list[str]]] = store.documents(DEPLOYED)
        self._due: set[str] = set()
        registry.on_twin.append(self._twin_changed)
        registry.on_created.append(self._created)
        registry.on_removed.append(self._removed)
        self._reconcile_all_later()

    def all(self) -> list[Configuration]:
        """All configurations, by id."""
        return [self._configurations[id] for id in sorted(self._configurations)]

    def get(self, id: str) -> Configuration:
        """Raises NoConfiguration."""
        if id not in self._configurations:
            raise NoConfiguration(id)
        return self._configurations[id]

    def create(self, id: str, body: Mapping[str, Any]) -> Configuration:
        """Raises ConfigurationExists, and what Configuration.from_body raises."""
        if id in self._configurations:
            raise ConfigurationExists(f"configuration {id!r} exists already")
        if len(self._configurations) >= MOST_CONFIGURATIONS:
            raise ArgumentInvalid(f"there are {MOST_CONFIGURATIONS} configurations, which is the maximum")
        return self._save(Configuration.from_body(id, body, self._registry.now()))

    def update(self, id: str, body: Mapping[str, Any], *, if_match: str) -> Configuration:
        """Raises NoConfiguration, PreconditionFailed, and what Configuration.with_body raises."""
        before = self.get(id)
        check_etag(id, before.etag, if_match)
        return self._save(before.with_body(body, self._registry.now()))

    def delete(self, id: str, *, if_match: str | None) -> None:
        """Delete; devices get the next one in rank. Raises NoConfiguration, PreconditionFailed."""
        check_etag(id, self.get(id).etag, if_match)
        del self._configurations[id], self._targets[id]
        self._registry.store.delete(CONFIGURATION, id)
        self._reconcile_all_later()

    def statuses(self, identity: Identity) -> dict[str, dict[str, str]]:
        """`configurations` in the twin of an edge device or its `$edgeAgent`; empty for other twins."""
        if identity.module not in (None, EDGE_AGENT) or not self._configurations:
            return {}
        applied = [id for id, _ in self._deployed.get(identity.device, ())]
        targeting = sorted(each.id for each in self._targeting(identity.device))
        return {id: {"status": "Applied" if id in applied else "Targeted"} for id in targeting}

    def governs(self, device: str) -> bool:
        """Whether an automatic deployment is in force on this device; then no other deployment is allowed."""
        return bool(in_force(self._targeting(device)))

    def _add(self, configuration: Configuration) -> None:
        self._configurations[configuration.id] = configuration
        self._targets[configuration.id] = compile_target(configuration.target_condition)

    def _save(self, configuration: Configuration) -> Configuration:
        self._add(configuration)
        self._registry.store.put(CONFIGURATION, configuration.id, asdict(configuration))
        self._reconcile_all_later()
        return configuration

    def _targeting(self, device: str) -> list[Configuration]:
        identity = Identity(device)
        document = self._registry.get(identity)
        if not document.edge:
            return []
        twin = self._registry.twin(identity)
        view = twin.for_service(identity, **document.twin_attributes(Presence()))
        return [each for id, each in self._configurations.items() if self._targets[id](view) is True]

    def _twin_changed(self, identity: Identity) -> None:
        if identity.module is None:
            self._created(identity)

    def _created(self, identity: Identity) -> None:
        # `$edgeAgent` is created when a device becomes an edge device
        if self._configurations and identity.module in (None, EDGE_AGENT):
            self._reconcile_later(identity.device)

    def _removed(self, identity: Identity) -> None:
        if identity.module is None:
            self._forget(identity.device)

    def _reconcile_all_later(self) -> None:
        if self._configurations or self._deployed:
            for document in self._registry.devices():
                self._reconcile_later(document.identity.device)

    def _reconcile_later(self, device: str) -> None:
        if not self._due:
            self._later(self._reconcile_due)
        self._due.add(device)

    def _reconcile_due(self) -> None:
        due, self._due = sorted(self._due), set()
        edges = {document.identity.device for document in self._registry.devices() if document.edge}
        for device in due:
            if device in edges:
                self._reconcile(device)

    def _reconcile(self, device: str) -> None:
        """Apply the configurations in force unless they were applied last."""
        in_rank = in_force(self._targeting(device))
        names = [[each.id, each.generation] for each in in_rank]
        if not in_rank:
            self._forget(device)
        elif names != self._deployed.get(device):
            self._apply(device, in_rank, names)

    def _apply(self, device: str, in_rank: list[Configuration], names: list[list[str]]) -> None:
        ids = ", ".join(each.id for each in in_rank)
        try:
            self._registry.apply_configuration(device, merged_content(each.content for each in in_rank))
        except (InvalidConfiguration, TwinRefused) as error:
            logger.warning("%s: configurations %s cannot be applied: %s", device, ids, error)
        else:
            logger.info("%s: configurations in force: %s", device, ids)
            self._deployed[device] = names
            self._registry.store.put(DEPLOYED, device, names)

    def _forget(self, device: str) -> None:
        if self._deployed.pop(device, None) is not None:
            self._registry.store.delete(DEPLOYED, device)
