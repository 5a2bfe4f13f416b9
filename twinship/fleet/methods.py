"""Calls a module's direct method through IoT Hub (ref 5)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from twinship.fleet import FleetError
from twinship.fleet.service import CONNECT_TIMEOUT_S, HubRefused, HubUnavailable, NotFound, ServiceHub

MAX_WAIT_S = 300  # IoT Hub's own limits of the response time-out (ref 3, ref 5)
MIN_WAIT_S = 5
START_S = 25.0  # a device may need this in addition to the time that a method's payload allows
_TRANSFER_S = 5.0  # the hub itself may need this in addition to the response time-out
_NOT_ONLINE = 404103
_NO_ANSWER = 504101


class MethodFailed(FleetError):
    """The module answered with an error status."""


@dataclass(frozen=True)
class Answer:
    """The module's response: a status as in HTTP, and any JSON value."""

    status: int
    payload: Any


def invoke(
    hub: ServiceHub, device: str, module: str, name: str, payload: Any = None, timeout_s: float = 30.0
) -> Answer:
    """Call a method and return the answer, whatever its status. The hub waits `timeout_s` seconds (5 to 300).

    Raises NotFound (no such module), HubUnavailable (the module is not connected or does not answer in time),
    HubRefused.
    """
    wait_s = min(MAX_WAIT_S, max(MIN_WAIT_S, math.ceil(timeout_s)))

    def call_method(registry: Any) -> Answer:
        from azure.iot.hub.models import CloudToDeviceMethod

        request = CloudToDeviceMethod(
            method_name=name,
            payload={} if payload is None else payload,
            response_timeout_in_seconds=wait_s,
        )
        # The manager's own invoke method has no time-out parameter, and our default time-out is shorter.
        result = registry.protocol.modules.invoke_method(
            device, module, request, timeout=(CONNECT_TIMEOUT_S, wait_s + _TRANSFER_S)
        )
        return Answer(int(result.status), result.payload)

    try:
        return hub.call_registry(f"module {device}/{module}", call_method)
    except (NotFound, HubUnavailable) as error:
        if (text := _method_error(error, f"module {device}/{module}", name, wait_s)) is None:
            raise
        raise HubUnavailable(text) from error


def accepted(answer: Answer, module: str, name: str) -> Any:
    """The payload of an answer with a status below 300. Raises MethodFailed with the module's error text."""
    if answer.status < 300:
        return answer.payload
    reason = answer.payload.get("error") if isinstance(answer.payload, dict) else None
    raise MethodFailed(f"{module} answers {name} with {answer.status}: {reason or 'no reason given'}")


BENCHMARK_COLUMNS = ("queries", "a second", "p50 ms", "p90 ms", "p99 ms")


@dataclass(frozen=True)
class BenchmarkFigures:
    """The answer to `benchmark` for people: the model and the machine, and one row of figures."""

    head: tuple[str, str]
    row: tuple[str, ...]  # one cell for each of BENCHMARK_COLUMNS


def benchmark_figures(found: Any, module: str) -> BenchmarkFigures:
    """Read a module's answer, which may contain anything. Raises MethodFailed."""
    try:
        model, machine, invoke = found["model"], found["device"], found["invoke_ms"]
        processor = f"{machine['processor']}, {machine['machine']}"
        head = (
            f"{model['name']}:{model['version']} on {found['runtime']} {found['runtime_version']}",
            f"{processor}, {machine['cores']} cores, {machine['memory_mb']} MB",
        )
        p50, p90, p99 = (f"{ms:.3f}" for ms in invoke.values())
        return BenchmarkFigures(head, (str(found["queries"]), f"{found['per_s']:,.0f}", p50, p90, p99))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MethodFailed(
            f"{module} answers benchmark in an unknown form; cure: --json shows the answer"
        ) from error


def _method_error(error: HubRefused | HubUnavailable, target: str, name: str, wait_s: int) -> str | None:
    """The text for the two errors that only methods have (ref 5.1); None for another error."""
    return {
        _NOT_ONLINE: f"{target} is not connected, or accepts no methods; cure: see twinship status",
        _NO_ANSWER: f"{target} did not answer {name} in {wait_s} s; cure: read its log, or wait longer",
    }.get(_error_code(error))


def _error_code(error: FleetError) -> int:
    """The errorCode in the JSON text that direct methods put into `Message` (ref 5.1); 0 if there is none."""
    text = getattr(getattr(error.__cause__, "response", None), "text", "")
    try:
        return int(json.loads(json.loads(text)["Message"])["errorCode"])
    except (ValueError, KeyError, TypeError):
        return 0
