"""Telemetry and acknowledgement: statements 27 to 45 of the protocol reference."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.peers.iot_hub import IotHub
from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub, wait_for
from tests.wire.raw_module import RawModule
from tests.wire.raw_traffic import connected, message, receiving, store, take
from tests.wire.sdk_module import PATIENCE_S, SdkModule
from twinship.simulator.edge_hub import topics
from twinship.simulator.faults.client import end_faults, set_fault, show_faults
from twinship.simulator.mqtt.connection import MAX_PACKET_BYTES
from twinship.simulator.mqtt.packets import Pingreq, Pingresp, Puback, Publish

pytestmark = [pytest.mark.e2e, pytest.mark.conformance]

ODD_OUTPUT = "out/1 é"


def to_input(name: str, source: str) -> str:
    """A route from a source of the sender to an input of the receiver."""
    return f'FROM /messages/modules/sender{source} INTO BrokeredEndpoint("/modules/receiver/inputs/{name}")'


ROUTES = {
    "schemaVersion": "1.1",
    "routes": {
        "work": to_input("work", "/outputs/work"),
        "other": to_input("other", "/outputs/other"),
        "odd": to_input("odd", f"/* WHERE $outputName = '{ODD_OUTPUT}'"),
        "short": {"route": to_input("short", "/outputs/short"), "timeToLiveSecs": 1},
    },
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("sender", "receiver", routes=ROUTES)
        yield running


@pytest.fixture
def own_hub(tmp_path: Path) -> Iterator[HubUnderTest]:
    """A hub that a test may kill."""
    with running_hub(tmp_path) as running:
        running.deploy("sender", "receiver", routes=ROUTES)
        yield running


@pytest.fixture
def impatient_hub(tmp_path: Path) -> Iterator[HubUnderTest]:
    """A hub that sends again after a second; the others wait for a PUBACK as long as edgeHub."""
    with running_hub(tmp_path, MessageAckTimeoutSecs="1") as running:
        running.deploy("sender", "receiver", routes=ROUTES)
        yield running


@contextlib.contextmanager
def sdk_receiver(hub: HubUnderTest) -> Iterator[SdkModule]:
    """The receiver with the SDK and a message handler."""
    with hub.module("receiver") as receiver:
        receiver.call("listen", kind="message")
        yield receiver


def dropped(hub: HubUnderTest, reason: str) -> int:
    """The number of messages dropped for this reason so far."""
    return int(show_faults(hub.folder)["dropped"].get(reason, 0))


def bag_of(publish: Publish) -> dict[str, str]:
    """The decoded property bag of a message to an input."""
    bag = publish.topic.rstrip("/").rpartition("/")[2]
    properties, system = topics.split_bag(bag)
    return {**properties, **system}


def test_27_a_send_that_returned_is_durable(own_hub: HubUnderTest) -> None:
    """After send_message has returned, the hub is killed and restarted: the message arrives."""
    with own_hub.module("sender") as sender:
        sender.send("work", b"durable")
        own_hub.kill()
        sender.kill()
    own_hub.start()
    with receiving(own_hub) as receiver:
        assert take(receiver).body == b"durable"


def test_28_a_message_in_flight_is_sent_again_with_dup_and_its_packet_id(hub: HubUnderTest) -> None:
    """The SDK sends it again after the connection broke; the message arrives at least once."""
    before = len(hub.log())
    with hub.module("sender") as sender:
        sender.call("connect")
        set_fault(hub.folder, "delay-puback", 3600)
        sender.begin("send", output="work", body=base64.b64encode(b"y").decode(), properties={}, fields={})
        wait_for(lambda: "its PUBACK is delayed" in hub.log()[before:], "the send")
        (first,) = (line for line in hub.log()[before:].splitlines() if "its PUBACK is delayed" in line)
        packet = first.rpartition("packet ")[2].split()[0]
        set_fault(hub.folder, "drop-connections")
        wait_for(lambda: f"edge/sender: packet {packet} was sent again" in hub.log()[before:], "the re-send")
        end_faults(hub.folder)
        sender.finish()
    store_marker(hub, b"end")
    with receiving(hub) as receiver:
        got = []
        while (body := take(receiver).body) != b"end":
            got.append(body)
    assert set(got) == {b"y"}


def store_marker(hub: HubUnderTest, body: bytes) -> None:
    """Store one more message, which marks the end of those before."""
    with connected(hub, "sender") as sender:
        store(sender, 60_000, body)


def test_29_without_a_route_a_message_is_acknowledged_dropped_and_counted(hub: HubUnderTest) -> None:
    """send_message returns, no_route rises by one, and the next message is delivered."""
    before = dropped(hub, "no_route")
    with hub.module("sender") as sender, receiving(hub) as receiver:
        sender.send("nowhere", b"gone")
        sender.send("work", b"next")
        assert take(receiver).body == b"next"
    assert dropped(hub, "no_route") == before + 1


def test_30_an_odd_output_name_is_matched_and_not_forwarded(hub: HubUnderTest) -> None:
    """`/`, a space and é reach the route unchanged; the receiver gets no `$.on`."""
    with hub.module("sender") as sender, receiving(hub) as receiver:
        sender.send(ODD_OUTPUT, b"x")
        got = take(receiver)
    assert got.topic.startswith(f"devices/{DEVICE}/modules/receiver/inputs/odd/")
    assert "%24.on" not in got.topic
    assert "outputName" not in bag_of(got)


FIELDS = {
    "message_id": "id/1",
    "correlation_id": "c&1",
    "content_type": "application/json",
    "content_encoding": "utf-8",
    "user_id": "u=1",
}
EXPIRY = "2039-01-01T00:00:00+00:00"


def test_31_the_senders_system_properties_arrive_in_their_fields(hub: HubUnderTest) -> None:
    """Five as the SDK reads them; the expiry, which the SDK does not read, as `$.exp` on the wire."""
    with hub.module("sender") as sender:
        with sdk_receiver(hub) as receiver:
            sender.send("work", b"x", None, **FIELDS, expiry_time_utc=EXPIRY)
            got = receiver.next("message")
        with receiving(hub) as raw:
            sender.send("work", b"y", None, **FIELDS, expiry_time_utc=EXPIRY)
            again = take(raw)
    assert {name: got[name] for name in FIELDS} == FIELDS
    assert EXPIRY in bag_of(again).values()


def test_32_the_receiver_gets_the_name_of_the_sender(hub: HubUnderTest) -> None:
    """`$.cdid` and `$.cmid` name the sender; nothing else is added, also no `$.on`."""
    with hub.module("sender") as sender, sdk_receiver(hub) as receiver:
        sender.send("work", b"x", {"own": "1"})
        got = receiver.next("message")
    assert got["properties"] == {"own": "1", "$.cdid": DEVICE, "$.cmid": "sender"}


@pytest.mark.parametrize("value", ["=", "a=b&c", "/x/", "100%25", "a+b c", "ü", ""])
def test_33_a_property_value_arrives_unchanged(hub: HubUnderTest, value: str) -> None:
    """With any characters; an empty value as ''."""
    with hub.module("sender") as sender, sdk_receiver(hub) as receiver:
        sender.send("work", b"x", {"key": value})
        assert receiver.next("message")["properties"]["key"] == value


@pytest.mark.parametrize("body", [b"", bytes(range(256))], ids=["empty", "every byte"])
def test_34_a_body_arrives_unchanged(hub: HubUnderTest, body: bytes) -> None:
    """An empty body, and one with every byte."""
    with hub.module("sender") as sender, sdk_receiver(hub) as receiver:
        sender.send("work", body)
        assert receiver.next_body() == body


def test_35_the_largest_body_that_the_sdk_accepts_closes_the_connection(hub: HubUnderTest) -> None:
    """262,111 bytes pass the SDK's check; the packet with its topic is too large: closed and logged.

    The hub still serves other clients, although the SDK connects and sends again without end. A raw client
    takes that part: the SDK's threads decide how soon it reconnects after each reset.
    """
    before = len(hub.log())
    body = base64.b64encode(bytes(262_111)).decode()
    sender = hub.module("sender")
    sender.begin("send", output="work", body=body, properties={}, fields={})
    try:
        wait_for(lambda: "the limit is 262144" in hub.log()[before:], "the refusal")
    finally:
        sender.kill()

    def send_again() -> None:
        with connected(hub, "sender") as again:
            closes(again, of_size(MAX_PACKET_BYTES + 1))

    # On another thread: a TLS error of one connection can appear at the next one of its thread
    # (github.com/python/cpython/issues/148594).
    with connected(hub, "receiver") as other, ThreadPoolExecutor(1) as thread:
        for _ in range(20):
            thread.submit(send_again).result()
            other.send(Pingreq())
            assert other.next(Pingresp)


def of_size(packet_bytes: int) -> Publish:
    """A message whose whole packet, with its fixed header, has this size."""
    publish = message(1, b"")
    body = bytes(packet_bytes - len(publish.encode()) - 2)  # the length takes 3 bytes then, not 1
    publish = message(1, body)
    assert len(publish.encode()) == packet_bytes
    return publish


def closes(raw: RawModule, publish: Publish) -> None:
    """Send a packet that ends the connection, perhaps before all of it is written."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        raw.send(publish)
    raw.wait_closed()


