"""Cloud-to-device messages: delivery, acknowledgement, expiry, feedback, limits, restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.twinship.simulator.edge import HUB, NOW, Edge, RawClient, RecordingLink
from twinship.simulator import sas
from twinship.simulator.edge_hub import cloud_to_device
from twinship.simulator.edge_hub.cloud_to_device import (
    MAX_BYTES,
    MAX_DELIVERIES,
    MAX_WAITING,
    TIME_TO_LIVE_S,
    CloudMessage,
    NoDevice,
    NotAccepted,
    QueueFull,
)
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import Connect

DEVICE = "thermostat"
FILTER = f"devices/{DEVICE}/messages/devicebound/#"


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    edge = Edge(tmp_path)
    edge.registry.create(Identity(DEVICE), {})
    return edge


def connect(edge: Edge, *, clean: bool = False) -> RawClient:
    """The device's connection to IoT Hub, without a subscription."""
    keys = edge.registry.keys(Identity(DEVICE))
    assert keys is not None
    token = sas.sign(keys[0], Identity(DEVICE).resource(HUB), int(edge.clock.wall()) + 36_000)
    link = RecordingLink(None)
    username = f"{HUB}/{DEVICE}/?api-version=2019-10-01"
    link.client = edge.hub.connect(Connect(DEVICE, username, token.encode(), 60, clean), link)
    return RawClient(link.client, link)


def send(edge: Edge, body: bytes = b"b", ack: str = "full", message_id: str = "m", **fields: Any) -> None:
    """A service sends a message to the device."""
    system = {"messageId": message_id, "to": f"/devices/{DEVICE}/messages/devicebound"}
    edge.hub.cloud_to_device.send(CloudMessage(DEVICE, {"k": "a b"}, system, body, ack, **fields))


def outcomes(edge: Edge) -> list[tuple[str, str]]:
    """Message id and status of the feedback so far."""
    records = edge.hub.cloud_to_device.feedback(1000).values()
    return [(record["originalMessageId"], record["statusCode"]) for record in records]


def test_a_message_waits_for_the_subscription(edge: Edge) -> None:
    """It comes once, with its properties in the topic; its PUBACK makes feedback."""
    device = connect(edge)
    send(edge)
    assert device.messages == []
    device.subscribe(FILTER)
    device.subscribe(FILTER)
    (message,) = device.messages
    assert message.topic == (
        f"devices/{DEVICE}/messages/devicebound/"
        f"k=a%20b&%24.mid=m&%24.to=%2Fdevices%2F{DEVICE}%2Fmessages%2Fdevicebound"
    )
    assert (message.body, message.qos, outcomes(edge)) == (b"b", 1, [])
    device.acknowledge()
    assert outcomes(edge) == [("m", "Success")]
    record = next(iter(edge.hub.cloud_to_device.feedback(1).values()))
    assert (record["deviceId"], record["deviceGenerationId"]) == (
        DEVICE,
        edge.registry.generation(Identity(DEVICE)),
    )


def test_messages_keep_their_order(edge: Edge) -> None:
    """Those that waited, and those that come while the device is connected."""
    send(edge, b"1")
    send(edge, b"2")
    device = connect(edge)
    device.subscribe(FILTER)
    send(edge, b"3")
    assert device.bodies == [b"1", b"2", b"3"]


@pytest.mark.parametrize("clean", [True, False])
def test_without_a_puback_a_message_comes_again(edge: Edge, *, clean: bool) -> None:
    """On the next connection, with a clean session after the subscription; once there."""
    send(edge)
    first = connect(edge, clean=clean)
    first.subscribe(FILTER)
    first.drop()
    second = connect(edge, clean=clean)
    if clean:
        second.subscribe(FILTER)
    assert second.bodies == [b"b"]
    assert second.messages[0].dup is not clean
    second.acknowledge()
    second.drop()
    assert connect(edge).messages == []
    assert outcomes(edge) == [("m", "Success")]


