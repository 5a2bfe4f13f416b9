"""MQTT at IoT Hub where it differs from an edge device: user names, RETAIN, wills (ref 4.11), presence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import EDGE, GATEWAY, HUB, NOW, Edge, RawClient, RecordingLink
from twinship.simulator import sas
from twinship.simulator.edge_hub.authentication import Refused
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.identity_document import Presence
from twinship.simulator.mqtt.packets import Connect, Disconnect, Pingreq, Publish, Will

LEAF, MODULE = Identity("leaf"), Identity("leaf", "m")
EVENTS = "devices/leaf/messages/events/"


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    edge = Edge(tmp_path)
    edge.create("a")
    edge.registry.create(LEAF)
    edge.registry.create(MODULE)
    return edge


def connect_packet(edge: Edge, identity: Identity = LEAF, *, audience: str = "", query: str = "") -> Connect:
    keys = edge.registry.keys(identity)
    assert keys is not None
    token = sas.sign(keys[0], identity.resource(HUB) + audience, int(edge.clock.wall()) + 3600)
    username = f"{HUB}/{identity}/?api-version=2021-04-12{query}"
    return Connect(str(identity), username, token.encode(), 60, False)


def connect(edge: Edge, packet: Connect, gateway: str | None = None) -> RawClient:
    link = RecordingLink(gateway=gateway)
    link.client = edge.hub.connect(packet, link)
    return RawClient(link.client, link)


def properties(edge: Edge) -> list[dict[str, str]]:
    """The application properties of each line upstream."""
    return [line["Properties"] for line in edge.upstream()]


class TestNames:
    @pytest.mark.parametrize("tail", ["", "/", "/?", "/api-version=2016-11-14", "/?DeviceClientType=x"])
    @pytest.mark.parametrize("identity", [LEAF, MODULE])
    def test_a_user_name_needs_no_api_version(self, edge: Edge, identity: Identity, tail: str) -> None:
        """Other names of the service's MQTT page and the short form of old clients are accepted."""
        packet = replace(connect_packet(edge, identity), username=f"{HUB}/{identity}{tail}")
        connect(edge, packet)
        assert edge.hub.presence(identity).connected

    @pytest.mark.parametrize("tail", ["", "/", "/?", "/?DeviceClientType=x"])
    def test_an_edge_device_still_wants_an_api_version(self, edge: Edge, tail: str) -> None:
        """edgeHub refuses such names (ref 4.2)."""
        packet = replace(connect_packet(edge), username=f"{HUB}/{LEAF}{tail}")
        with pytest.raises(Refused):
            connect(edge, packet, EDGE)

    @pytest.mark.parametrize("username", [HUB, f"{HUB}/", f"{HUB}/other", f"{HUB}/leaf/m", f"{HUB}/a/b/c/d"])
    def test_a_user_name_of_another_identity_is_refused(self, edge: Edge, username: str) -> None:
        """The short form gives no way around the comparison with the client id."""
        with pytest.raises(Refused):
            connect(edge, replace(connect_packet(edge), username=username))

    def test_an_audience_may_end_with_the_api_version(self, edge: Edge) -> None:
        """Tokens of the device explorer do, at IoT Hub only."""
        packet = connect_packet(edge, audience="/api-version=2016-11-14")
        connect(edge, packet)
        with pytest.raises(Refused):
            connect(edge, packet, EDGE)

    @pytest.mark.parametrize("audience", ["x", "/x", "/api-version=1/x", "/modules/m/api-version=1"])
    def test_no_other_end_of_an_audience_is_accepted(self, edge: Edge, audience: str) -> None:
        """The token of one identity is none of another."""
        with pytest.raises(Refused):
            connect(edge, connect_packet(edge, audience=audience))

    def test_the_token_of_another_device_is_refused_with_the_api_version_too(self, edge: Edge) -> None:
        """The audience names the device before its end."""
        edge.registry.create(Identity("other"))
        stolen = connect_packet(edge, Identity("other"), audience="/api-version=1").password
        with pytest.raises(Refused):
            connect(edge, replace(connect_packet(edge), password=stolen))


class TestRetain:
    def test_retain_becomes_a_property(self, edge: Edge) -> None:
        """The message goes on as telemetry; a message without RETAIN has no such property."""
        leaf = connect(edge, connect_packet(edge))
        leaf.receive(Publish(EVENTS + "k=v", b"1", 1, 1, retain=True))
        leaf.receive(Publish(EVENTS, b"2", 1, 2))
        assert properties(edge) == [{"k": "v", "mqtt-retain": "true"}, {}]

    def test_retain_at_an_edge_device_is_no_property(self, edge: Edge) -> None:
        """edgeHub does not add it."""
        edge.route(up="FROM /* INTO $upstream")
        leaf = connect(edge, connect_packet(edge), EDGE)
        leaf.receive(Publish(EVENTS, b"1", 1, 1, retain=True))
        assert properties(edge) == [{}]


