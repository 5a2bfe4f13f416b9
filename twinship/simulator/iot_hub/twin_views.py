"""Twins as the service shows them: with the attributes of their identity and their deployments (ref 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import Presence
from twinship.simulator.iot_hub.query.language import MODULES, Query
from twinship.simulator.iot_hub.query.rows import Key, rows
from twinship.simulator.iot_hub.registry import Registry

Statuses = Callable[[Identity], Mapping[str, Any]]


class TwinViews:
    """`statuses` returns the `configurations` of a twin by id; empty if no configuration targets it."""

    def __init__(
        self, registry: Registry, presence: Callable[[Identity], Presence], statuses: Statuses
    ) -> None:
        self._registry = registry
        self._presence = presence
        self._statuses = statuses

    def of(self, identity: Identity) -> dict[str, Any]:
        """One twin; raises NotFound."""
        document = self._registry.twin(identity)
        attributes = self._registry.get(identity).twin_attributes(self._presence(identity))
        statuses = self._statuses(identity)
        configurations = {"configurations": dict(statuses)} if statuses else {}
        return document.for_service(identity, **attributes, **configurations)

    def rows(self, query: Query) -> list[tuple[Key, Mapping[str, Any]]]:
        """The rows that a query finds now, each with the key for paging."""
        return rows(query, self._every(modules=query.source == MODULES))

    def _every(self, *, modules: bool) -> Iterator[dict[str, Any]]:
        for document in self._registry.every():
            if (document.identity.module is not None) is modules:
                yield self.of(document.identity)
