"""The metrics pages without a socket: text, labels, what belongs to which edge device."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.unit.twinship.simulator.edge import EDGE, HUB, OTHER_EDGE, Edge, into
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import EDGE_AGENT
from twinship.simulator.metrics import Family, Metrics, text


def lines(page: str, name: str) -> list[str]:
    """The samples of one name, without the labels that all have."""
    found = [line for line in page.splitlines() if line.startswith(f"{name}{{")]
    return [line.partition('instance_number="')[2].partition('"')[2].lstrip(",") for line in found]


@pytest.mark.parametrize(
    ("value", "written"),
    [(3, "3"), (3.0, "3"), (0.5, "0.5"), (math.inf, "NaN"), (-math.inf, "NaN"), (math.nan, "NaN")],
)
def test_a_value_is_a_number_that_the_collector_reads(value: float, written: str) -> None:
    """It knows NaN and no infinity (ref 9)."""
    family = Family("m", "gauge", "help", (({}, value),))
    assert text([family], {"a": "b"}).splitlines()[-1] == f'm{{a="b"}} {written}'


def test_what_a_client_is_called_cannot_break_the_text() -> None:
    """Quote, backslash and line break are escaped; a family without samples is not mentioned."""
    family = Family("m_total", "counter", "help", (({"id": 'a"b\\c\nd'}, 1),))
    assert text([family, Family("n", "gauge", "help", ())], {}) == (
        '# HELP m_total help\n# TYPE m_total counter\nm_total{id="a\\"b\\\\c\\nd"} 1\n'
    )


def test_a_page_shows_its_own_edge_device(tmp_path: Path) -> None:
    """Names of hub and device stand in every sample; another device's page has none of its clients."""
    edge = Edge(tmp_path)
    edge.create("a", "b")
    edge.route(r=into("b", source="/messages/modules/a/*"))
    edge.connect("a").send("o", b"1")
    metrics = Metrics(edge.registry, edge.hub, tmp_path)
    page, other = metrics.edge_hub(EDGE), metrics.edge_hub(OTHER_EDGE)
    assert lines(page, "edgehub_messages_received_total") == ['id="edge/a",route_output="o"} 1']
    assert lines(page, "edgehub_connected_clients") == ["} 1"]
    assert lines(page, "edgehub_queue_length") == ['endpoint="edge/b",priority="2000000000"} 1']
    assert lines(other, "edgehub_messages_received_total") == []
    assert lines(other, "edgehub_connected_clients") == ["} 0"]
    assert f'iothub="{HUB}",edge_device="{EDGE}",instance_number="' in page


def test_starts_of_modules_come_from_what_edge_agent_reported(tmp_path: Path) -> None:
    """The first start and each restart; a module that never ran has none."""
    edge = Edge(tmp_path)
    edge.create()
    modules = {
        "a": {"version": "1.0", "restartCount": 2, "statusDescription": "running"},
        "b": {"version": "1.0", "restartCount": 0, "statusDescription": "not started"},
    }
    edge.registry.patch_reported(Identity(EDGE, EDGE_AGENT), {"modules": modules})
    page = Metrics(edge.registry, edge.hub, tmp_path).edge_agent(EDGE)
    assert lines(page, "edgeAgent_module_start_total") == [
        'module_name="a",module_version="1.0"} 3',
        'module_name="b",module_version="1.0"} 0',
    ]
