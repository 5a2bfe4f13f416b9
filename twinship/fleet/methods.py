"""Calls a module's direct method through IoT Hub and returns what the module says.
Which methods there are, and what their answers mean, is the module's and the caller's to know."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from twinship.fleet import FleetError
from twinship.fleet.service import CONNECT_TIMEOUT_S, HubRefused, HubUnavailable, NotFound, ServiceHub

MAX_WAIT_S = 300  # IoT Hub's own limits of the response time-out (ref 3, ref 5)
MIN_WAIT_S = 5
START_S = 25.0  # what a device may need beside the time that a method was given for its work
_TRANSFER_S = 5.0  # of the hub's own, beside the time that the module is given
_NOT_ONLINE = 404103
_NO_ANSWER = 504101


class MethodFailed(FleetError):
    """The module answered, with a status that means no."""


@dataclass(frozen=True)
class Answer:
    """What the module says: its own status, as HTTP's, and any JSON value."""

    status: int
    payload: Any


def invoke(
    hub: ServiceHub, device: str, module: str, name: str, payload: Any = None, timeout_s: float = 30.0
) -> Answer:
    """Call a method and wait for its answer, whatever its status; the hub waits timeout_s (5 to 300).

    Raises NotFound (no such module), HubUnavailable (it is not connected, or does not answer in time),
    HubRefused.
    """
    wait_s = min(MAX_WAIT_S, max(MIN_WAIT_S, math.ceil(timeout_s)))

    def ask(registry: Any) -> Answer:
        from azure.iot.hub.models import CloudToDeviceMethod

        call = CloudToDeviceMethod(
            method_name=name,
            payload={} if payload is None else payload,
            response_timeout_in_seconds=wait_s,
        )
        # Not the manager's own method: that one takes no time-out, and ours for other questions is shorter.
        result = registry.protocol.modules.invoke_method(
            device, module, call, timeout=(CONNECT_TIMEOUT_S, wait_s + _TRANSFER_S)
        )
        return Answer(int(result.status), result.payload)

    try:
        return hub.ask_registry(f"module {device}/{module}", ask)
    except (NotFound, HubUnavailable) as error:
        if (why := _why(error, f"module {device}/{module}", name, wait_s)) is None:
            raise
        raise HubUnavailable(why) from error


def accepted(answer: Answer, module: str, name: str) -> Any:
    """The payload of a status below 300; else MethodFailed with the module's own words."""
    if answer.status < 300:
        return answer.payload
    said = answer.payload.get("error") if isinstance(answer.payload, dict) else None
    raise MethodFailed(f"{module} answers {name} with {answer.status}: {said or 'no reason given'}")


def _why(error: HubRefused | HubUnavailable, target: str, name: str, wait_s: int) -> str | None:
    """The line for the two errors that only methods have (ref 5.1); None for any other."""
    return {
        _NOT_ONLINE: f"{target} is not connected, or takes no methods; cure: see twinship status",
        _NO_ANSWER: f"{target} did not answer {name} in {wait_s} s; cure: its log, or a longer time-out",
    }.get(_error_code(error))


def _error_code(error: FleetError) -> int:
    """Direct methods put a JSON text of their own into `Message` (ref 5.1); 0 where there is none."""
    text = getattr(getattr(error.__cause__, "response", None), "text", "")
    try:
        return int(json.loads(json.loads(text)["Message"])["errorCode"])
    except (ValueError, KeyError, TypeError):
        return 0
