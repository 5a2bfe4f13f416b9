"""One identity of the registry: keys, status and etag, and its JSON in the service's REST API (ref 5.3)."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twinship.simulator.common.times import iso_time
from twinship.simulator.identity import Identity

KEY_BYTES = 64
MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 64
MAX_REASON_CHARACTERS = 128
MAX_SCOPE_CHARACTERS: Final = 256
MAX_PARENTS: Final = 8


class ArgumentInvalid(ValueError):
    """A value of the caller is invalid; the message is one line and never contains a key."""


class Unsupported(Exception):
    """IoT Hub supports this, the simulator does not."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not in this simulator: {what}")


@dataclass(frozen=True)
class Presence:
    """Whether a client is connected, when that changed and when it was active (since the epoch)."""

    connected: bool = False
    state_updated: float | None = None
    active: float | None = None
    model_id: str = ""

    @property
    def state(self) -> str:
        """The connectionState."""
        return "Connected" if self.connected else "Disconnected"


@dataclass(frozen=True)
class IdentityDocument:
    """A stored device or module. Times are seconds since the epoch, keys are base64."""

    identity: Identity
    primary_key: str = field(repr=False)
    secondary_key: str = field(repr=False)
    generation_id: str
    etag: str
    status: str = "enabled"
    status_reason: str | None = None
    status_updated: float | None = None
    edge: bool = False
    managed_by: str = ""
    leaf_scope: str = ""
    parent_scopes: Sequence[str] = field(default_factory=list)

    @property
    def device_scope(self) -> str:
        """The scope of a device: an edge device has its own, another device that of its parent (ref 5.3)."""
        if not self.edge:
            return self.leaf_scope
        return f"ms-azure-iot-edge://{self.identity.device}-{self.generation_id}"

    @classmethod
    def fresh(cls, identity: Identity, *, edge: bool = False, managed_by: str = "") -> IdentityDocument:
        """A new identity with random keys."""
        generation_id = str(10**17 + secrets.randbelow(9 * 10**17))
        return cls(identity, _key(), _key(), generation_id, _etag(), edge=edge, managed_by=managed_by)

    def updated(self, body: Mapping[str, Any], now: float) -> IdentityDocument:
        """The document after a PUT; values not in the body stay. Raises ArgumentInvalid, Unsupported."""
        primary, secondary = _keys(body, self)
        status = body.get("status") or self.status
        if status not in ("enabled", "disabled"):
            raise ArgumentInvalid(f"status {status!r} is neither 'enabled' nor 'disabled'")
        reason = _text(body, "statusReason", self.status_reason)
        changed = (status, reason) != (self.status, self.status_reason)
        edge = _edge(body, self.edge)
        scope, parents = _scopes(body, self, edge=edge)
        return replace(
            self,
            primary_key=primary,
            secondary_key=secondary,
            etag=_etag(),
            status=status,
            status_reason=reason,
            status_updated=now if changed else self.status_updated,
            edge=edge,
            leaf_scope=scope,
            parent_scopes=parents,
            managed_by=_text(body, "managedBy", self.managed_by) or "",
        )

    def for_service(self, seen: Presence) -> dict[str, Any]:
        """The Device or Module object of the REST API, keys included."""
        return {
            **self._names(),
            "generationId": self.generation_id,
            "etag": self.etag,
            "connectionState": seen.state,
            "connectionStateUpdatedTime": iso_time(seen.state_updated),
            "lastActivityTime": iso_time(seen.active),
            "cloudToDeviceMessageCount": 0,
            "authentication": {
                "symmetricKey": {"primaryKey": self.primary_key, "secondaryKey": self.secondary_key},
                "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
                "type": "sas",
            },
            **self._status(),
        }

    def twin_attributes(self, seen: Presence) -> dict[str, Any]:
        """The attributes of the identity that its twin shows."""
        return {
            "deviceEtag": self.etag,
            "status": self.status,
            "statusReason": self.status_reason,
            "statusUpdateTime": iso_time(self.status_updated),
            "connectionState": seen.state,
            "lastActivityTime": iso_time(seen.active),
            "cloudToDeviceMessageCount": 0,
            "authenticationType": "sas",
            "x509Thumbprint": {"primaryThumbprint": None, "secondaryThumbprint": None},
            "modelId": seen.model_id,
            **(self._of_device() if self.identity.module is None else {}),
        }

    def to_json(self) -> dict[str, Any]:
        """All fields, for the store; the exact inverse of from_json."""
        return {**self.__dict__, "identity": str(self.identity)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> IdentityDocument:
        """Read the result of to_json."""
        return cls(**{**stored, "identity": Identity.parse(stored["identity"])})

    def _names(self) -> dict[str, Any]:
        if self.identity.module is None:
            return {"deviceId": self.identity.device}
        return {
            "deviceId": self.identity.device,
            "moduleId": self.identity.module,
            "managedBy": self.managed_by or None,
        }

    def _status(self) -> dict[str, Any]:
        if self.identity.module is not None:
            return {}
        return {
            "status": self.status,
            "statusReason": self.status_reason,
            "statusUpdatedTime": iso_time(self.status_updated),
            **self._of_device(),
        }

    def _of_device(self) -> dict[str, Any]:
        scopes = {"deviceScope": self.device_scope, "parentScopes": list(self.parent_scopes)}
        return {
            "capabilities": {"iotEdge": self.edge},
            **{name: scope for name, scope in scopes.items() if scope},
        }


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def _etag() -> str:
    return base64.b64encode(secrets.token_bytes(8)).decode("ascii")


def _text(body: Mapping[str, Any], name: str, present: str | None) -> str | None:
    value = body.get(name, present)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_REASON_CHARACTERS):
        raise ArgumentInvalid(f"{name} must be text of at most {MAX_REASON_CHARACTERS} characters")
    return value


