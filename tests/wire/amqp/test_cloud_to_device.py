"""azure-iot-hub and uamqp send cloud-to-device messages and read feedback; devices get them over MQTT."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.wire.amqp.clients import ServiceError, call_service, feedback, send_to_device
from tests.wire.hub_under_test import HubUnderTest, running_hub
from twinship.simulator.identity import Identity

pytestmark = pytest.mark.e2e


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.create(Identity("d"))
        yield running


@pytest.mark.client("azure-iot-hub (Python)", "AMQP")
@pytest.mark.uses("connect", "C2D")
@pytest.mark.long
def test_a_message_waits_for_its_device_through_kill_9(hub: HubUnderTest) -> None:
    """And makes feedback when the device has it; feedback that is released comes again."""
    send_to_device(hub, "d", "first", messageId="1", iothub_ack="positive")
    hub.kill()
    hub.start()
    send_to_device(hub, "d", "second", messageId="2", iothub_ack="negative")
    with hub.device("d") as device:
        device.call("listen", kind="message")
        assert [device.next_body(), device.next_body()] == [b"first", b"second"]
    for outcome in ("release", "accept"):
        (record,) = feedback(hub, outcome=outcome)
        assert (record["originalMessageId"], record["statusCode"], record["deviceId"]) == (
            "1",
            "Success",
            "d",
        )
    assert feedback(hub) == []


def test_a_message_that_expires_makes_feedback(hub: HubUnderTest) -> None:
    """With the expiry of the service's message, in milliseconds since the epoch."""
    expiry = int((time.time() + 1) * 1000)
    call_service(hub, "send", "d", "late", {"messageId": "3", "iothub-ack": "full", "expiryTimeUtc": expiry})
    (record,) = feedback(hub)
    assert (record["originalMessageId"], record["statusCode"]) == ("3", "Expired")


def test_what_cannot_be_sent_or_read_is_refused(hub: HubUnderTest) -> None:
    """An unknown device; notifications of file uploads by name. The log has no key."""
    with pytest.raises(ServiceError):
        send_to_device(hub, "nobody", "lost")
    with pytest.raises(ServiceError, match="not in this simulator"):
        call_service(hub, "feedback", "/messages/serviceBound/filenotifications", 1, "accept")
    assert "SharedAccessSignature" not in hub.log()


@pytest.mark.client("azure-iot-hub (Python)", "AMQP/WS")
@pytest.mark.uses("connect", "C2D")
def test_azure_iot_hub_sends_over_websockets(hub: HubUnderTest) -> None:
    """On port 443, where the hub may bind it."""
    if 443 not in hub.endpoints()["rest_ports"]:
        pytest.skip("port 443 needs a privilege")
    call_service(hub, "send_over_websockets", "d", "through")
    with hub.device("d") as device:
        device.call("listen", kind="message")
        assert device.next_body() == b"through"
