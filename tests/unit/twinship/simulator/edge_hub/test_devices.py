"""Devices connected to IoT Hub itself and leaf devices of an edge device, without a socket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import (
    EDGE,
    GATEWAY,
    HUB,
    OTHER_EDGE,
    Edge,
    RawClient,
    RecordingLink,
    into,
)
from twinship.simulator import sas
from twinship.simulator.edge_hub.authentication import Refused
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.identity import Identity
from twinship.simulator.mqtt.packets import NOT_AUTHORIZED, Connack, Connect, Publish
from twinship.simulator.routing.routes import Routing

LEAF = Identity("leaf")
TELEMETRY = "devices/leaf/messages/events/k=v"


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """An edge device whose module b receives all messages, and a leaf device."""
    edge = Edge(tmp_path)
    edge.create("a", "b")
    edge.registry.create(LEAF)
    edge.route(r=into("b"), changes=into("b", "changes", "/twinChangeNotifications"))
    return edge


class TestAtIotHub:
    def test_telemetry_is_upstream_at_once_without_routes(self, edge: Edge) -> None:
        """It is one line upstream, and the module with a route for every message gets nothing."""
        b = edge.connect("b")
        b.subscribe_inputs()
        leaf = _connect(edge, LEAF)
        leaf.publish(TELEMETRY, b"1")
        (line,) = edge.upstream()
        assert line["SystemProperties"]["connectionDeviceId"] == "leaf"
        assert "connectionModuleId" not in line["SystemProperties"]
        assert (line["Properties"], line["Body"], b.messages) == ({"k": "v"}, "MQ==", [])
        assert leaf.acknowledged == [1]

    def test_a_reported_patch_is_answered_with_its_version(self, edge: Edge) -> None:
        """204 with $version, unlike edgeHub, and routes of edge devices do not get it (ref 4.9)."""
        b, leaf = edge.connect("b"), _connect(edge, LEAF)
        b.subscribe_inputs()
        leaf.subscribe("$iothub/twin/res/#")
        leaf.publish("$iothub/twin/PATCH/properties/reported/?$rid=r", b'{"x":1}')
        leaf.publish("$iothub/twin/PATCH/properties/reported/?$rid=s", b'{"a.b":1}')
        topics = [message.topic for message in leaf.messages]
        assert topics == ["$iothub/twin/res/204/?$rid=r&$version=2", "$iothub/twin/res/400/?$rid=s"]
        assert b.messages == []

    def test_a_desired_change_arrives(self, edge: Edge) -> None:
        """A subscribed device gets the patch with its version."""
        leaf = _connect(edge, LEAF)
        leaf.subscribe("$iothub/twin/PATCH/properties/desired/#")
        edge.registry.on_desired.append(edge.hub.desired_changed)
        edge.registry.patch_twin(LEAF, desired={"fps": 5})
        (patch,) = leaf.messages
        assert json.loads(patch.body) == {"fps": 5, "$version": 2}

    def test_a_module_of_an_edge_gets_no_inputs_there(self, edge: Edge) -> None:
        """IoT Hub accepts it and routes nothing to it; messages wait at its edge device."""
        b, a = _connect(edge, Identity(EDGE, "b")), edge.connect("a")
        b.subscribe_inputs()
        a.send("o", b"1")
        assert (b.messages, a.acknowledged) == ([], [1])
        at_edge = edge.connect("b")
        at_edge.subscribe_inputs()
        assert at_edge.bodies == [b"1"]

    @pytest.mark.parametrize("gateway", [EDGE, None])
    def test_a_session_belongs_to_one_server(self, edge: Edge, gateway: str | None) -> None:
        """Another server opens a new session and the older connection ends, also after a restart."""
        other = None if gateway else EDGE
        first = _connect(edge, LEAF, gateway)
        assert _connect(edge, LEAF, other).link.received[0] == Connack(0, False)
        assert first.link.closed is not None
        edge.restart()
        assert _connect(edge, LEAF, other).link.received[0] == Connack(0, True)
        assert _connect(edge, LEAF, gateway).link.received[0] == Connack(0, False)

    def test_a_token_for_a_gateway_is_refused_at_iot_hub(self, edge: Edge) -> None:
        """The audience at IoT Hub is IoT Hub; the gateway accepts the same token (ref 4.2)."""
        with pytest.raises(Refused) as refused:
            _connect(edge, LEAF, None, host=GATEWAY)
        assert refused.value.code == NOT_AUTHORIZED
        _connect(edge, LEAF, EDGE, host=GATEWAY)


class TestLeaves:
    def test_the_routes_of_the_gateway_apply_to_a_leafs_telemetry(self, edge: Edge) -> None:
        """The source is /messages, and the sender is the leaf without a module (ref 4.5, 4.6)."""
        b, leaf = edge.connect("b"), _connect(edge, LEAF, EDGE)
        b.subscribe_inputs()
        leaf.publish(TELEMETRY, b"1")
        (message,) = b.messages
        assert message.topic == f"devices/{EDGE}/modules/b/inputs/in/k=v&%24.cdid=leaf"
        assert edge.upstream() == []

    def test_a_route_from_modules_does_not_match_a_leaf(self, edge: Edge) -> None:
        """/messages/modules/* matches only telemetry of modules (ref 4.6)."""
        edge.route(up="FROM /messages/modules/* INTO $upstream")
        leaf, a = _connect(edge, LEAF, EDGE), edge.connect("a")
        leaf.publish(TELEMETRY, b"1")
        a.send("o", b"2")
        assert [line["SystemProperties"]["connectionDeviceId"] for line in edge.upstream()] == [EDGE]
        assert (edge.hub.dropped["no_route"], leaf.acknowledged) == (1, [1])

    def test_a_reported_patch_is_answered_as_edge_hub_does(self, edge: Edge) -> None:
        """204 without $version, and a twin change is routed (ref 4.9)."""
        b, leaf = edge.connect("b"), _connect(edge, LEAF, EDGE)
        b.subscribe_inputs()
        leaf.subscribe("$iothub/twin/res/#")
        leaf.publish("$iothub/twin/PATCH/properties/reported/?$rid=r", b'{"x":1}')
        assert leaf.messages == [Publish("$iothub/twin/res/204/?$rid=r", b"")]
        assert b.bodies == [b'{"x":1}']

    def test_each_gateway_has_its_own_routes(self, edge: Edge) -> None:
        """A module of the same name on another edge device is another module."""
        other = Identity(OTHER_EDGE, "b")
        edge.registry.create(other.parent, {"capabilities": {"iotEdge": True}})
        edge.registry.create(other)
        edge.hub.router.reconfigure(
            OTHER_EDGE, Routing.parse({"schemaVersion": "1.1", "routes": {"r": into("b")}})
        )
        here, there = edge.connect("b"), _connect(edge, other, OTHER_EDGE)
        here.subscribe_inputs()
        there.subscribe_inputs()
        edge.connect("a").send("o", b"here")
        _connect(edge, LEAF, OTHER_EDGE).publish(TELEMETRY, b"there")
        assert (here.bodies, there.bodies) == ([b"here"], [b"there"])

    def test_each_gateway_has_its_own_limit_of_clients(self, tmp_path: Path) -> None:
        """MaxConnectedClients applies to one edgeHub; IoT Hub has no such limit (ref 4.2)."""
        edge = Edge(tmp_path, EdgeHubSettings(max_connected_clients=1))
        edge.create("a")
        for name in ("leaf", "leaf2", "leaf3"):
            edge.registry.create(Identity(name))
        edge.connect("a")
        _connect(edge, LEAF, OTHER_EDGE)
        _connect(edge, Identity("leaf2"))
        _connect(edge, Identity("leaf3"))
        with pytest.raises(Refused, match="MaxConnectedClients"):
            _connect(edge, Identity("leaf2"), EDGE)


def _connect(edge: Edge, identity: Identity, gateway: str | None = None, *, host: str = HUB) -> RawClient:
    """A client at a gateway, or at IoT Hub (None), with a token for `host`."""
    keys = edge.registry.keys(identity)
    assert keys is not None
    token = sas.sign(keys[0], identity.resource(host), int(edge.clock.wall()) + 60)
    link = RecordingLink(gateway=gateway)
    connect = Connect(str(identity), f"{HUB}/{identity}/?api-version=2019-10-01", token.encode(), 60, False)
    link.client = edge.hub.connect(connect, link)
    return RawClient(link.client, link)
