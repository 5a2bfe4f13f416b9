"""What $edgeHub reports about its clients, without a socket."""

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


def test_a_client_that_comes_and_goes_is_reported(edge: Edge) -> None:
    """With both times; a name that a twin cannot hold is percent-encoded (ref 8)."""
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


def test_a_client_that_flaps_costs_one_patch_a_second(edge: Edge) -> None:
    """Sixty connections at once, as an SDK with a poison packet makes them, are one patch."""
    before = version(edge)
    for _ in range(60):
        edge.connect("a").drop()
    edge.clock.advance(5)
    assert version(edge) == before + 1
    assert edge.hub.connections.connects[EDGE, f"{EDGE}/a"] == 60
    assert edge.hub.connections.disconnects[EDGE, f"{EDGE}/a"] == 60


def test_after_a_kill_nobody_is_there(edge: Edge) -> None:
    """What the killed process left as connected is corrected by the next one."""
    edge.connect("a")
    edge.clock.advance(5)
    edge.restart()
    assert clients(edge)["edge/a"]["status"] == "Connected"
    edge.clock.advance(5)
    assert clients(edge)["edge/a"]["status"] == "Disconnected"


def test_a_stop_reports_at_once(edge: Edge) -> None:
    """The last patch is in the store before the store is closed."""
    edge.connect("a")
    edge.hub.close()
    assert clients(edge)["edge/a"]["status"] == "Disconnected"


def test_who_is_refused_is_counted(edge: Edge) -> None:
    """By CONNACK code; names that were made up are not kept."""
    packet = edge.connect_packet("a", ttl_s=-10)
    with pytest.raises(Refused):
        edge.hub.connect(packet, RecordingLink())
    assert edge.hub.connections.refusals == {(EDGE, 5): 1}
    assert clients(edge) == {}
