"""Twin change events: who gets one, and what it says (ref 4.12)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.twinship.simulator.edge import EDGE, HUB, Edge
from twinship.simulator.identity import Identity

LEAF = Identity("leaf")
STAMP = "2023-11-14T22:13:20.000000Z"


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """A hub that sends twin change events, with a module `a` and a device `leaf`."""
    edge = Edge(tmp_path)
    edge.create("a")
    edge.registry.create(LEAF)
    edge.registry.on_change.append(edge.hub.twin_changed)
    return edge


def event(edge: Edge) -> tuple[dict[str, str], dict[str, str], Any]:
    """Application properties, system properties and body of the only line upstream."""
    edge.store.commit()
    (line,) = edge.upstream()
    return line["Properties"], line["SystemProperties"], line["Body"]


def test_a_change_of_the_service_is_an_update(edge: Edge) -> None:
    """With the version, the changed tags and properties and their metadata, and nothing else."""
    edge.registry.patch_twin(LEAF, desired={"fps": 5, "in": {"x": 1}}, tags={"floor": 1})
    properties, system, body = event(edge)
    assert properties == {
        "deviceId": "leaf",
        "hubName": HUB,
        "operationTimestamp": STAMP,
        "iothub-message-schema": "twinChangeNotification",
        "opType": "updateTwin",
    }
    assert system["iothub-message-source"] == "twinChangeEvents"
    assert (system["connectionDeviceId"], system["userId"]) == ("leaf", HUB)
    assert "connectionModuleId" not in system
    at = {"$lastUpdated": STAMP, "$lastUpdatedVersion": 2}
    assert body == {
        "version": 3,
        "tags": {"floor": 1},
        "properties": {
            "desired": {
                "fps": 5,
                "in": {"x": 1},
                "$metadata": {**at, "fps": at, "in": {**at, "x": at}},
                "$version": 2,
            }
        },
    }


def test_a_later_update_has_only_what_changed(edge: Edge) -> None:
    """Names that stay are not in it; a removed name is null."""
    edge.registry.on_change.clear()
    edge.registry.patch_twin(LEAF, desired={"fps": 5, "keep": 1, "in": {"x": 1, "y": 2}})
    edge.registry.on_change.append(edge.hub.twin_changed)
    edge.registry.patch_twin(LEAF, desired={"fps": None, "keep": 1, "in": {"x": 3}})
    desired = event(edge)[2]["properties"]["desired"]
    assert {name: value for name, value in desired.items() if name[0] != "$"} == {"fps": None, "in": {"x": 3}}
    assert set(desired["$metadata"]) == {"$lastUpdated", "$lastUpdatedVersion", "in"}


def test_a_report_of_a_module_names_the_module(edge: Edge) -> None:
    """Also when it came over its edge device, where no route asks for it."""
    edge.route(up="FROM /messages/* INTO $upstream")
    edge.connect("a").publish("$iothub/twin/PATCH/properties/reported/?$rid=1", b'{"sent":7}')
    properties, system, body = event(edge)
    assert (properties["deviceId"], properties["moduleId"]) == (EDGE, "a")
    assert system["connectionModuleId"] == "a"
    assert body["properties"]["reported"]["sent"] == 7
    assert body["properties"]["reported"]["$version"] == 2


def test_a_replacement_has_the_whole_twin(edge: Edge) -> None:
    """With names, etag, tags and both sections of properties."""
    edge.registry.patch_twin(LEAF, desired={"fps": 5}, replace=True)
    properties, _, body = event(edge)
    assert properties["opType"] == "replaceTwin"
    assert set(body) == {"deviceId", "etag", "version", "tags", "properties"}
    assert body == json.loads(json.dumps(edge.registry.twin(LEAF).for_service(LEAF)))


def test_without_the_option_there_are_none(edge: Edge) -> None:
    """A hub sends them only where they are asked for."""
    edge.registry.on_change.clear()
    edge.registry.patch_twin(LEAF, desired={"fps": 5})
    edge.store.commit()
    assert edge.upstream() == []
