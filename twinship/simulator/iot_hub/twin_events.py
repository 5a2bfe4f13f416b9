"""Twin change events: what IoT Hub sends to its built-in endpoint when a twin changes (ref 4.12).

A change of the service and a report of a client are one event each. A PUT of the service replaces the twin;
everything else updates it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from twinship.simulator.common.times import iso_time
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.twin import TwinDocument, changes
from twinship.simulator.routing.message import RoutedMessage

SOURCE: Final = "twinChangeEvents"
SCHEMA: Final = "twinChangeNotification"


def twin_event(
    identity: Identity, before: TwinDocument, after: TwinDocument, *, replaced: bool, hub: str, now: float
) -> RoutedMessage:
    """The event of one change; `now` is seconds since the epoch."""
    module = {} if identity.module is None else {"moduleId": identity.module}
    properties = {
        "deviceId": identity.device,
        **module,
        "hubName": hub,
        "operationTimestamp": iso_time(now),
        "iothub-message-schema": SCHEMA,
        "opType": "replaceTwin" if replaced else "updateTwin",
    }
    system = {
        "contentType": "application/json",
        "contentEncoding": "utf-8",
        "cid": uuid.uuid4().hex,
        "userId": hub,
        "connectionDeviceId": identity.device,
        **({"connectionModuleId": identity.module} if identity.module is not None else {}),
        "iothub-message-source": SOURCE,
    }
    body = after.for_service(identity) if replaced else _update(before, after)
    return RoutedMessage(f"/{SOURCE}", properties, system, json.dumps(body, separators=(",", ":")).encode())


def _update(before: TwinDocument, after: TwinDocument) -> dict[str, Any]:
    """The version, and of each changed section what changed with its metadata; null for removed names."""
    body: dict[str, Any] = {"version": after.version}
    if tags := changes(before.tags, after.tags):
        body["tags"] = tags
    sections = {
        "desired": (before.desired, after.desired, after.desired_metadata, after.desired_version),
        "reported": (before.reported, after.reported, after.reported_metadata, after.reported_version),
    }
    for name, (old, new, metadata, version) in sections.items():
        if patch := changes(old, new):
            part = {**patch, "$metadata": _metadata_of(patch, metadata), "$version": version}
            body.setdefault("properties", {})[name] = part
    return body


def _metadata_of(patch: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a metadata tree for the names of a patch."""
    kept = {name: value for name, value in metadata.items() if name[0] == "$"}
    for name, value in patch.items():
        if name in metadata:
            kept[name] = _metadata_of(value if isinstance(value, Mapping) else {}, metadata[name])
    return kept
