"""Node's service SDK: registry, twins and methods over HTTPS, cloud-to-device messages over AMQP."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.programs import node
from tests.wire.amqp.clients import variables
from tests.wire.hub_under_test import HubUnderTest, running_hub
from tests.wire.sdk_module import SdkError, SdkModule
from twinship.simulator.identity import Identity

pytestmark = [pytest.mark.e2e, pytest.mark.long]
NAME = "azure-iothub (Node)"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path) as running:
        if 443 not in running.endpoints()["rest_ports"]:
            pytest.skip("this user may not open port 443, and azure-iothub knows no other")
        running.create(Identity("leaf"))
        yield running


@contextlib.contextmanager
def service(hub: HubUnderTest, *, websockets: bool = False) -> Iterator[SdkModule]:
    """A process with the clients of azure-iothub; Node reads the authority from the environment."""
    of_hub = variables(hub)
    trust = {"NODE_EXTRA_CA_CERTS": of_hub["REQUESTS_CA_BUNDLE"]}
    with SdkModule(trust, program=node("service.js"), websockets=websockets) as process:
        process.call("create_from", connection_string=of_hub["IOTHUB_CONNECTION_STRING"])
        yield process


@pytest.mark.client(NAME, "HTTPS")
@pytest.mark.uses("connect", "twin", "method")
def test_it_manages_devices_over_https(hub: HubUnderTest) -> None:
    """It creates a device, finds it by a query, changes its twin and calls its method."""
    with service(hub) as sdk:
        assert sdk.call("create_device", device="made") == "made"
        patch = {"tags": {"floor": 3}, "properties": {"desired": {"fps": 5}}}
        sdk.call("update_twin", device="made", patch=patch)
        twin = sdk.call("get_twin", device="made")
        assert (twin["tags"], twin["properties"]["desired"]["fps"]) == ({"floor": 3}, 5)
        assert sdk.call("query", text="SELECT * FROM devices WHERE tags.floor = 3") == ["made"]
        with hub.device("made") as device:
            device.call("listen", kind="method")
            call = {"methodName": "m", "payload": [1], "responseTimeoutInSeconds": 30}
            answer = sdk.call("invoke", device="made", params=call)
        assert answer == {"status": 207, "payload": {"name": "m", "got": [1]}}


@pytest.mark.parametrize(
    "websockets",
    [
        pytest.param(False, id="AMQP", marks=pytest.mark.client(NAME, "AMQP")),
        pytest.param(True, id="AMQP/WS", marks=pytest.mark.client(NAME, "AMQP/WS")),
    ],
)
@pytest.mark.uses("connect", "C2D", "reconnect")
def test_it_sends_to_devices_and_reads_feedback(hub: HubUnderTest, websockets: bool) -> None:
    """Also after kill -9 of the hub; a message to an unknown device is refused."""
    with service(hub, websockets=websockets) as sdk, hub.device("leaf") as device:
        device.call("listen", kind="message")
        assert sdk.call("connect") is True
        sdk.call("send", device="leaf", body="first", id="1")
        assert device.next_body() == b"first"
        sdk.call("listen")
        (record,) = sdk.next("message")["records"]
        assert (record["originalMessageId"], record["statusCode"]) == ("1", "Success")
        with pytest.raises(SdkError, match="DeviceNotFoundError"):
            sdk.call("send", device="nobody", body="lost", id="2")
        hub.kill()
        hub.start()
        sdk.call("send", device="leaf", body="second", id="3")
        assert device.next_body() == b"second"
