"""Many registry changes in one call (POST /devices, ref 5.2): each is tried; failures are listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid
from twinship.simulator.iot_hub.registry import NotFound, Registry
from twinship.simulator.iot_hub.twin import TwinDocument
from twinship.simulator.service_api.errors import service_error

MAX_ENTRIES = 100

Entry = Mapping[str, Any]


def apply_bulk(registry: Registry, entries: Sequence[Any]) -> dict[str, Any]:
    """Returns the BulkRegistryOperationResult; raises ArgumentInvalid if the list itself is invalid."""
    if len(entries) > MAX_ENTRIES or not all(isinstance(entry, Mapping) for entry in entries):
        raise ArgumentInvalid(f"the body must be an array of at most {MAX_ENTRIES} objects")
    errors = [error for entry in entries if (error := _error(registry, entry)) is not None]
    return {"isSuccessful": not errors, "errors": errors, "warnings": []}


def etag_of(text: object) -> str | None:
    """An etag without quotes; the SDK sends it with and without them (ref 5.1)."""
    return text.strip().removeprefix('"').removesuffix('"') if isinstance(text, str) else None


def _error(registry: Registry, entry: Entry) -> dict[str, Any] | None:
    try:
        identity = _identity(entry)
        mode = entry.get("importMode") or "createOrUpdate"
        operation = _OPERATIONS.get(mode) if isinstance(mode, str) else None
        if operation is None:
            raise ArgumentInvalid(f"importMode {mode!r} is none of {', '.join(_OPERATIONS)}")
        operation(registry, identity, entry)
    except Exception as error:
        refusal = service_error(error)
        if refusal is None:
            raise
        names = {"deviceId": entry.get("id"), "moduleId": entry.get("moduleId")}
        return {**names, "errorCode": refusal.kind.name, "errorStatus": str(refusal)}
    return None


def _identity(entry: Entry) -> Identity:
    device, module = entry.get("id"), entry.get("moduleId")
    if not isinstance(device, str) or not isinstance(module, str | None):
        raise ArgumentInvalid("id must be text")
    try:
        return Identity(device, module)
    except ValueError as error:
        raise ArgumentInvalid(str(error)) from None


def _create(registry: Registry, identity: Identity, entry: Entry) -> None:
    desired, tags = _sections(entry)
    TwinDocument().patch_service(registry.now(), desired=desired, tags=tags)  # validates before creating
    registry.create(identity, entry)
    _twin(registry, identity, entry, if_match=None)


def _update(registry: Registry, identity: Identity, entry: Entry) -> None:
    registry.update(identity, entry)


def _update_if_match(registry: Registry, identity: Identity, entry: Entry) -> None:
    registry.update(identity, entry, if_match=etag_of(entry.get("eTag")))


def _create_or_update(registry: Registry, identity: Identity, entry: Entry) -> None:
    try:
        registry.get(identity)
    except NotFound:
        _create(registry, identity, entry)
    else:
        _update(registry, identity, entry)


def _delete(registry: Registry, identity: Identity, entry: Entry) -> None:
    registry.delete(identity)


def _delete_if_match(registry: Registry, identity: Identity, entry: Entry) -> None:
    registry.delete(identity, if_match=etag_of(entry.get("eTag")))


def _update_twin(registry: Registry, identity: Identity, entry: Entry) -> None:
    _twin(registry, identity, entry, if_match=None)


def _update_twin_if_match(registry: Registry, identity: Identity, entry: Entry) -> None:
    _twin(registry, identity, entry, if_match=etag_of(entry.get("twinETag")))


def _twin(registry: Registry, identity: Identity, entry: Entry, *, if_match: str | None) -> None:
    desired, tags = _sections(entry)
    if desired is not None or tags is not None:
        registry.patch_twin(identity, desired=desired, tags=tags, if_match=if_match)


def _sections(entry: Entry) -> tuple[Any, Any]:
    properties = entry.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise ArgumentInvalid("properties must be an object")
    return properties.get("desired"), entry.get("tags")


_OPERATIONS: dict[str, Callable[[Registry, Identity, Entry], None]] = {
    "create": _create,
    "update": _update,
    "updateIfMatchETag": _update_if_match,
    "createOrUpdate": _create_or_update,
    "delete": _delete,
    "deleteIfMatchETag": _delete_if_match,
    "updateTwin": _update_twin,
    "updateTwinIfMatchETag": _update_twin_if_match,
}
