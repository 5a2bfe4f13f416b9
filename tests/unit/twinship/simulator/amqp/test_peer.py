"""One AMQP client of the hub without sockets: rights, nodes, events, cloud-to-device messages."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.unit.twinship.simulator.amqp.client import Client
from tests.unit.twinship.simulator.edge import HUB, NOW, Edge
from twinship.simulator import sas
from twinship.simulator.amqp.messages import Message
from twinship.simulator.amqp.peer import ENTITY, MAX_REFUSALS, MAX_RESPONSES, RIGHT_WITHIN_S, Peer, Service
from twinship.simulator.amqp.performatives import make
from twinship.simulator.amqp.types import Symbol, Timestamp
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.event_log import offset_of

KEY, POLICY = "a2V5LW9mLWEtcG9saWN5", "iothubowner"
GROUP = f"{ENTITY}/ConsumerGroups/$Default/Partitions/"
TOKEN_TYPE = "servicebus.windows.net:sastoken"
OWNER = f"\0{POLICY}\0{KEY}".encode()


class Hub:
    """An edge hub with one device, and AMQP peers of it."""

    def __init__(self, folder: Path) -> None:
        self.edge = Edge(folder)
        self.edge.registry.create(Identity("d"), {})
        self.service = self._service()
        self.peers: list[Peer] = []
        self.woken: list[str] = []

    def _service(self) -> Service:
        edge = self.edge
        return Service(
            HUB,
            {POLICY: [KEY]},
            edge.clock,
            edge.store,
            edge.hub.events,
            edge.hub.cloud_to_device,
            edge.registry.generation,
            ("$Default", "second"),
        )

    def restart(self) -> None:
        """Start again from the disk."""
        self.edge.restart()
        self.service = self._service()

    def peer(self, name: str = "peer") -> tuple[Peer, Client]:
        """A new connection; its client pumps after each write, as the driver does."""
        peer = Peer(self.service, name, lambda: self.woken.append(name))

        def exchange(data: bytes) -> bytes:
            peer.receive(data)
            while peer.pump():
                pass
            return peer.take()

        return peer, Client(exchange)

    def client(self) -> Client:
        """A client with the rights of the policy, from SASL PLAIN."""
        client = self.peer()[1]
        client.open("PLAIN", OWNER)
        return client

    def upstream(self, body: bytes, device: str = "d", at: float = 0.0, **system: str) -> None:
        """Store an event."""
        head = {"Properties": {"k": "v"}, "SystemProperties": {"connectionDeviceId": device, **system}}
        self.service.log.append(int((NOW + at) * 1000), json.dumps(head), body)

    @property
    def partition(self) -> str:
        """The address of the partition of device d, in the default group."""
        return GROUP + str(self.service.log.partition_of("d"))


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


def put_token(client: Client, token: str, **application: Any) -> tuple[int, str]:
    """Put a token over the links 0 and 1; returns status and description."""
    application = {"operation": "put-token", "type": TOKEN_TYPE, "name": "x", **application}
    client.request(0, body=token, **application)
    (answer,) = client.messages()
    return answer.application["status-code"], answer.application["status-description"]


def request_links(client: Client, node: str) -> None:
    """Attach both halves of a node at the handles 0 and 1, with credit for responses."""
    client.attach(0, node, receives=False)
    client.attach(1, node, receives=True)
    client.flow(1, 100)


def token(
    resource: str = f"https://{HUB}", policy: str | None = POLICY, key: str = KEY, ttl_s: int = 60
) -> str:
    """A token for a resource."""
    return sas.sign(key, resource, int(NOW) + ttl_s, policy)


def test_a_token_gives_the_right_to_read(hub: Hub) -> None:
    """Before it a receiver is refused, after it events come; its end takes the right away."""
    peer, client = hub.peer()
    client.open("MSSBCBS")
    client.attach(5, hub.partition, receives=True)
    assert client.error("detach") == "amqp:unauthorized-access"
    request_links(client, "$cbs")
    assert put_token(client, token()) == (200, "OK")
    hub.upstream(b"1")
    client.attach(6, hub.partition, receives=True)
    client.flow(6, 10)
    assert [message.body for message in client.messages()] == [b"1"]
    for _ in range(13):
        hub.edge.clock.advance(5)
        peer.tick()
    client.write(b"")
    assert client.error("detach") == "amqp:unauthorized-access"
    assert not peer.closed
    hub.edge.clock.advance(RIGHT_WITHIN_S)
    peer.tick()
    assert peer.closed


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (token("https://other.example"), "not this hub"),
        (token(policy=None), "devices and modules connect with MQTT"),
        (token(policy="unknown"), "not signed"),
        (token(key="b3RoZXI="), "not signed"),
        (token(ttl_s=-5), "expired"),
        (token(f"sb://{HUB}/{ENTITY}"), "not signed"),  # of an Event Hub: signed with the key's text
        ("nonsense", "not a SharedAccessSignature"),
        ("", "not a SharedAccessSignature"),
    ],
)
def test_a_bad_token_is_refused_with_the_reason(hub: Hub, made: str, reason: str) -> None:
    """401, and the node stays without a right."""
    client = hub.peer()[1]
    client.open()
    request_links(client, "$cbs")
    status, description = put_token(client, made)
    assert (status, reason in description) == (401, True)
    assert KEY not in description
    client.attach(5, hub.partition, receives=True)
    assert client.error("detach") == "amqp:unauthorized-access"


def test_other_operations_and_tokens_are_refused_by_name(hub: Hub) -> None:
    """501 says what is supported."""
    client = hub.peer()[1]
    client.open()
    request_links(client, "$cbs")
    assert put_token(client, token(), operation="delete-token")[0] == 501
    assert "Entra" in put_token(client, token(), type="jwt")[1]


def test_a_token_is_valid_below_its_resource_only(hub: Hub) -> None:
    """One of the event hub does not send cloud-to-device messages."""
    client = hub.peer()[1]
    client.open()
    request_links(client, "$cbs")
    assert put_token(client, token(f"https://{HUB}/iothub-ehub"))[0] == 200
    client.attach(4, hub.partition, receives=True)
    assert client.error("detach") == "amqp:unauthorized-access"
    assert put_token(client, token(f"https://{HUB}/{ENTITY}/ConsumerGroups/$default"))[0] == 200
    client.attach(5, "messages/devicebound", receives=False)
    assert client.error("detach") == "amqp:unauthorized-access"
    client.attach(6, GROUP.replace("$Default", "second") + "0", receives=True)
    assert client.error("detach") == "amqp:unauthorized-access"
    client.attach(7, f"amqps://{HUB}:5671/{GROUP}0", receives=True)
    assert client.taken("detach") == []


def test_a_stranger_is_disconnected(hub: Hub) -> None:
    """Without a valid token in time; one with a token stays."""
    stranger, client = hub.peer()
    client.open()
    friend, with_token = hub.peer()
    with_token.open("PLAIN", OWNER)
    for _ in range(2):
        hub.edge.clock.advance(RIGHT_WITHIN_S / 2)
        stranger.tick()
        friend.tick()
    client.write(b"")
    assert client.error("close") == "amqp:unauthorized-access"
    assert (stranger.closed, friend.closed) == (True, False)


def test_refusals_end_the_connection(hub: Hub) -> None:
    """A client that goes on and on with links that it may not have."""
    peer, client = hub.peer()
    client.open()
    for handle in range(MAX_REFUSALS):
        client.attach(handle, hub.partition, receives=True)
    assert peer.closed


@pytest.mark.parametrize(
    "response", [None, b"", b"\0iothubowner\0wrong", b"\0other\0" + KEY.encode(), b"\xff\0\0"]
)
def test_a_wrong_password_has_no_right(hub: Hub, response: bytes | None) -> None:
    """SASL PLAIN with another policy or key."""
    peer, client = hub.peer()
    client.open("PLAIN", response)
    assert peer.closed


def test_a_policy_of_the_hub_as_az_names_it_is_accepted(hub: Hub) -> None:
    """`policy@sas.root.hub`; the hub then redirects to the event hub (ref 6)."""
    client = hub.peer()[1]
    client.open("PLAIN", f"\0{POLICY}@sas.root.{HUB}\0{KEY}".encode())
    client.attach(0, "messages/events/$management", receives=True)
    (detach,) = client.taken("detach")
    assert detach.error.condition == "amqp:link:redirect"
    assert detach.error.info == {"hostname": HUB, "network-host": HUB, "address": f"sb://{HUB}/{ENTITY}"}


@pytest.mark.parametrize(
    ("address", "receives", "condition", "text"),
    [
        ("nothing", True, "amqp:not-found", "no node"),
        (GROUP + "7", True, "amqp:not-found", "partitions 0 to 1"),
        (f"{ENTITY}/ConsumerGroups/other/Partitions/0", True, "amqp:not-found", "consumer group 'other'"),
        (GROUP + "0", False, "amqp:not-allowed", "other direction"),
        (ENTITY, False, "amqp:not-implemented", "sending events"),
        ("devices/d/messages/events", False, "amqp:not-implemented", "use MQTT"),
        ("messages/serviceBound/filenotifications", True, "amqp:not-implemented", "file uploads"),
        ("http://[", True, "amqp:not-found", "no node"),
    ],
)
def test_other_nodes_are_refused_by_name(
    hub: Hub, address: str, receives: bool, condition: str, text: str
) -> None:
    """With a right to everything."""
    client = hub.client()
    client.attach(0, address, receives=receives)
    (detach,) = client.taken("detach")
    assert (detach.error.condition, text in detach.error.description) == (condition, True)


def test_management_answers_the_hub_and_its_partitions(hub: Hub) -> None:
    """READ of both types; another partition is 404, another operation 501."""
    hub.upstream(b"1", at=2)
    client = hub.client()
    request_links(client, "$management")

    def read(**application: Any) -> Message:
        client.request(0, **{"operation": "READ", "name": ENTITY, **application})
        (answer,) = client.messages()
        return answer

    whole = read(type="com.microsoft:eventhub")
    assert (whole.body["partition_count"], whole.body["partition_ids"]) == (2, ["0", "1"])
    assert whole.properties.correlation_id == "1"
    number = hub.service.log.partition_of("d")
    partition = read(type="com.microsoft:partition", partition=str(number)).body
    assert (partition["begin_sequence_number"], partition["last_enqueued_sequence_number"]) == (0, 0)
    assert partition["last_enqueued_time_utc"] == Timestamp((NOW + 2) * 1000)
    assert partition["is_partition_empty"] is False
    empty = read(type="com.microsoft:partition", partition=str(1 - number)).body
    assert (empty["last_enqueued_offset"], empty["is_partition_empty"]) == ("-1", True)
    for partition, status in (("2", 404), ("x", 404), ("-1", 404)):
        assert read(type="com.microsoft:partition", partition=partition).application["status-code"] == status
    assert read(operation="DELETE").application["status-code"] == 501
    assert read(type=7).application["status-code"] == 400


def test_responses_without_credit_are_bounded(hub: Hub) -> None:
    """A client that asks and never reads loses its link."""
    client = hub.client()
    client.attach(0, "$management", receives=False)
    client.attach(1, "$management", receives=True)
    for _ in range(MAX_RESPONSES + 1):
        client.request(0, operation="READ", type="com.microsoft:eventhub")
    assert client.error("detach") == "amqp:precondition-failed"


def test_an_event_has_the_properties_that_iot_hub_sets(hub: Hub) -> None:
    """System properties are annotations and properties, those of the sender application properties."""
    hub.upstream(
        b"body",
        connectionModuleId="m",
        messageId="7",
        correlationId="c",
        userId="u",
        contentType="application/json",
        contentEncoding="utf-8",
        at=3,
        **{"iothub-creation-time-utc": "then", "dt-subject": "comp"},
    )
    client = hub.client()
    client.attach(0, hub.partition, receives=True)
    client.flow(0, 1)
    frame = next(each for each in client.frames if each.body is not None and each.body.kind == "transfer")
    (message,) = client.messages()
    assert (message.body, message.application) == (b"body", {"k": "v"})
    properties = message.properties
    assert (properties.message_id, properties.correlation_id, properties.user_id) == ("7", "c", b"u")
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    for text in (b"iothub-connection-module-id", b"iothub-message-source\xa1\x09Telemetry", b"dt-subject"):
        assert text in frame.payload
    assert b'"scope":"module","type":"sas"' in frame.payload
    assert frame.body is not None
    assert frame.body.settled


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (None, "01234"),
        ("amqp.annotation.x-opt-offset > '-1'", "01234"),
        ("amqp.annotation.x-opt-offset > '@latest'", ""),
        (f"amqp.annotation.x-opt-offset > '{offset_of(1)}'", "234"),
        (f"amqp.annotation.x-opt-offset >= '{offset_of(1)}'", "1234"),
        ("amqp.annotation.x-opt-sequence-number > '2'", "34"),
        ("amqp.annotation.x-opt-sequence-number >= '2'", "234"),
        ("amqp.annotation.x-opt-sequence-number > '-1'", "01234"),
        (f"amqp.annotation.x-opt-enqueued-time > '{int(NOW * 1000) + 1000}'", "234"),
        (f"amqp.annotation.x-opt-enqueued-time >= '{int(NOW * 1000) + 1000}'", "1234"),
        (f"amqp.annotation.x-opt-enqueuedtimeutc > {int(NOW * 1000)}", "1234"),
        ("amqp.annotation.x-opt-enqueued-time > '9999999999999'", ""),
    ],
)
def test_a_filter_says_where_to_begin(hub: Hub, selector: str | None, expected: str) -> None:
    """By offset, sequence number and time, each exclusive and inclusive; new events follow."""
    for number in range(5):
        hub.upstream(str(number).encode(), at=number)
    client = hub.client()
    client.attach(0, hub.partition, receives=True, selector=selector)
    client.flow(0, 100)
    assert b"".join(message.body for message in client.messages()).decode() == expected
    hub.upstream(b"new", at=9)
    client.write(b"")
    assert [message.body for message in client.messages()] == [b"new"]


@pytest.mark.parametrize(
    ("selector", "condition"),
    [
        ("amqp.annotation.x-opt-partition-key > '1'", "amqp:not-implemented"),
        ("amqp.annotation.x-opt-offset < '1'", "amqp:not-implemented"),
        ("true", "amqp:not-implemented"),
        ("amqp.annotation.x-opt-sequence-number > '5'", "com.microsoft:argument-out-of-range"),
    ],
)
def test_another_filter_is_refused(hub: Hub, selector: str, condition: str) -> None:
    """A filter that is ignored would give wrong events."""
    hub.upstream(b"0")
    client = hub.client()
    client.attach(0, hub.partition, receives=True, selector=selector)
    assert client.error("detach") == condition


def test_a_reader_goes_on_at_its_offset_after_a_restart(hub: Hub) -> None:
    """Offsets and sequence numbers stay, nothing is lost or doubled."""
    for number in range(4):
        hub.upstream(str(number).encode())
    hub.restart()
    hub.upstream(b"4")
    client = hub.client()
    client.attach(
        0, hub.partition, receives=True, selector=f"amqp.annotation.x-opt-offset > '{offset_of(1)}'"
    )
    client.flow(0, 100)
    assert [message.body for message in client.messages()] == [b"2", b"3", b"4"]


def test_credit_bounds_what_a_reader_gets(hub: Hub) -> None:
    """And a drained reader is told that nothing more comes."""
    for number in range(50):
        hub.upstream(str(number).encode())
    client = hub.client()
    client.attach(0, hub.partition, receives=True)
    client.flow(0, 3)
    assert len(client.messages()) == 3
    client.flow(0, 40, delivery_count=3, seen=3)
    assert len(client.messages()) == 40
    client.flow(0, 100, delivery_count=43, seen=43, drain=True)
    assert len(client.messages()) == 7
    assert [flow.link_credit for flow in client.taken("flow")] == [0]


def epoch(number: int | None) -> dict[str, Any]:
    """The properties of a link with an epoch."""
    return {"properties": None if number is None else {Symbol("com.microsoft:epoch"): number}}


def test_a_higher_epoch_takes_over_and_a_lower_one_is_refused(hub: Hub) -> None:
    """A receiver without an epoch is refused while one with an epoch reads, in this group only."""
    first, second, third, other = (hub.client() for _ in range(4))
    first.attach(0, hub.partition, receives=True, **epoch(1))
    second.attach(0, hub.partition, receives=True, **epoch(2))
    first.write(b"")
    assert first.error("detach") == "amqp:link:stolen"
    assert hub.woken == ["peer"]
    for number in (1, None):
        third.attach(0 if number else 1, hub.partition, receives=True, **epoch(number))
        assert third.error("detach") == "amqp:link:stolen"
    other.attach(0, hub.partition.replace("$Default", "SECOND"), receives=True)
    assert other.taken("detach") == second.taken("detach") == []
    hub.upstream(b"1")
    second.flow(0, 5)
    first.flow(0, 5)
    assert ([each.body for each in second.messages()], first.messages()) == ([b"1"], [])
    second.send("detach", handle=0, closed=True)
    third.attach(2, hub.partition, receives=True)
    assert third.taken("detach") == []


def test_five_readers_without_an_epoch_share_a_partition(hub: Hub) -> None:
    """A sixth is refused until one leaves; an epoch ends them all."""
    clients = [hub.client() for _ in range(6)]
    for client in clients:
        client.attach(0, hub.partition, receives=True)
    assert clients[5].error("detach") == "amqp:resource-limit-exceeded"
    clients[0].send("close")
    clients[5].send("detach", handle=0, closed=True)
    clients[5].attach(0, hub.partition, receives=True)
    assert clients[5].taken("detach") == []
    hub.client().attach(0, hub.partition, receives=True, **epoch(0))
    for client in clients[1:]:
        client.write(b"")
        assert client.error("detach") == "amqp:link:stolen"


def devicebound(
    client: Client, body: bytes = b"b", to: str = "/devices/d/messages/devicebound", **extra: Any
) -> Any:
    """Send a cloud-to-device message; returns the outcome."""
    application = extra.pop("application", {})
    client.transfer(
        0, Message(make("properties", to=to, message_id="m", **extra), application, body).encode()
    )
    (disposition,) = client.taken("disposition")
    return disposition.state


def test_a_cloud_to_device_message_is_accepted_after_the_commit(hub: Hub) -> None:
    """With its properties; expiry is its own."""
    client = hub.client()
    client.attach(0, "/messages/devicebound", receives=False)
    expires = Timestamp((NOW + 9) * 1000)
    application = {"iothub-ack": "negative", "n": 7, "t": True, b"bytes": b"x"}
    state = devicebound(client, application=application, absolute_expiry_time=expires, content_type="a/b")
    assert state.kind == "accepted"
    (queued,) = hub.service.cloud_to_device._waiting["d"].values()
    message = queued.message
    assert message.properties == {"n": "7", "t": "true", "bytes": "x", "iothub-ack": "negative"}
    assert (message.ack, message.expires) == ("negative", NOW + 9)
    assert message.system == {"to": "/devices/d/messages/devicebound", "messageId": "m", "contentType": "a/b"}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"to": "/devices/nobody/messages/devicebound"}, "no device"),
        ({"to": "/elsewhere"}, "property 'to'"),
        ({"application": {"iothub-ack": "sometimes"}}, "iothub-ack is none of"),
        ({"application": {"k": [1]}}, "neither text nor a number"),
        ({"body": bytes(70_000)}, "larger"),
        ({"to": "/devices/" + "x" * 200 + "/messages/devicebound"}, "not a device"),
    ],
)
def test_a_cloud_to_device_message_is_rejected_with_the_reason(
    hub: Hub, fields: dict[str, Any], text: str
) -> None:
    """The link stays."""
    client = hub.client()
    client.attach(0, "messages/devicebound", receives=False)
    body = fields.pop("body", b"b")
    if len(body) > 60_000:
        client.transfer(
            0,
            Message(make("properties", to="/devices/d/messages/devicebound"), {}, body).encode()[:60_000],
            more=True,
        )
        rest = Message(make("properties", to="/devices/d/messages/devicebound"), {}, body).encode()[60_000:]
        client.transfer(0, rest, delivery_id=None)
        state = client.taken("disposition")[0].state
    else:
        state = devicebound(client, body, **fields)
    assert (state.kind, text in state.error.description) == ("rejected", True)
    assert (state.error.condition == "amqp:not-found") == (text == "no device")
    assert devicebound(client).kind == "accepted"


def test_feedback_comes_until_it_is_accepted(hub: Hub) -> None:
    """Released, or on a connection that ends: it comes again. Accepted: it does not."""
    queues = hub.service.cloud_to_device
    sender = hub.client()
    sender.attach(0, "messages/devicebound", receives=False)
    devicebound(sender, application={"iothub-ack": "full"}, absolute_expiry_time=Timestamp((NOW + 1) * 1000))
    hub.edge.clock.advance(5)

    def receive(client: Client, handle: int) -> list[dict[str, str]]:
        client.attach(handle, "messages/serviceBound/feedback", receives=True)
        client.flow(handle, 1)
        return [record for message in client.messages() for record in json.loads(message.body)]

    lost = hub.client()
    assert [record["statusCode"] for record in receive(lost, 0)] == ["Expired"]
    beside = hub.client()
    assert receive(beside, 0) == []
    lost.send("close")
    client = hub.client()
    assert len(receive(client, 0)) == 1
    client.send("disposition", role=True, first=0, settled=True, state=make("released"))
    client.send("detach", handle=0, closed=True)
    assert len(receive(client, 1)) == 1
    client.send("disposition", role=True, first=1, settled=True, state=make("accepted"))
    assert receive(client, 2) == []
    assert queues.feedback(10) == {}


def test_a_damaged_message_ends_its_link_only(hub: Hub) -> None:
    """The connection goes on."""
    client = hub.client()
    request_links(client, "$management")
    client.transfer(0, b"\x00\x53\x75\xa0\xff")
    assert client.error("detach") == "amqp:decode-error"
    client.attach(5, "$management", receives=False)
    client.request(5, operation="READ", type="com.microsoft:eventhub")
    assert len(client.messages()) == 1


def session(hub: Hub) -> bytes:
    """The bytes of a client that uses every node."""
    sent = bytearray()
    peer = Peer(hub.service, "recorded", lambda: None)

    def exchange(data: bytes) -> bytes:
        sent.extend(data)
        peer.receive(data)
        peer.pump()
        return peer.take()

    client = Client(exchange)
    client.open("PLAIN", OWNER, idle_time_out=60_000)
    request_links(client, "$cbs")
    client.request(0, body=token(), operation="put-token", type=TOKEN_TYPE, name="x")
    client.attach(2, hub.partition, receives=True, selector="amqp.annotation.x-opt-offset > '-1'", **epoch(1))
    client.flow(2, 5)
    client.attach(3, "messages/devicebound", receives=False)
    client.transfer(3, Message(make("properties", to="/devices/d/messages/devicebound")).encode())
    client.attach(4, "messages/serviceBound/feedback", receives=True)
    client.flow(4, 5, echo=True, drain=True)
    client.send("disposition", role=True, first=0, last=9, settled=False, state=make("accepted"))
    client.send("detach", handle=4, closed=True)
    client.send("end")
    client.send("close")
    return bytes(sent)


def test_no_bytes_raise_anything(hub: Hub) -> None:
    """Changed, cut, repeated bytes of a session that uses every node: an error goes to the client."""
    hub.upstream(b"event")
    recorded = session(hub)
    generator = random.Random(7)
    for _ in range(1_500):
        data = bytearray(recorded)
        for _ in range(generator.randrange(1, 4)):
            at = generator.randrange(8, len(data))
            if generator.random() < 0.7:
                data[at] = generator.choice((0, 1, 255, data[at] ^ 1 << generator.randrange(8)))
            else:
                data[at : at + generator.randrange(20)] = data[at : at + generator.randrange(40)]
        peer = Peer(hub.service, "changed", lambda: None)
        for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
            peer.receive(bytes(piece))
            peer.pump()
            peer.take()
        peer.lost()
    assert not hub.service.readers
