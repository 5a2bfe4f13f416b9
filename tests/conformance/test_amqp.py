"""Statements 89 and 95: cloud-to-device messages and the built-in endpoint, over AMQP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire.amqp.clients import consumer, emulator_connection_string, reading, send_to_device
from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from twinship.simulator.edge_hub.topics import split_bag
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import Puback, Publish, Suback, Subscribe

pytestmark = [pytest.mark.conformance, pytest.mark.e2e]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub"), "--plain-amqp") as running:
        running.deploy("sender", "receiver")
        yield running


def test_89_a_cloud_to_device_message_reaches_the_device(hub: HubUnderTest) -> None:
    """By port 5671 with SSL_CERT_FILE; the topic has `to`, iothub-ack and message id, the SDK reads it."""
    key = hub.create(Identity("thermostat"))[0]
    raw = RawModule(hub, address=hub.hub_address)
    raw.connect_as(Identity("thermostat"), key)
    raw.send(Subscribe(1, (("devices/thermostat/messages/devicebound/#", 1),)))
    raw.next(Suback)
    send_to_device(hub, "thermostat", "warmer", messageId="m-1", iothub_ack="full", room="a b")
    publish = raw.next(Publish)
    address, _, bag = publish.topic.partition("/devicebound/")
    properties, system = split_bag(bag)
    assert (address, publish.body, publish.qos) == ("devices/thermostat/messages", b"warmer", 1)
    assert system == {"messageId": "m-1", "to": "/devices/thermostat/messages/devicebound"}
    assert properties == {"iothub-ack": "full", "room": "a b"}
    assert publish.packet_id is not None
    raw.send(Puback(publish.packet_id))
    raw.close()
    with hub.device("thermostat") as device:
        device.call("listen", kind="message")
        send_to_device(hub, "thermostat", "colder", messageId="m-2", contentType="text/plain")
        message = device.next("message")
        assert (message["message_id"], message["content_type"]) == ("m-2", "text/plain")


@pytest.mark.parametrize("plain", [True, False], ids=["emulator", "tls"])
def test_95_azure_eventhub_reads_what_is_routed_upstream(hub: HubUnderTest, *, plain: bool) -> None:
    """In the order of each device, with its annotations; as the emulator without TLS, and with TLS."""
    group = {"connection_string": emulator_connection_string(hub)} if plain else {}
    sent = [f'{{"number":{number},"plain":{str(plain).lower()}}}' for number in range(20)]
    with reading(consumer(hub, **group), track_last_enqueued_event_properties=True) as got:
        with hub.module("sender") as sender:
            for body in sent:
                sender.send(
                    "cloud", body.encode(), {"k": "v w"}, content_type="application/json", message_id="7"
                )
        wait_for(lambda: sent[-1] in got.bodies, f"the last message; {got.errors} came")
    mine = [(partition, event) for partition, event in got.events if event.body_as_str() in sent]
    assert [event.body_as_str() for _, event in mine] == sent
    assert len({partition for partition, _ in mine}) == 1
    event = mine[0][1]
    assert event.system_properties[b"iothub-connection-device-id"] == DEVICE.encode()
    assert event.system_properties[b"iothub-connection-module-id"] == b"sender"
    assert event.system_properties[b"iothub-message-source"] == b"Telemetry"
    assert (event.content_type, event.message_id) == ("application/json", "7")
    assert event.properties == {b"k": b"v w"}
