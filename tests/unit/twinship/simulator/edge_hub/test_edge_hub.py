"""The rules of edgeHub without a socket: connects, sessions, deliveries, messages, twins."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.twinship.simulator.edge import EDGE, GATEWAY, HUB, OTHER_EDGE, Edge, RecordingLink, into
from twinship.simulator import sas
from twinship.simulator.edge_hub.authentication import Refused
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import (
    BAD_PROTOCOL_LEVEL,
    NOT_AUTHORIZED,
    SERVER_UNAVAILABLE,
    Connack,
    Connect,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Unsuback,
    Unsubscribe,
)

INPUTS = f"devices/{EDGE}/modules/b/inputs/"


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """An edge device with modules a and b; all messages of a go to input `in` of b."""
    edge = Edge(tmp_path)
    edge.create("a", "b")
    edge.route(r=into("b", source="/messages/modules/a/*"))
    return edge


class TestConnect:
    def test_the_first_session_is_new_and_later_ones_are_present(self, edge: Edge) -> None:
        """Also after a restart and without any subscription (ref statement 16)."""
        first, second = edge.connect("a"), edge.connect("a")
        edge.restart()
        third = edge.connect("a")
        answers = [client.link.received[0] for client in (first, second, third)]
        assert answers == [Connack(0, False), Connack(0, True), Connack(0, True)]

    def test_a_clean_session_forgets(self, edge: Edge) -> None:
        """clean_session 1 removes the old session and ends with its connection (MQTT-3.1.2-6)."""
        edge.connect("b").subscribe_inputs()
        clean = edge.connect("b", clean=True)
        clean.subscribe_inputs()
        clean.drop()
        again = edge.connect("b")
        edge.connect("a").send("o", b"1")
        assert clean.link.received[0] == again.link.received[0] == Connack(0, False)
        assert again.messages == []

    def test_the_newest_connection_of_an_identity_wins(self, edge: Edge) -> None:
        """The older connection is closed, and messages go to the newer one (ref statement 20)."""
        first = edge.connect("b")
        first.subscribe_inputs()
        second = edge.connect("b")
        edge.connect("a").send("o", b"1")
        assert first.link.closed is not None
        assert (first.bodies, second.bodies) == ([], [b"1"])
        assert first.link.client is not None
        first.link.client.closed()  # the server may notice the end of its socket much later
        assert edge.hub.presence(Identity(EDGE, "b")).connected

    @pytest.mark.parametrize("host", [HUB, HUB.upper(), f"{HUB}:8443", GATEWAY])
    def test_a_token_may_name_the_hub_or_the_gateway(self, edge: Edge, host: str) -> None:
        """In any letter case, with or without a port (ref 4.2, statement 14)."""
        assert _connect_with(edge, "a", Identity(EDGE, "a"), 0, host).received[0] == Connack(0, False)

    def test_a_secondary_key_and_a_device_key_are_accepted(self, edge: Edge) -> None:
        """A token may be signed with either key of the module or of its device (statement 7, statement 8)."""
        for signer, key in ((Identity(EDGE, "a"), 1), (Identity(EDGE), 0), (Identity(EDGE), 1)):
            assert _connect_with(edge, "a", signer, key).received[0] in (Connack(0, False), Connack(0, True))

    def test_a_token_of_another_module_is_refused(self, edge: Edge) -> None:
        """With CONNACK 5 (ref 4.2)."""
        with pytest.raises(Refused) as refused:
            _connect_with(edge, "a", Identity(EDGE, "b"), 0)
        assert refused.value.code == NOT_AUTHORIZED

    def test_a_refusal_names_its_reason_and_no_secret(self, edge: Edge) -> None:
        """Expired token, wrong client id, no api-version, no password, unknown module, old protocol."""
        good = edge.connect_packet("a")
        expired = edge.connect_packet("a", ttl_s=-1)
        cases = {
            "expired": (expired, NOT_AUTHORIZED),
            "client id": (replace(good, client_id=f"{EDGE}/b"), NOT_AUTHORIZED),
            "api-version": (replace(good, username=f"{HUB}/{EDGE}/a/?x=y"), NOT_AUTHORIZED),
            "user name": (replace(good, username="a"), NOT_AUTHORIZED),
            "SAS token": (replace(good, password=None), NOT_AUTHORIZED),
            "no SAS": (replace(good, password=b"\xff"), NOT_AUTHORIZED),
            "unknown": (
                replace(good, client_id=f"{EDGE}/z", username=f"{HUB}/{EDGE}/z/?api-version=1"),
                NOT_AUTHORIZED,
            ),
            "level": (replace(good, level=3), BAD_PROTOCOL_LEVEL),
        }
        for word, (packet, code) in cases.items():
            with pytest.raises(Refused, match=word) as refused:
                edge.hub.connect(packet, RecordingLink())
            assert refused.value.code == code
            assert "SharedAccessSignature" not in str(refused.value)

    def test_another_api_version_with_a_model_id_is_accepted(self, edge: Edge) -> None:
        """Any api-version is accepted if there is one (ref statement 10)."""
        username = f"{HUB}/{EDGE}/a/?api-version=2020-09-30&DeviceClientType=x%2F1&model-id=dtmi:a;1"
        edge.hub.connect(replace(edge.connect_packet("a"), username=username), RecordingLink())

    @pytest.mark.parametrize("name", ["a b", "$x", "A.b-c_d:e", "m?n"])
    def test_odd_names_are_not_escaped(self, edge: Edge, name: str) -> None:
        """In client id, user name and topics (ref statement 13)."""
        edge.registry.create(Identity(EDGE, name), {})
        edge.route(r=into(name))
        client = edge.connect(name)
        client.subscribe_inputs()
        client.send("o", b"to myself")
        assert client.messages[0].topic.startswith(f"devices/{EDGE}/modules/{name}/inputs/in/")

    def test_a_module_connects_only_to_its_own_edge_device(self, edge: Edge) -> None:
        """Another edge device refuses it."""
        with pytest.raises(Refused, match="another edge device"):
            edge.hub.connect(edge.connect_packet("a"), RecordingLink(gateway=OTHER_EDGE))

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(client_id=st.text(max_size=40), username=st.text(max_size=60), password=st.binary(max_size=60))
    def test_any_bad_connect_is_refused(
        self, edge: Edge, client_id: str, username: str, password: bytes
    ) -> None:
        """No name and no password causes another exception."""
        for name in (username, f"{HUB}/{client_id}/?api-version={username}"):
            for secret in (password, b"SharedAccessSignature sr=x&sig=" + password + b"&se=9999999999"):
                with pytest.raises(Refused):
                    edge.hub.connect(Connect(client_id, name, secret), RecordingLink())

    def test_too_many_clients_are_refused_as_unavailable(self, tmp_path: Path) -> None:
        """A known client may return; the SDK retries after this code (ref statement 24, statement 26)."""
        edge = Edge(tmp_path, EdgeHubSettings(max_connected_clients=1))
        edge.create("a", "b", "c")
        edge.connect("a").drop()
        edge.connect("b").drop()
        edge.connect("b")
        edge.connect("a")
        with pytest.raises(Refused) as refused:
            edge.connect("c")
        assert refused.value.code == SERVER_UNAVAILABLE

    def test_an_identity_that_is_removed_or_rekeyed_loses_its_connection(self, edge: Edge) -> None:
        """A removed identity loses its session too."""
        a, b = edge.connect("a"), edge.connect("b")
        edge.hub.revoke(Identity(EDGE, "a"))
        edge.hub.remove(Identity(EDGE, "b"))
        assert a.link.closed is not None
        assert b.link.closed is not None
        assert edge.connect("a").link.received[0] == Connack(0, True)
        assert edge.connect("b").link.received[0] == Connack(0, False)


class TestSubscriptions:
    def test_every_filter_is_granted_at_most_qos_1(self, edge: Edge) -> None:
        """Also a filter without a meaning (ref statement 22)."""
        client = edge.connect("b")
        client.subscribe(INPUTS + "#", qos=2)
        client.subscribe("no/such/thing", qos=0)
        assert client.link.received[1:] == [Suback(1, (1,)), Suback(2, (0,))]

    def test_subscriptions_outlive_connection_and_process(self, edge: Edge) -> None:
        """The SDK does not subscribe again after a reconnect (ref statement 17, statement 18)."""
        edge.connect("b").subscribe_inputs()
        edge.restart()
        b = edge.connect("b")
        edge.connect("a").send("o", b"1")
        assert b.bodies == [b"1"]

    def test_after_unsubscribe_messages_wait(self, edge: Edge) -> None:
        """A later subscription gets them (ref 2.8)."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        b.receive(Unsubscribe(9, (INPUTS + "#",)))
        a.send("o", b"1")
        assert b.link.received[-1] == Unsuback(9)
        b.subscribe_inputs()
        assert b.bodies == [b"1"]

    def test_a_ping_is_answered(self, edge: Edge) -> None:
        """PINGREQ gets a PINGRESP (ref statement 21)."""
        client = edge.connect("a")
        client.receive(Pingreq())
        assert client.link.received[-1] == Pingresp()


