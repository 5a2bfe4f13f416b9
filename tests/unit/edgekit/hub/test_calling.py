"""A module calls a direct method of another one, with a fake SDK client."""

from typing import Any

import pytest

from edgekit.hub import gateway
from edgekit.hub.calling import CallFailed, call_module
from edgekit.hub.connection import Hub


class Client:
    """Answers with `answer`, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls: list[tuple[Any, str, str]] = []

    def invoke_method(self, request: Any, device: str, module: str) -> Any:
        """As IoTHubModuleClient.invoke_method."""
        self.calls.append((request, device, module))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_status_and_payload_of_the_other_module_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is the module's own."""
    monkeypatch.setenv("IOTEDGE_DEVICEID", "edge-1")
    client = Client({"status": 409, "payload": {"error": "no"}})
    assert call_module(client, "camera_sim", "preview", {"fps": 5}) == (409, {"error": "no"})  # type: ignore[arg-type]
    request, device, module = client.calls[0]
    assert (request["methodName"], request["payload"], device, module) == (
        "preview",
        {"fps": 5},
        "edge-1",
        "camera_sim",
    )


@pytest.mark.parametrize("answer", [OSError("HTTP operation returned:\n404"), {}, None, {"status": "x"}])
def test_whatever_goes_wrong_is_one_kind_of_error_in_one_line(answer: Any) -> None:
    """The caller shows it in words."""
    with pytest.raises(CallFailed, match="method preview of module camera_sim: ") as caught:
        call_module(Client(answer), "camera_sim", "preview", {})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_a_connection_nothing_is_called() -> None:
    """A hub that was never started."""
    with pytest.raises(CallFailed, match="no connection to edgeHub"):
        Hub(inputs={}, on_twin=lambda _twin: None).call_module("camera_sim", "preview", {})


def test_a_module_that_a_person_started_has_its_device_in_the_connection_string(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the SDK reads it."""
    monkeypatch.delenv("IOTEDGE_DEVICEID", raising=False)
    monkeypatch.setenv(
        "EdgeHubConnectionString", "HostName=hub;DeviceId=edge-2;ModuleId=m;SharedAccessKey=eA=="
    )
    assert gateway.device_id() == "edge-2"
