"""Many registry changes in one call (POST /devices, ref 5.2): each is tried; failures are listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid
from twinship.simulator.iot_hub.registry import NotFound, Registry
from twinship.simulator.iot_hub.twin import TwinDocument
from twinship.simulator.service_api.errors import service_error
from twinship.simulator.service_api.requests import etag_of, twin_sections

MAX_ENTRIES = 100

Entry = Mapping[str, Any]


def apply_bulk(registry: Registry, entries: Sequence[Any]) -> dict[str, Any]:
    """Returns the BulkRegistryOperationResult; raises ArgumentInvalid if the list itself is invalid."""
    if len(entries) > MAX_ENTRIES or not all(isinstance(entry, Mapping) for entry in entries):
        raise ArgumentInvalid(f"the body must be an array of at most {MAX_ENTRIES} objects")
    errors = [error for entry in entries if (error := _error(registry, entry)) is not None]
    return {"isSuccessful": not errors, "errors": errors, "warnings": []}


def _error(registry: Registry, entry: Entry) -> dict[str, Any] | None:
    try:
        identity = _identity(entry)
        mode = entry.get("importMode") or "createOrUpdate"
        operation = _BY_MODE.get(mode.lower()) if isinstance(mode, str) else None
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
    TwinDocument().patch_service(registry.now(), **_sections(entry))  # validates before creating
    registry.create(identity, entry)
    _write_twin(registry, identity, entry, None)


def _create_or_update(registry: Registry, identity: Identity, entry: Entry) -> None:
    try:
        registry.get(identity)
    except NotFound:
        _create(registry, identity, entry)
    else:
        registry.update(identity, entry)


def _write_twin(registry: Registry, identity: Identity, entry: Entry, if_match: str | None) -> None:
    if sections := _sections(entry):
        registry.patch_twin(identity, **sections, if_match=if_match)


def _sections(entry: Entry) -> dict[str, Any]:
    """The sections of an entry; an exported entry has null for a section that it does not have."""
    return {name: section for name, section in twin_sections(entry).items() if section is not None}


def _etag(entry: Entry) -> str | None:
    return etag_of(entry.get("eTag"))


_OPERATIONS: dict[str, Callable[[Registry, Identity, Entry], object]] = {
    "create": _create,
    "update": lambda registry, identity, entry: registry.update(identity, entry),
    "updateIfMatchETag": lambda registry, identity, entry: registry.update(
        identity, entry, if_match=_etag(entry)
    ),
    "createOrUpdate": _create_or_update,
    "delete": lambda registry, identity, _: registry.delete(identity),
    "deleteIfMatchETag": lambda registry, identity, entry: registry.delete(identity, if_match=_etag(entry)),
    "updateTwin": lambda registry, identity, entry: _write_twin(registry, identity, entry, None),
    "updateTwinIfMatchETag": lambda registry, identity, entry: _write_twin(
        registry, identity, entry, etag_of(entry.get("twinETag"))
    ),
}
# the Node SDK writes `Create`, others `create`
_BY_MODE = {mode.lower(): operation for mode, operation in _OPERATIONS.items()}
