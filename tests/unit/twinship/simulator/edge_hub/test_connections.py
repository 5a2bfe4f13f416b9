"""What `$edgeHub` reports about its clients, without a socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.twinship.simulator.edge import EDGE, Edge, RecordingLink
from twinship.simulator.edge_hub.authentication import Refused
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import EDGE_HUB


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    edge = Edge(tmp_path)
    edge.create("a", "b.c")
    return edge


def clients(edge: Edge) -> dict[str, Any]:
    """`clients`, as $edgeHub has reported it."""
    reported = edge.registry.twin(Identity(EDGE, EDGE_HUB)).reported
    return dict(reported.get("clients", {}))


def version(edge: Edge) -> int:
    """Counts the reported patches."""
    return edge.registry.twin(Identity(EDGE, EDGE_HUB)).reported_version


def test_connects_and_disconnects_are_reported(edge: Edge) -> None:
    """With both times; a name that is not allowed in a twin is percent-encoded (ref 8)."""
    edge.connect("b.c")
    client = edge.connect("a")
    edge.clock.advance(10)
    client.drop()
    edge.clock.advance(10)
    assert clients(edge) == {
        "edge/a": {
            "status": "Disconnected",
            "lastConnectedTimeUtc": "2023-11-14T22:13:20.000Z",
            "lastDisconnectedTimeUtc": "2023-11-14T22:13:30.000Z",
        },
        "edge/b%2Ec": {"status": "Connected", "lastConnectedTimeUtc": "2023-11-14T22:13:20.000Z"},
    }


def test_a_flapping_client_causes_one_patch_a_second(edge: Edge) -> None:
    """Sixty connections at once, which an SDK with a poison packet makes, are one patch."""
    before = version(edge)
    for _ in range(60):
        edge.connect("a").drop()
    edge.clock.advance(5)
    assert version(edge) == before + 1
    assert edge.hub.connections.connects[EDGE, f"{EDGE}/a"] == 60
    assert edge.hub.connections.disconnects[EDGE, f"{EDGE}/a"] == 60


def test_after_a_kill_clients_are_reported_as_disconnected(edge: Edge) -> None:
    """The next process corrects the report of the killed one."""
    edge.connect("a")
    edge.clock.advance(5)
    edge.restart()
    assert clients(edge)["edge/a"]["status"] == "Connected"
    edge.clock.advance(5)
    assert clients(edge)["edge/a"]["status"] == "Disconnected"


def test_a_stop_reports_at_once(edge: Edge) -> None:
    """The last patch is stored before the store is closed."""
    edge.connect("a")
    edge.hub.close()
    assert clients(edge)["edge/a"]["status"] == "Disconnected"


def test_refused_clients_are_counted(edge: Edge) -> None:
    """By CONNACK code and without the client's name, which may be invented."""
    packet = edge.connect_packet("a", ttl_s=-10)
    with pytest.raises(Refused):
        edge.hub.connect(packet, RecordingLink())
    assert edge.hub.connections.refusals == {(EDGE, 5): 1}
    assert clients(edge) == {}
