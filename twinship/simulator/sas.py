"""Shared access signatures: parses, makes and checks the tokens of ref 1.5.

Written from the protocol, not from the SDK's code, so that tests can compare the two.

>>> token = sign("c2VjcmV0", "hub.example/devices/edge-1", expiry=2000)
>>> token.partition("&sig=")[0]
'SharedAccessSignature sr=hub.example%2Fdevices%2Fedge-1'
>>> verify(token, allowed=[("HUB.example:8443/devices/edge-1", ["c2VjcmV0"])], now=1000.0)
'HUB.example/devices/edge-1'
>>> verify(token, allowed=[("hub.example/devices/edge-1", ["c2VjcmV0"])], now=2001.0)
Traceback (most recent call last):
twinship.simulator.sas.SasRefused: token for 'hub.example/devices/edge-1' expired 1 s ago
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_plus

SCHEME = "SharedAccessSignature"
_HOST_PORT = re.compile(r"(\[[^\]]*\]|[^:/]*)(:\d+)?(/.*)?", re.DOTALL)
_FIELDS = frozenset({"sr", "sig", "se", "skn"})
MAX_TOKEN_CHARACTERS = 4096


class SasRefused(Exception):
    """The token is invalid. The reason never contains its signature."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Sas:
    """The fields of a token. `resource` is decoded; the signature covers `signed_text` exactly."""

    resource: str
    signature: bytes = field(repr=False)
    expiry: int  # seconds since the epoch
    policy: str | None
    signed_text: str = field(repr=False)


def parse(token: str) -> Sas:
    """Split a token into its fields, in any order; raises SasRefused."""
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise SasRefused(f"token longer than {MAX_TOKEN_CHARACTERS} characters")
    scheme, _, rest = token.partition(" ")
    if scheme.lower() != SCHEME.lower():
        raise SasRefused(f"not a {SCHEME} token")
    fields = _fields(rest.strip())
    return Sas(
        resource=unquote_plus(fields["sr"]),
        signature=_signature(fields["sig"]),
        expiry=_expiry(fields["se"]),
        policy=unquote_plus(fields["skn"]) if "skn" in fields else None,
        signed_text=f"{fields['sr']}\n{fields['se']}",
    )


def verify(token: str, *, allowed: Sequence[tuple[str, Sequence[str]]], now: float) -> str:
    """Return the allowed resource that the token names and whose key signed it.

    `allowed` pairs each resource with its base64 keys (primary, secondary). Resources are compared without
    port and case-insensitively (ref 4.2); the result is spelt as in `allowed`, without its port.
    Raises SasRefused: malformed, expired, for another resource, or signed with another key.
    """
    sas = parse(token)
    if sas.expiry <= now:
        raise SasRefused(f"token for {sas.resource!r} expired {now - sas.expiry:.0f} s ago")
    candidates = [(resource, keys) for resource, keys in allowed if _same(resource, sas.resource)]
    if not candidates:
        raise SasRefused(f"token is for {sas.resource!r}, which is not the requested resource")
    for resource, keys in candidates:
        # tries every key, so that the duration does not reveal which one matched
        matches = [hmac.compare_digest(_digest(key, sas.signed_text), sas.signature) for key in keys]
        if any(matches):
            return without_port(resource)
    raise SasRefused(f"token for {sas.resource!r} is not signed with its primary or secondary key")


def sign(key: str, resource: str, expiry: int, policy: str | None = None) -> str:
    """Make the token for a resource with a base64 key; raises ValueError for a key that is not base64."""
    encoded = quote(resource, safe="")
    signature = base64.b64encode(_digest(key, f"{encoded}\n{expiry}")).decode("ascii")
    token = f"{SCHEME} sr={encoded}&sig={quote(signature, safe='')}&se={expiry}"
    return token if policy is None else f"{token}&skn={quote(policy, safe='')}"


def digest(key: str, data: bytes) -> bytes:
    """HMAC-SHA256 with a base64 key, as the workload API signs (ref 1.4); raises ValueError for a bad key."""
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a shared access key is not base64") from None
    if not raw:  # HMAC accepts an empty key, and then anybody can sign
        raise ValueError("a shared access key is empty")
    return hmac.new(raw, data, hashlib.sha256).digest()


def without_port(resource: str) -> str:
    """The resource with the `:port` of its host removed (ref statement 14)."""
    match = _HOST_PORT.fullmatch(resource)
    return resource if match is None else f"{match[1]}{match[3] or ''}"


def _digest(key: str, text: str) -> bytes:
    return digest(key, text.encode())


def _same(one: str, other: str) -> bool:
    return without_port(one).casefold().rstrip("/") == without_port(other).casefold().rstrip("/")


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for pair in text.split("&"):
        name, equals, value = pair.partition("=")
        if name not in _FIELDS or not equals or not value or name in fields:
            raise SasRefused("token is malformed: each of sr, sig, se once, skn at most once")
        fields[name] = value
    if missing := sorted({"sr", "sig", "se"} - fields.keys()):
        raise SasRefused(f"token lacks {', '.join(missing)}")
    return fields


def _signature(text: str) -> bytes:
    try:
        # a base64 '+' that was not percent-encoded reads as a space
        return base64.b64decode(unquote_plus(text).replace(" ", "+"), validate=True)
    except (binascii.Error, ValueError):
        raise SasRefused("token's sig is not base64") from None


def _expiry(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text):
        raise SasRefused("token's se is not a time in seconds")
    return int(text)
