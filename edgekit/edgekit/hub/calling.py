"""Calls a direct method of another module of this device, through edgeHub (ref 3)."""

from typing import Any, Final

from azure.iot.device import IoTHubModuleClient

from edgekit.hub import gateway
from edgekit.log import one_line

ANSWER_S: Final = 5  # the least that edgeHub accepts


class CallFailed(Exception):
    """The other module gave no answer; the text is one line."""


def call_module(client: IoTHubModuleClient, module: str, name: str, payload: Any) -> tuple[int, Any]:
    """Return status and payload of the answer. Blocks for ten seconds at most. Raises CallFailed."""
    request = {
        "methodName": name,
        "payload": payload,
        "responseTimeoutInSeconds": ANSWER_S,
        "connectTimeoutInSeconds": 0,
    }
    try:
        answer = client.invoke_method(request, gateway.device_id(), module)
        return int(answer["status"]), answer.get("payload")
    except Exception as error:  # the SDK raises many kinds, and an answer may be anything
        raise CallFailed(f"method {name} of module {module}: {one_line(error)}") from error
