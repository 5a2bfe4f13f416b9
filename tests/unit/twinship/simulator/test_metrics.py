"""The metrics pages without a socket: text, labels, and the samples of each edge device."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.unit.twinship.simulator.edge import EDGE, HUB, OTHER_EDGE, Edge, into
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import EDGE_AGENT
from twinship.simulator.metrics import Metrics

COMMON = {"iothub", "edge_device", "instance_number"}  # labels of every sample


def samples(page: bytes, name: str) -> list[tuple[dict[str, str], float]]:
    """Labels, without the common ones, and value of every sample of this name."""
    found = []
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            assert sample.labels.keys() >= COMMON
            if sample.name == name:
                own = {label: text for label, text in sample.labels.items() if label not in COMMON}
                found.append((own, sample.value))
    return found


def test_a_page_shows_its_own_edge_device(tmp_path: Path) -> None:
    """Every sample names hub and device; a page shows no clients of other devices."""
    edge = Edge(tmp_path)
    edge.create("a", "b")
    edge.route(r=into("b", source="/messages/modules/a/*"))
    edge.connect("a").send("o", b"1")
    metrics = Metrics(edge.registry, edge.hub, tmp_path)
    page, other = metrics.edge_hub(EDGE), metrics.edge_hub(OTHER_EDGE)
    assert samples(page, "edgehub_messages_received_total") == [({"id": "edge/a", "route_output": "o"}, 1)]
    assert samples(page, "edgehub_connected_clients") == [({}, 1)]
    queue = {"endpoint": "edge/b", "priority": "2000000000"}
    assert samples(page, "edgehub_queue_length") == [(queue, 1)]
    assert samples(other, "edgehub_messages_received_total") == []
    assert samples(other, "edgehub_connected_clients") == [({}, 0)]
    assert f'edge_device="{EDGE}"'.encode() in page
    assert f'iothub="{HUB}"'.encode() in page
    assert b"# TYPE edgehub_messages_received_total counter\n" in page
    assert b"edgehub_messages_sent" not in page  # no sample, no family


def test_a_client_name_cannot_break_the_text(tmp_path: Path) -> None:
    """Quotes and backslashes in a name are escaped."""
    edge = Edge(tmp_path)
    edge.create('a"b\\c')
    edge.connect('a"b\\c')
    page = Metrics(edge.registry, edge.hub, tmp_path).edge_hub(EDGE)
    assert samples(page, "edgehub_client_connect_success_total") == [({"id": 'edge/a"b\\c'}, 1)]


def test_module_starts_come_from_the_reported_properties(tmp_path: Path) -> None:
    """The first start and each restart count; a module that never ran has 0."""
    edge = Edge(tmp_path)
    edge.create()
    modules = {
        "a": {"version": "1.0", "restartCount": 2, "statusDescription": "running"},
        "b": {"version": "1.0", "restartCount": 0, "statusDescription": "not started"},
    }
    edge.registry.patch_reported(Identity(EDGE, EDGE_AGENT), {"modules": modules})
    page = Metrics(edge.registry, edge.hub, tmp_path).edge_agent(EDGE)
    assert samples(page, "edgeAgent_module_start_total") == [
        ({"module_name": "a", "module_version": "1.0"}, 3),
        ({"module_name": "b", "module_version": "1.0"}, 0),
    ]
    assert samples(page, "edgeAgent_host_uptime_seconds")[0][1] > 0
