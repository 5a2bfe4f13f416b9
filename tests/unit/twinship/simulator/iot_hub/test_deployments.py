"""Automatic deployments: targets, ranks, layers, and when they are applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twinship.simulator.common.tokens import ExpressionError
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.configuration import ConfigurationInvalid, merged
from twinship.simulator.iot_hub.deployments import (
    ConfigurationExists,
    Deployments,
    NoConfiguration,
)
from twinship.simulator.iot_hub.identity_document import ArgumentInvalid, Unsupported
from twinship.simulator.iot_hub.registry import EDGE_AGENT, EDGE_HUB, PreconditionFailed, Registry
from twinship.simulator.store import Store

EDGE = Identity("edge")
AGENT = Identity("edge", EDGE_AGENT)


class World:
    """A registry with one edge device and its deployments; run_turns() is the event loop."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 1000.0
        self.turns: list[Callable[[], None]] = []
        self.registry = Registry(store, "127.0.0.1", lambda: self.now)
        self.deployments = Deployments(self.registry, self.turns.append)

    def run_turns(self) -> None:
        while self.turns:
            self.turns.pop(0)()

    def create(self, id: str, content: dict[str, Any], condition: str = "*", priority: int = 0) -> None:
        self.now += 1
        body = {
            "content": {"modulesContent": content},
            "targetCondition": condition,
            "priority": priority,
        }
        self.deployments.create(id, body)
        self.run_turns()

    def tag(self, **tags: object) -> None:
        self.registry.patch_twin(EDGE, tags=tags)
        self.run_turns()

    def modules(self) -> list[str]:
        return sorted(self.registry.twin(AGENT).desired.get("modules", {}))

    def statuses(self) -> dict[str, str]:
        return {id: each["status"] for id, each in self.deployments.statuses(EDGE).items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store(tmp_path / "hub.sqlite")
    made = World(store)
    made.registry.create(EDGE, {"capabilities": {"iotEdge": True}})
    made.registry.create(Identity("leaf"))
    yield made
    asyncio.run(store.close())


def base(*modules: str, **twins: dict[str, Any]) -> dict[str, Any]:
    """The content of a base deployment with these modules."""
    return {
        "$edgeAgent": {"properties.desired": {"modules": {name: module(name) for name in modules}}},
        "$edgeHub": {
            "properties.desired": {"schemaVersion": "1.1", "routes": {"r": "FROM /* INTO $upstream"}}
        },
        **{name: {"properties.desired": twin} for name, twin in twins.items()},
    }


def layer(*modules: str, **entries: dict[str, Any]) -> dict[str, Any]:
    """The content of a layered deployment that adds these modules."""
    added = {f"properties.desired.modules.{name}": module(name) for name in modules}
    return {"$edgeAgent": added, **entries} if added else entries


def module(name: str) -> dict[str, Any]:
    return {"settings": {"image": name}}


def test_the_device_follows_its_tags(world: World) -> None:
    """It gets a configuration when the condition becomes true, else the next one in rank."""
    world.create("everyone", base("a"))
    world.create("west", base("b"), "tags.side = 'west'", priority=5)
    assert (world.modules(), world.statuses()) == (["a"], {"everyone": "Applied"})
    world.tag(side="west")
    assert world.modules() == ["b"]
    assert world.statuses() == {"everyone": "Targeted", "west": "Applied"}
    assert world.deployments.statuses(AGENT) == world.deployments.statuses(EDGE)
    assert world.deployments.statuses(Identity("edge", EDGE_HUB)) == {}
    assert world.deployments.statuses(Identity("leaf")) == {}
    world.tag(side=None)
    assert (world.modules(), world.statuses()) == (["a"], {"everyone": "Applied"})


def test_the_higher_priority_wins_then_the_newest(world: World) -> None:
    """Priority counts first, then creation time; a change of priority applies at once."""
    world.create("first", base("a"), priority=1)
    world.create("second", base("b"), priority=1)
    assert world.modules() == ["b"]
    world.create("low", base("c"), priority=0)
    assert world.modules() == ["b"]
    raised = {"targetCondition": "*", "priority": 9}
    world.deployments.update("low", raised, if_match="*")
    world.run_turns()
    assert world.modules() == ["c"]


def test_layers_are_added_to_their_base(world: World) -> None:
    """In the order of their rank; a layer below the base, or without a base, is not applied."""
    world.create("under", layer("u"), priority=1)
    assert (world.modules(), world.statuses()) == ([], {"under": "Targeted"})
    world.create("base", base("a", a={"x": {"y": 1, "z": 1}}), priority=2)
    world.create("over", layer("b", a={"properties.desired.x.y": 2}), priority=3)
    world.create(
        "top", layer(a={"properties.desired.x.y": 3}, b={"properties.desired": {"n": 1}}), priority=4
    )
    assert world.modules() == ["a", "b"]
    assert world.registry.twin(Identity("edge", "a")).desired == {"x": {"y": 3, "z": 1}}
    assert world.registry.twin(Identity("edge", "b")).desired == {"n": 1}
    applied = {"base": "Applied", "over": "Applied", "top": "Applied"}
    assert world.statuses() == {"under": "Targeted", **applied}
    world.deployments.delete("top", if_match=None)
    world.deployments.delete("over", if_match=None)
    world.run_turns()
    assert (world.modules(), world.registry.twin(Identity("edge", "a")).desired["x"]["y"]) == (["a"], 1)


def test_the_same_configurations_are_not_applied_again(world: World) -> None:
    """Labels, other tags, reports and a restart do not change the twins."""
    world.create("base", base("a"))
    version = world.registry.twin(AGENT).desired_version
    world.deployments.update("base", {"targetCondition": "*", "labels": {"l": "1"}}, if_match="*")
    world.tag(other=1)
    again = World(world.store)
    again.run_turns()
    assert again.registry.twin(AGENT).desired_version == version
    assert again.statuses() == {"base": "Applied"}


def test_modules_stay_without_a_configuration(world: World) -> None:
    """A device whose last configuration is deleted or stops targeting it keeps its twins, as on IoT Hub."""
    world.create("base", base("a"))
    assert world.deployments.governs("edge")
    world.deployments.delete("base", if_match=None)
    world.run_turns()
    assert (world.modules(), world.statuses(), world.deployments.governs("edge")) == (["a"], {}, False)


def test_a_new_edge_device_gets_its_configuration(world: World) -> None:
    """Also a device that becomes an edge device later."""
    world.create("base", base("a"))
    world.registry.update(Identity("leaf"), {"capabilities": {"iotEdge": True}})
    world.run_turns()
    assert "a" in world.registry.twin(Identity("leaf", EDGE_AGENT)).desired["modules"]


def test_a_configuration_that_cannot_be_applied_stays_targeted(world: World) -> None:
    """A twin of an unknown module makes it impossible to apply, and nothing changes."""
    world.create("base", base("a"))
    world.create("strange", layer(ghost={"properties.desired.x": 1}), priority=1)
    assert (world.modules(), world.statuses()) == (["a"], {"base": "Applied", "strange": "Targeted"})


def test_the_same_id_may_be_another_configuration(world: World) -> None:
    """Deleted and created again under the same id, its new content is applied."""
    world.create("base", base("a"))
    world.deployments.delete("base", if_match=None)
    world.create("base", base("b"))
    assert world.modules() == ["b"]


@pytest.mark.parametrize(
    ("id", "change", "error", "message"),
    [
        ("Upper", {}, ArgumentInvalid, "lower-case"),
        ("x", {"content": None}, ArgumentInvalid, "no 'content'"),
        ("x", {"content": {}}, ArgumentInvalid, "no 'modulesContent'"),
        ("x", {"content": {"deviceContent": {"a": 1}}}, Unsupported, "deviceContent"),
        ("x", {"priority": -1}, ArgumentInvalid, "priority"),
        ("x", {"priority": True}, ArgumentInvalid, "priority"),
        ("x", {"labels": {"a": 1}}, ArgumentInvalid, "labels"),
        ("x", {"targetCondition": 5}, ArgumentInvalid, "targetCondition"),
        ("x", {"targetCondition": "tag.x = 1"}, ExpressionError, "column 1: a twin has no 'tag'"),
        ("x", {"metrics": {"queries": {"m": "SELECT"}}}, ExpressionError, "column 7"),
        ("x", {"content": {"modulesContent": {"a": {"x": 1}}}}, ConfigurationInvalid, "'x' of 'a'"),
        ("x", {"content": {"modulesContent": {"a": []}}}, ConfigurationInvalid, "must be an object"),
        (
            "x",
            {"content": {"modulesContent": {"$edgeHub": {"properties.desired": {}}}}},
            ConfigurationInvalid,
            "all of '$edgeHub'",
        ),
        (
            "x",
            {
                "content": {
                    "modulesContent": base("a") | {"$edgeAgent": {"properties.desired": {"modules": 5}}}
                }
            },
            ConfigurationInvalid,
            "'modules'",
        ),
    ],
)
def test_a_bad_configuration_is_refused(
    world: World, id: str, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """With its reason, before anything is stored."""
    body = {"content": {"modulesContent": base("a")}, "targetCondition": "*", **change}
    with pytest.raises(error, match=message.replace("$", r"\$")):
        world.deployments.create(id, body)
    assert world.deployments.all() == []


def test_a_configuration_needs_its_etag_and_keeps_its_content(world: World) -> None:
    """A second create, a stale etag, another content and an unknown id are refused."""
    world.create("base", base("a"))
    first = world.deployments.get("base")
    with pytest.raises(ConfigurationExists):
        world.deployments.create("base", {"content": {"modulesContent": base("a")}})
    with pytest.raises(ArgumentInvalid, match="cannot change"):
        world.deployments.update("base", {"content": {"modulesContent": base("b")}}, if_match="*")
    same = {"content": {"modulesContent": base("a")}, "priority": 3}
    assert world.deployments.update("base", same, if_match=first.etag).etag != first.etag
    for call in (
        lambda: world.deployments.update("base", {}, if_match=first.etag),
        lambda: world.deployments.delete("base", if_match=first.etag),
    ):
        with pytest.raises(PreconditionFailed):
            call()
    with pytest.raises(NoConfiguration):
        world.deployments.delete("other", if_match=None)


def test_merging_does_not_change_its_sources() -> None:
    """A dotted key sets a value below it, null removes it; the sources stay as they are."""
    below = base("a", a={"x": {"y": 1}, "z": 2})
    over = layer(a={"properties.desired.x.y.deep": 1, "properties.desired.z": None})
    assert merged([below, over])["a"] == {"properties.desired": {"x": {"y": {"deep": 1}}}}
    assert below == base("a", a={"x": {"y": 1}, "z": 2})