class TestDelivery:
    def test_one_message_is_in_flight_at_a_time(self, edge: Edge) -> None:
        """The PUBACK of one lets the next go (ref statement 39), in the order of sending (statement 38)."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        ids = [a.send("o", bytes([number])) for number in range(3)]
        assert (a.acknowledged, b.bodies) == (ids, [b"\0"])
        b.acknowledge()
        b.acknowledge()
        assert b.bodies == [b"\0", b"\1", b"\2"]

    def test_deliveries_and_pubacks_wait_for_the_commit(self, edge: Edge) -> None:
        """Also when the PUBACK of another message makes room in the same turn of the event loop."""

        async def turns() -> None:
            a, b = edge.connect("a"), edge.connect("b")
            b.subscribe_inputs()
            await asyncio.sleep(0)
            a.send("o", b"1")
            assert (a.acknowledged, b.bodies) == ([], [])
            await asyncio.sleep(0)
            assert (a.acknowledged, b.bodies) == ([1], [b"1"])
            a.send("o", b"2")
            b.acknowledge()
            assert (a.acknowledged, b.bodies) == ([1], [b"1"])
            await asyncio.sleep(0)
            assert (a.acknowledged, b.bodies) == ([1, 2], [b"1", b"2"])

        asyncio.run(turns())

    def test_a_wider_window_allows_more_messages_in_flight(self, tmp_path: Path) -> None:
        """--delivery-window N allows N of them."""
        edge = Edge(tmp_path, EdgeHubSettings(delivery_window=2))
        edge.create("a", "b")
        edge.route(r=into("b"))
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        for number in range(3):
            a.send("o", bytes([number]))
        assert b.bodies == [b"\0", b"\1"]

    def test_a_message_without_a_puback_is_sent_again(self, edge: Edge) -> None:
        """After 30 s, with its packet id and DUP set, and before any other message (ref statement 39)."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        a.send("o", b"1")
        a.send("o", b"2")
        edge.clock.advance(29.9)
        assert len(b.messages) == 1
        edge.clock.advance(0.2)
        first, again = b.messages
        assert again == replace(first, dup=True)
        edge.clock.advance(30)
        assert len(b.messages) == 3
        b.acknowledge()
        assert b.bodies == [b"1", b"1", b"1", b"2"]

    def test_a_new_connection_gets_the_unacknowledged_message_first(self, edge: Edge) -> None:
        """With its packet id and DUP set (MQTT-4.4.0-1); the other messages follow."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        a.send("o", b"1")
        a.send("o", b"2")
        first = b.messages[0]
        b.drop()
        edge.clock.advance(100)
        b = edge.connect("b")
        assert b.messages == [replace(first, dup=True)]
        b.acknowledge()
        assert b.bodies == [b"1", b"2"]

    def test_messages_in_flight_are_delivered_again_after_a_restart(self, edge: Edge) -> None:
        """At least once: only a PUBACK removes a message from the store (ref statement 40, statement 41)."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        for body in (b"1", b"2", b"3"):
            a.send("o", body)
        b.acknowledge()
        edge.restart()
        b = edge.connect("b")
        b.acknowledge()
        assert b.bodies == [b"2", b"3"]

    def test_a_clean_session_gets_the_messages_in_flight_as_new_ones(self, edge: Edge) -> None:
        """The packet ids of the old session are gone; the messages and their order are not."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        a.send("o", b"1")
        a.send("o", b"2")
        b = edge.connect("b", clean=True)
        b.subscribe_inputs()
        b.acknowledge()
        assert b.bodies == [b"1", b"2"]
        assert not any(message.dup for message in b.messages)

    def test_a_clean_session_gets_several_messages_in_flight_in_order(self, tmp_path: Path) -> None:
        """With a window of 3 they go back to the front of the queue in their old order."""
        edge = Edge(tmp_path, EdgeHubSettings(delivery_window=3))
        edge.create("a", "b")
        edge.route(r=into("b"))
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        for body in (b"1", b"2", b"3", b"4"):
            a.send("o", body)
        assert b.bodies == [b"1", b"2", b"3"]
        b = edge.connect("b", clean=True)
        b.subscribe_inputs()
        assert b.bodies == [b"1", b"2", b"3"]
        for _ in range(3):
            b.acknowledge()
        assert b.bodies == [b"1", b"2", b"3", b"4"]

    def test_an_expired_message_is_not_delivered(self, edge: Edge) -> None:
        """timeToLiveSecs begins when it is stored; the drop counts as ttl_expiry (ref statement 42).

        The count survives a kill: the message was acknowledged, so somebody asks where it is.
        """
        edge.route(r={"route": into("b"), "timeToLiveSecs": 5})
        a = edge.connect("a")
        a.send("o", b"old")
        edge.clock.advance(4)
        a.send("o", b"young")
        edge.clock.advance(2)
        b = edge.connect("b")
        b.subscribe_inputs()
        assert (b.bodies, edge.hub.dropped["ttl_expiry"]) == ([b"young"], 1)
        edge.restart()
        b = edge.connect("b")
        assert (b.bodies, edge.hub.dropped["ttl_expiry"]) == ([b"young"], 1)

    def test_expired_messages_of_an_absent_module_are_removed(self, edge: Edge) -> None:
        """The cleanup every half hour drops them (ref 4.7)."""
        edge.route(r={"route": into("b"), "timeToLiveSecs": 5})
        edge.connect("a").send("o", b"old")
        edge.clock.advance(1801)
        assert list(edge.store.messages()) == []

    def test_an_urgent_message_overtakes_a_backlog(self, edge: Edge) -> None:
        """Priority 0 goes before priority 9 at the next batch of ten (ref statement 54)."""
        edge.route(
            slow={"route": into("b", "slow", "/messages/modules/a/outputs/slow"), "priority": 9},
            fast={"route": into("b", "fast", "/messages/modules/a/outputs/fast"), "priority": 0},
        )
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        for number in range(25):
            a.send("slow", b"slow %d" % number)
        b.acknowledge()
        a.send("fast", b"fast")
        for _ in range(24):
            b.acknowledge()
        assert b.bodies.index(b"fast") == 10
        assert [body for body in b.bodies if body != b"fast"] == [b"slow %d" % number for number in range(25)]

    def test_a_message_that_no_filter_covers_is_discarded(self, edge: Edge) -> None:
        """It does not delay the other messages (ref 4.3)."""
        edge.route(
            x=into("b", "x", "/messages/modules/a/outputs/x"),
            y=into("b", "y", "/messages/modules/a/outputs/y"),
        )
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe(INPUTS + "y/#")
        a.send("x", b"1")
        a.send("y", b"2")
        assert b.bodies == [b"2"]

    def test_a_filter_of_qos_0_needs_no_puback(self, edge: Edge) -> None:
        """A long backlog is sent at once, without packet ids."""
        a = edge.connect("a")
        for _ in range(1500):
            a.send("o", b"x")
        b = edge.connect("b")
        b.subscribe(INPUTS + "#", qos=0)
        assert [message.packet_id for message in b.messages] == [None] * 1500
        assert list(edge.store.messages()) == []

    def test_the_hop_delay_begins_when_a_message_is_stored(self, tmp_path: Path) -> None:
        """--hop-delay-ms does not begin at the PUBACK of the message before."""
        edge = Edge(tmp_path, EdgeHubSettings(hop_delay_s=0.01))
        edge.create("a", "b")
        edge.route(r=into("b"))
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        a.send("o", b"1")
        a.send("o", b"2")
        assert b.bodies == []
        edge.clock.advance(0.011)
        b.acknowledge()
        assert b.bodies == [b"1", b"2"]


class TestMessages:
    def test_the_topic_names_the_input_the_properties_and_the_sender(self, edge: Edge) -> None:
        """`$.on` and `$.ifid` are left out, the hub writes `$.cdid` and `$.cmid` (ref 4.5)."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        a.send("o", b"1", "%24.ct=text%2Fplain&k%20=v%26&%24.mid=m&%24.ifid=i&%24.cmid=forged")
        assert b.messages[0].topic == (
            f"{INPUTS}in/k%20=v%26&%24.cmid=forged&%24.mid=m&%24.ct=text%2Fplain&%24.cdid={EDGE}&%24.cmid=a"
        )

    def test_a_message_without_a_route_is_acknowledged_and_counted(self, edge: Edge) -> None:
        """The reason is no_route (ref statement 29)."""
        b = edge.connect("b")
        packet_id = b.send("o", b"1")
        assert (b.acknowledged, edge.hub.dropped["no_route"]) == ([packet_id], 1)

    def test_body_and_properties_above_the_limit_are_acknowledged_and_dropped(self, edge: Edge) -> None:
        """A message of exactly the limit passes (ref statement 37)."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        own = len("outputNameo" + f"connectionDeviceId{EDGE}connectionModuleIda") + len("edgeMessageId") + 36
        own += len("edgeHubOriginInterfaceinternal")
        a.send("o", bytes(262_144 - own))
        a.send("o", bytes(262_144 - own + 1))
        b.acknowledge()
        assert (len(a.acknowledged), len(b.messages), edge.hub.dropped["too_large"]) == (2, 1, 1)

    def test_a_message_whose_properties_do_not_fit_a_topic_is_dropped(self, edge: Edge) -> None:
        """A topic has at most 65,535 bytes, and the hub adds the sender's name to the properties."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe_inputs()
        a.send("o", b"1", "k=" + "v" * 65_480)
        assert (len(a.acknowledged), b.messages, edge.hub.dropped["topic_too_long"]) == (1, [], 1)

    @pytest.mark.parametrize(
        "topic",
        ["nonsense", "devices/edge/modules/a/messages/events/k=%ff", "$iothub/twin/GET/?x=1", "$iothub/x"],
    )
    def test_a_topic_without_meaning_is_acknowledged_and_dropped(self, edge: Edge, topic: str) -> None:
        """Otherwise the client would send a poison message for ever (ref 4.4)."""
        a = edge.connect("a")
        packet_id = a.publish(topic, b"1")
        assert (a.acknowledged, edge.hub.dropped["not_understood"]) == ([packet_id], 1)

    def test_a_publish_in_another_name_is_dropped(self, edge: Edge) -> None:
        """It is acknowledged and counted as foreign_sender."""
        b = edge.connect("b")
        b.subscribe_inputs()
        b.publish(f"devices/{EDGE}/modules/a/messages/events/", b"1")
        assert (len(b.acknowledged), b.messages, edge.hub.dropped["foreign_sender"]) == (1, [], 1)

    def test_upstream_has_a_line_before_the_puback(self, edge: Edge) -> None:
        """The body is JSON if it is declared and valid as JSON, otherwise base64 (ref 6)."""
        edge.route(up="FROM /messages/* INTO $upstream")
        a = edge.connect("a")
        declared = "%24.ct=application%2Fjson&%24.ce=utf-8"
        for body, bag in ((b'{"x": 1}', declared), (b'{"x": NaN}', declared), (b'{"x": 1}', "")):
            a.send("o", body, bag)
        assert len(a.acknowledged) == 3
        assert [line["Body"] for line in edge.upstream()] == [{"x": 1}, "eyJ4IjogTmFOfQ==", "eyJ4IjogMX0="]
        assert list(edge.store.messages()) == []

    def test_a_reported_patch_is_routed_as_a_message(self, edge: Edge) -> None:
        """Its source is /twinChangeNotifications, with its own schema (ref 4.9)."""
        edge.route(up="FROM /twinChangeNotifications/* INTO $upstream")
        edge.connect("a").publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"x":1}')
        (line,) = edge.upstream()
        assert line["SystemProperties"]["messageSchema"] == "twinChangeNotification"


