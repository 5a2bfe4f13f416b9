"""How much an edge device's queues may hold: storeAndForwardConfiguration.storeLimits (ref 4.7). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.routes import RouteError


class StoreFull(Exception):
    """The store holds as much as it may: this message is not stored and must not be acknowledged."""


def max_size_bytes(desired_edge_hub: Mapping[str, Any]) -> int | None:
    """The limit in `$edgeHub`'s desired properties, None = none; raises RouteError."""
    section = desired_edge_hub.get("storeAndForwardConfiguration")
    limits = section.get("storeLimits") if isinstance(section, Mapping) else None
    if limits is None:
        return None
    limit = limits.get("maxSizeBytes") if isinstance(limits, Mapping) else None
    if type(limit) is not int or limit <= 0:
        raise RouteError(
            f"storeAndForwardConfiguration.storeLimits.maxSizeBytes is {limit!r}, not a whole number above 0"
        )
    return limit
