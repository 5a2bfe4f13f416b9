"""The direct methods that `$edgeHub` itself answers (ref 3). Pure."""

from __future__ import annotations

from typing import Any, Final

from simulator.identity_document import ArgumentInvalid
from simulator.methods import MethodAnswer, NotConnected

REFRESH: Final = "RefreshDeviceScopeIdentityCache"


def invoke(name: str, payload: Any) -> MethodAnswer:
    """Answer at once. Raises ArgumentInvalid for a payload, NotConnected for a method that it does not know.

    The simulated edgeHub reads the registry itself, so there is no cache that could be stale.
    """
    if name.casefold() != REFRESH.casefold():
        raise NotConnected(f"Method {name} is not one of $edgeHub's, which has {REFRESH}")
    devices = payload.get("deviceIds") if isinstance(payload, dict) else None
    if not isinstance(devices, list) or not all(isinstance(device, str) for device in devices):
        raise ArgumentInvalid(f"{REFRESH} takes an object with 'deviceIds', an array of text")
    return MethodAnswer(200, None)