def test_a_restart_keeps_messages_and_feedback(edge: Edge) -> None:
    """Those without a PUBACK come again, the others do not."""
    device = connect(edge)
    device.subscribe(FILTER)
    send(edge, b"done", message_id="1")
    device.acknowledge()
    send(edge, b"open", message_id="2")
    edge.restart()
    assert outcomes(edge) == [("1", "Success")]
    again = connect(edge)
    again.subscribe(FILTER)
    assert again.bodies == [b"open"]
    send(edge, b"new", message_id="3")
    assert again.bodies == [b"open", b"new"]


def test_after_ten_deliveries_a_message_ends(edge: Edge) -> None:
    """A device that dies of a message does not get it for ever."""
    send(edge)
    for _ in range(MAX_DELIVERIES):
        device = connect(edge, clean=True)
        device.subscribe(FILTER)
        assert device.bodies == [b"b"]
        device.drop()
    device = connect(edge, clean=True)
    device.subscribe(FILTER)
    assert device.bodies == []
    assert outcomes(edge) == [("m", "DeliveryCountExceeded")]


def test_a_message_expires(edge: Edge) -> None:
    """At its own time, or after the service's default of an hour."""
    send(edge, message_id="soon", expires=NOW + 5)
    send(edge, message_id="late")
    edge.clock.advance(6)
    assert outcomes(edge) == [("soon", "Expired")]
    edge.clock.advance(TIME_TO_LIVE_S)
    assert outcomes(edge) == [("soon", "Expired"), ("late", "Expired")]
    device = connect(edge)
    device.subscribe(FILTER)
    assert device.messages == []


@pytest.mark.parametrize(
    ("ack", "expected"),
    [("none", []), ("positive", ["Success"]), ("negative", ["Expired"]), ("full", ["Success", "Expired"])],
)
def test_ack_says_what_makes_feedback(edge: Edge, ack: str, expected: list[str]) -> None:
    """Only ends of the kind that the service asked for."""
    device = connect(edge)
    device.subscribe(FILTER)
    send(edge, ack=ack)
    device.acknowledge()
    device.drop()
    send(edge, ack=ack, expires=NOW + 1)
    edge.clock.advance(5)
    assert [status for _, status in outcomes(edge)] == expected


def test_a_subscription_with_qos_0_completes_at_once(edge: Edge) -> None:
    """There is no PUBACK to wait for."""
    device = connect(edge)
    device.subscribe(FILTER, qos=0)
    send(edge)
    assert device.messages[0].qos == 0
    assert outcomes(edge) == [("m", "Success")]


def test_what_cannot_be_delivered_is_not_accepted(edge: Edge) -> None:
    """No such device, too large, 50 waiting; a full queue has room again after a PUBACK."""
    queues = edge.hub.cloud_to_device
    with pytest.raises(NoDevice, match="no device 'nobody'"):
        queues.send(CloudMessage("nobody", {}, {}, b""))
    with pytest.raises(NotAccepted, match="larger"):
        send(edge, bytes(MAX_BYTES + 1))
    for _ in range(MAX_WAITING):
        send(edge)
    with pytest.raises(QueueFull, match="wait"):
        send(edge)
    device = connect(edge)
    device.subscribe(FILTER)
    device.acknowledge()
    send(edge)


def test_a_removed_device_has_no_messages(edge: Edge) -> None:
    """A new device of this name gets none of the old ones, after a restart neither."""
    send(edge)
    edge.registry.on_removed.append(edge.hub.remove)
    edge.registry.delete(Identity(DEVICE))
    edge.registry.create(Identity(DEVICE), {})
    edge.restart()
    device = connect(edge)
    device.subscribe(FILTER)
    assert device.messages == []


def test_feedback_that_nobody_reads_is_bounded(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest records go."""
    monkeypatch.setattr(cloud_to_device, "MAX_FEEDBACK", 2)
    device = connect(edge)
    device.subscribe(FILTER)
    for number in range(4):
        send(edge, message_id=str(number))
        device.acknowledge()
    assert [each for each, _ in outcomes(edge)] == ["2", "3"]
    edge.restart()
    assert [each for each, _ in outcomes(edge)] == ["2", "3"]