class TestTwins:
    def test_a_get_is_answered_before_it_is_acknowledged(self, edge: Edge) -> None:
        """A PUBACK means that the answer was sent (ref statement 67)."""
        a = edge.connect("a")
        a.subscribe("$iothub/twin/res/#")
        packet_id = a.publish("$iothub/twin/GET/?$rid=r1", b" ")
        answer, puback = a.link.received[-2:]
        assert isinstance(answer, Publish)
        assert (answer.topic, json.loads(answer.body)) == (
            "$iothub/twin/res/200/?$rid=r1",
            {"desired": {"$version": 1}, "reported": {"$version": 1}},
        )
        assert puback == Puback(packet_id)

    def test_without_a_subscription_there_is_no_answer(self, edge: Edge) -> None:
        """The request is still acknowledged (ref 2.6, 4.3)."""
        a = edge.connect("a")
        packet_id = a.publish("$iothub/twin/GET/?$rid=r1", b" ")
        assert (a.messages, a.acknowledged) == ([], [packet_id])

    @pytest.mark.parametrize(
        ("body", "status"),
        [(b'{"x":1}', 204), (b"{", 400), (b"[]", 400), (b'{"a.b":1}', 400), (b"[" * 100_000, 400)],
    )
    def test_a_reported_patch_is_answered_with_204_or_400(self, edge: Edge, body: bytes, status: int) -> None:
        """204 without $version, 400 with an empty body (ref 4.9)."""
        a = edge.connect("a")
        a.subscribe("$iothub/twin/res/#")
        a.publish("$iothub/twin/PATCH/properties/reported/?$rid=r", body)
        assert a.messages == [Publish(f"$iothub/twin/res/{status}/?$rid=r", b"")]

    def test_a_desired_patch_reaches_subscribed_modules(self, edge: Edge) -> None:
        """Once, with its $version (ref statement 65, statement 66)."""
        a, b = edge.connect("a"), edge.connect("b")
        b.subscribe("$iothub/twin/PATCH/properties/desired/#")
        edge.registry.on_desired.append(edge.hub.desired_changed)
        for module in ("a", "b"):
            edge.registry.patch_twin(Identity(EDGE, module), desired={"fps": 5})
        assert a.messages == []
        (patch,) = b.messages
        assert patch.topic == "$iothub/twin/PATCH/properties/desired/?$version=2"
        assert json.loads(patch.body) == {"fps": 5, "$version": 2}


def _connect_with(edge: Edge, module: str, signer: Identity, key: int, host: str = HUB) -> RecordingLink:
    """Connect a module with a token signed with the primary (0) or secondary (1) key of `signer`."""
    keys = edge.registry.keys(signer)
    assert keys is not None
    token = sas.sign(keys[key], signer.resource(host), int(edge.clock.wall()) + 60)
    link = RecordingLink()
    edge.hub.connect(replace(edge.connect_packet(module), password=token.encode()), link)
    return link
