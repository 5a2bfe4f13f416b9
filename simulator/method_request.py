"""A direct method call as it arrives over HTTP, from the service or through edgeHub (ref 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_NAME_CHARACTERS = 100
MAX_PAYLOAD_BYTES = 128 * 1024


class MethodRequestInvalid(ValueError):
    """The call breaks a limit: status 400."""


@dataclass(frozen=True)
class MethodRequest:
    """Name, payload (any JSON value; None when left out), and how long to wait for answer and connection."""

    name: str
    payload: Any = field(repr=False)
    response_timeout_s: float
    connect_timeout_s: float

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> MethodRequest:
        """Read the JSON body of the call; raises MethodRequestInvalid."""
        name = body.get("methodName")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS:
            raise MethodRequestInvalid(f"methodName must be text of 1 to {MAX_NAME_CHARACTERS} characters")
        payload = body.get("payload")
        size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_PAYLOAD_BYTES:
            raise MethodRequestInvalid(f"payload is {size} bytes, at most {MAX_PAYLOAD_BYTES}")
        return cls(
            name=name,
            payload=payload,
            response_timeout_s=_seconds(body, "responseTimeoutInSeconds", least=5, default=30),
            connect_timeout_s=_seconds(body, "connectTimeoutInSeconds", least=0, default=0),
        )


def _seconds(body: Mapping[str, Any], name: str, *, least: int, default: int) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 300:
        raise MethodRequestInvalid(f"{name} must be {least} to 300")
    return value