def _edge(body: Mapping[str, Any], present: bool) -> bool:
    match body.get("capabilities"):
        case None:
            return present
        case {"iotEdge": bool(edge)}:
            return edge
    raise ArgumentInvalid("capabilities must be an object with iotEdge true or false")


def _scopes(body: Mapping[str, Any], present: IdentityDocument, *, edge: bool) -> tuple[str, Sequence[str]]:
    """Scope and parents after a PUT. A device that is no edge device has its parent's scope (ref 5.3)."""
    parents = body.get("parentScopes")
    scope = body.get("deviceScope", "" if parents == [] else present.leaf_scope) or ""
    if not isinstance(parents, list | None) or len(parents or ()) > MAX_PARENTS:
        raise ArgumentInvalid(f"parentScopes must be an array of at most {MAX_PARENTS} texts")
    for each in (scope, *(parents or ())):
        if not isinstance(each, str) or len(each) > MAX_SCOPE_CHARACTERS:
            raise ArgumentInvalid(f"a scope must be text of at most {MAX_SCOPE_CHARACTERS} characters")
    if edge:
        return "", present.parent_scopes if parents is None else parents
    if parents and not body.get("deviceScope"):
        scope = parents[0]
    return scope, parents or ([scope] if scope else [])


def _keys(body: Mapping[str, Any], present: IdentityDocument) -> tuple[str, str]:
    """Both keys of the body; a body without keys keeps the present ones."""
    authentication = body.get("authentication") or {}
    if not isinstance(authentication, Mapping):
        raise ArgumentInvalid("authentication must be an object")
    if (kind := authentication.get("type") or "sas") != "sas":
        raise Unsupported(f"authentication type {kind!r}; identities have keys ('sas')")
    given = authentication.get("symmetricKey") or {}
    if not isinstance(given, Mapping):
        raise ArgumentInvalid("symmetricKey must be an object")
    primary, secondary = given.get("primaryKey") or None, given.get("secondaryKey") or None
    if primary is None and secondary is None:
        return present.primary_key, present.secondary_key
    return _checked_key(primary, "primaryKey"), _checked_key(secondary, "secondaryKey")


def _checked_key(value: object, name: str) -> str:
    try:
        length = len(base64.b64decode(value, validate=True)) if isinstance(value, str) else 0
    except (binascii.Error, ValueError):
        length = 0
    if not MIN_KEY_BYTES <= length <= MAX_KEY_BYTES:
        raise ArgumentInvalid(
            f"{name} must be base64 of {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; give both keys"
        )
    return str(value)