def test_36_the_limit_of_a_packet_is_262144_bytes(hub: HubUnderTest) -> None:
    """A packet of this size is acknowledged; one byte more closes the connection without a PUBACK."""
    with connected(hub, "sender") as sender:
        sender.send(of_size(MAX_PACKET_BYTES))
        assert sender.next(Puback) == Puback(1)
        closes(sender, of_size(MAX_PACKET_BYTES + 1))
    assert MAX_PACKET_BYTES == 262_144


def test_37_a_message_too_large_with_its_properties_is_acknowledged_and_dropped(hub: HubUnderTest) -> None:
    """The packet fits, body and properties together do not: PUBACK, a counter rises, no delivery."""
    before = dropped(hub, "too_large")
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        sender.send(of_size(MAX_PACKET_BYTES))
        assert sender.next(Puback) == Puback(1)
        store(sender, 2, b"next")
        assert take(receiver).body == b"next"
    assert dropped(hub, "too_large") == before + 1


def test_38_ten_thousand_messages_arrive_in_the_order_they_were_sent(hub: HubUnderTest) -> None:
    """From one sender to one input."""
    count, in_flight = 10_000, 100

    def send() -> None:
        with connected(hub, "sender") as sender:
            for first in range(1, count, in_flight):
                numbers = range(first, first + in_flight)
                for number in numbers:
                    sender.send(message(number, b"%d" % number))
                assert [sender.next(Puback).packet_id for _ in numbers] == list(numbers)

    with receiving(hub) as receiver:
        thread = threading.Thread(target=send)
        thread.start()
        got = [int(take(receiver).body) for _ in range(count)]
        thread.join(PATIENCE_S)
    assert got == list(range(1, count + 1))