class TestWill:
    @pytest.mark.parametrize("identity", [LEAF, MODULE])
    def test_a_lost_connection_sends_the_will_once(self, edge: Edge, identity: Identity) -> None:
        """As telemetry of its client with the property iothub-MessageType, and RETAIN as for a message."""
        module = "" if identity.module is None else f"modules/{identity.module}/"
        will = Will(f"devices/leaf/{module}messages/events/k=v", b"gone", retain=True)
        client = connect(edge, replace(connect_packet(edge, identity), will=will))
        assert edge.upstream() == []
        client.drop()
        (line,) = edge.upstream()
        assert line["Properties"] == {"k": "v", "iothub-MessageType": "Will", "mqtt-retain": "true"}
        assert line["SystemProperties"].get("connectionModuleId") == identity.module
        assert line["Body"] == "Z29uZQ=="

    def test_a_connection_that_is_taken_over_sends_its_will(self, edge: Edge) -> None:
        """The first client did not say goodbye; the second has no will."""
        connect(edge, replace(connect_packet(edge), will=Will(EVENTS, b"gone")))
        connect(edge, connect_packet(edge)).drop()
        assert properties(edge) == [{"iothub-MessageType": "Will"}]

    def test_disconnect_sends_no_will(self, edge: Edge) -> None:
        """MQTT-3.14.4-3."""
        client = connect(edge, replace(connect_packet(edge), will=Will(EVENTS, b"gone")))
        client.receive(Disconnect())
        assert client.link.closed
        assert edge.upstream() == []

    @pytest.mark.parametrize(
        "topic", ["devices/edge/modules/a/messages/events/", "some/topic", "$iothub/twin/GET/?$rid=1", ""]
    )
    def test_a_will_to_another_topic_is_ignored(self, edge: Edge, topic: str) -> None:
        """It must be the client's own telemetry; the CONNECT is accepted all the same."""
        connect(edge, replace(connect_packet(edge), will=Will(topic, b"gone"))).drop()
        assert edge.upstream() == []

    def test_an_edge_device_ignores_a_will(self, edge: Edge) -> None:
        """Wills are in this simulator only at IoT Hub."""
        edge.route(up="FROM /* INTO $upstream")
        connect(edge, replace(connect_packet(edge), will=Will(EVENTS, b"gone")), EDGE).drop()
        assert edge.upstream() == []


class TestPresence:
    @pytest.mark.parametrize("gateway", [None, EDGE])
    def test_it_follows_connect_packets_and_the_end(self, edge: Edge, gateway: str | None) -> None:
        """Connected since the CONNECT, active with each packet, then disconnected since the end."""
        assert edge.hub.presence(LEAF) == Presence()
        client = connect(edge, connect_packet(edge), gateway)
        assert edge.hub.presence(LEAF) == Presence(True, NOW, NOW)
        edge.clock.advance(10)
        client.receive(Pingreq())
        assert edge.hub.presence(LEAF) == Presence(True, NOW, NOW + 10)
        edge.clock.advance(5)
        client.drop()
        gone = Presence(False, NOW + 15, NOW + 10)
        assert edge.hub.presence(LEAF) == gone
        edge.restart()
        assert edge.hub.presence(LEAF) == gone

    def test_after_a_kill_of_the_hub_nobody_is_connected(self, edge: Edge) -> None:
        """The times are those that were stored."""
        connect(edge, connect_packet(edge))
        edge.restart()
        assert edge.hub.presence(LEAF) == Presence(False, NOW, NOW)

    def test_the_model_id_is_that_of_the_last_connect(self, edge: Edge) -> None:
        """It stays after the end; a CONNECT without one has none."""
        connect(edge, connect_packet(edge, query="&model-id=dtmi%3Acom%3Aexample%3BThermostat%3B1")).drop()
        assert edge.hub.presence(LEAF).model_id == "dtmi:com:example;Thermostat;1"
        connect(edge, connect_packet(edge))
        assert edge.hub.presence(LEAF).model_id == ""

    def test_a_device_created_anew_was_never_seen(self, edge: Edge) -> None:
        """A removed identity takes its times along."""
        edge.registry.on_revoked.append(edge.hub.revoke)
        edge.registry.on_removed.append(edge.hub.remove)
        connect(edge, connect_packet(edge))
        edge.registry.delete(LEAF)
        edge.registry.create(LEAF)
        assert edge.hub.presence(LEAF) == Presence()
        edge.restart()
        assert edge.hub.presence(LEAF) == Presence()

    @pytest.mark.parametrize("module", [None, "$edgeAgent", "$edgeHub"])
    def test_an_edge_device_is_connected_since_the_hub_started(self, edge: Edge, module: str | None) -> None:
        """Its runtime is the simulator itself."""
        edge.clock.advance(3)
        assert edge.hub.presence(Identity(EDGE, module)) == Presence(True, NOW, NOW + 3)


def test_a_gateway_is_no_audience_of_iot_hub(edge: Edge) -> None:
    """The old end of an audience does not change which hosts count."""
    keys = edge.registry.keys(LEAF)
    assert keys is not None
    token = sas.sign(keys[0], f"{LEAF.resource(GATEWAY)}/api-version=1", int(NOW) + 60)
    with pytest.raises(Refused):
        connect(edge, replace(connect_packet(edge), password=token.encode()))