def test_39_one_message_at_a_time_and_again_without_a_puback(impatient_hub: HubUnderTest) -> None:
    """No second message on any input before the PUBACK; after MessageAckTimeoutSecs the first again."""
    hub = impatient_hub
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        store(sender, 1, b"first")
        store(sender, 2, b"second", "other")
        first, again = receiver.next(Publish), receiver.next(Publish)
        assert (first.body, first.dup, again.body, again.dup) == (b"first", False, b"first", True)
        assert again.packet_id == first.packet_id
        assert first.packet_id is not None
        receiver.send(Puback(first.packet_id))
        while (second := take(receiver)).body == b"first":
            assert second.dup  # the PUBACK took another second
    assert "/inputs/other/" in second.topic


def test_40_an_absent_receiver_gets_the_stored_messages_oldest_first(hub: HubUnderTest) -> None:
    """At once (the real edgeHub within its back-off of up to 60 s)."""
    with hub.module("sender") as sender:
        for number in range(5):
            sender.send("work", b"%d" % number)
    with receiving(hub) as receiver:
        assert [take(receiver).body for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_41_stored_messages_outlive_a_restart(own_hub: HubUnderTest) -> None:
    """A clean restart, then a kill; in order and each once, because none was in flight."""
    bodies = [b"%d" % number for number in range(20)]
    with connected(own_hub, "sender") as sender:
        for number, body in enumerate(bodies, 1):
            store(sender, number, body)
    assert own_hub.stop() == 0
    own_hub.start()
    own_hub.kill()
    own_hub.start()
    with receiving(own_hub) as receiver:
        assert [take(receiver).body for _ in bodies] == bodies


def test_42_an_expired_message_is_counted_and_not_delivered(hub: HubUnderTest) -> None:
    """timeToLiveSecs 1 and 1.5 s in the store: ttl_expiry rises, the next message arrives."""
    before = dropped(hub, "ttl_expiry")
    with connected(hub, "sender") as sender:
        store(sender, 1, b"late", "short")
        threading.Event().wait(1.5)  # the time to live itself
        with receiving(hub) as receiver:
            store(sender, 2, b"fresh", "short")
            assert take(receiver).body == b"fresh"
    assert dropped(hub, "ttl_expiry") == before + 1


def test_43_a_handler_that_raises_gets_no_second_copy(hub: HubUnderTest) -> None:
    """The SDK sends the PUBACK before it calls the handler: the next message is another one."""
    with hub.module("receiver") as receiver, hub.module("sender") as sender:
        receiver.call("listen", kind="message", raises=True)
        for body in (b"1", b"2", b"3"):
            sender.send("work", body)
        assert sorted(receiver.next_body() for _ in range(3)) == [b"1", b"2", b"3"]
        wait_for(lambda: show_faults(hub.folder)["message_bytes"] == 0, "an empty store")
        assert receiver.heard_nothing("message")


@pytest.mark.parametrize("handler_first", [False, True])
def test_44_the_sdk_loses_messages_before_the_handler_is_set(hub: HubUnderTest, handler_first: bool) -> None:
    """On a present session: connected first, the SDK acknowledges and drops; handler first loses none."""
    with receiving(hub):
        pass  # the session keeps the subscription
    with hub.module("sender") as sender:
        sender.send("work", b"early")
        with hub.module("receiver") as receiver:
            if not handler_first:
                receiver.call("connect")
                wait_for(lambda: show_faults(hub.folder)["message_bytes"] == 0, "the SDK's PUBACK")
                receiver.call("get_twin")  # by the same thread of the SDK, after the message
            receiver.call("listen", kind="message")
            sender.send("work", b"late")
            expected = {b"early", b"late"} if handler_first else {b"late"}
            assert {receiver.next_body() for _ in expected} == expected
            assert receiver.heard_nothing("message")


def test_45_twenty_sends_at_once_complete_and_keep_their_order(hub: HubUnderTest) -> None:
    """20 sends of the aio client complete; 20 on the wire before any PUBACK keep their order.

    The threads of the aio client decide in which order its sends reach the wire.
    """
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.peers.aio_sender", "20"]
    environment = {**os.environ, **hub.simulator_variables("sender")}
    ended = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stderr
    with receiving(hub) as receiver, connected(hub, "sender") as sender:
        assert sorted(int(take(receiver).body) for _ in range(20)) == list(range(20))
        for number in range(1, 21):
            sender.send(message(number, b"%d" % number))
        assert [sender.next(Puback).packet_id for _ in range(20)] == list(range(1, 21))
        assert [int(take(receiver).body) for _ in range(20)] == list(range(1, 21))


@pytest.mark.verified
@pytest.mark.parametrize("kind", ["device", "module"])
def test_messages_to_iot_hub_itself_are_acknowledged(iot_hub: IotHub, kind: str) -> None:
    """send_message returns after the PUBACK, also with properties and an empty body."""
    with (iot_hub.device if kind == "device" else iot_hub.module)("telemetry") as sender:
        sender.send(None, b"x", {"key": "a=b&c"}, message_id="1", content_type="application/json")
        sender.send(None, b"")
