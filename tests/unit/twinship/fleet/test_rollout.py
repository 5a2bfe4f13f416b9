"""Automatic deployments: how one takes the place of another; and going back by a direct method."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference import model_section
from tests.unit.twinship.fleet.conftest import packed
from twinship.fleet.keys import SigningKey
from twinship.fleet.methods import Answer
from twinship.fleet.publish import layer, sign
from twinship.fleet.rollback import NotRolledBack, rolled_back
from twinship.fleet.rollout import CannotRollOut, RollOut, Targeting, roll_out
from twinship.fleet.service import Configuration

LAB = Targeting("digits", "tags.site='lab'", 10)


class Hub:
    """Keeps configurations as IoT Hub does; `acts` are what was done to them, in order."""

    def __init__(self) -> None:
        self.kept: dict[str, Configuration] = {}
        self.contents: dict[str, Mapping[str, Any]] = {}
        self.acts: list[str] = []

    def configurations(self) -> tuple[Configuration, ...]:
        return tuple(self.kept.values())

    def create_configuration(self, wanted: Configuration, modules_content: Mapping[str, Any]) -> None:
        assert wanted.id not in self.kept
        self.acts.append(f"create {wanted.id}")
        self.kept[wanted.id] = replace(wanted, etag="e1")
        self.contents[wanted.id] = modules_content

    def update_configuration(self, wanted: Configuration) -> None:
        assert self.kept[wanted.id].etag == wanted.etag
        self.acts.append(f"update {wanted.id}")
        self.kept[wanted.id] = replace(wanted, etag="e2")

    def delete_configuration(self, present: Configuration) -> None:
        assert self.kept[present.id].etag == present.etag
        self.acts.append(f"delete {present.id}")
        del self.kept[present.id]


@pytest.fixture
def hub() -> Hub:
    """With a deployment of somebody else."""
    hub = Hub()
    hub.kept["digits-theirs"] = Configuration("digits-theirs", {}, "*", 5, "e0")
    return hub


def out(hub: Hub, content: Mapping[str, Any], targeting: Targeting = LAB) -> RollOut:
    return roll_out(hub, "hub", targeting, content)


def test_the_new_one_stands_before_the_old_one_goes(hub: Hub) -> None:
    """At no moment does a device lack the layer; what others made is left alone."""
    first, second = out(hub, {"m": {"a": 1}}), out(hub, {"m": {"a": 2}})
    assert hub.acts == [
        f"create {first.configuration}",
        f"create {second.configuration}",
        f"delete {first.configuration}",
    ]
    assert second.replaced == (first.configuration,)
    assert set(hub.kept) == {"digits-theirs", second.configuration}


def test_the_same_again_changes_nothing(hub: Hub) -> None:
    """And another condition or priority changes these only: the content of a configuration cannot change."""
    content = {"m": {"a": 1}}
    id = out(hub, content).configuration
    assert out(hub, content).how == "unchanged"
    assert out(hub, content, replace(LAB, priority=11)).how == "updated"
    assert hub.acts == [f"create {id}", f"update {id}"]
    assert hub.kept[id].priority == 11


def test_what_an_interrupted_command_left_goes_with_the_next(hub: Hub) -> None:
    """It made the new one and did not come to remove the old one."""
    old = out(hub, {"m": {"a": 1}}).configuration
    stays = hub.kept[old]
    out(hub, {"m": {"a": 2}})
    hub.kept[old] = stays
    again = out(hub, {"m": {"a": 2}})
    assert (again.how, again.replaced) == ("unchanged", (old,))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("Digits", "*", 10), "no id of a deployment"),
        (("a/b", "*", 10), "no id of a deployment"),
        (("digits", "", 10), "--target-condition"),
        (("digits", "*", -1), "--priority"),
        (("digits", "*", 2**31), "--priority"),
    ],
)
def test_what_is_no_deployment_is_said_before_any_hub_is_asked(
    wrong: tuple[str, str, int], said: str
) -> None:
    """A condition left out must not mean every device."""
    with pytest.raises(CannotRollOut, match=said):
        Targeting(*wrong)


def test_a_layer_adds_the_model_and_nothing_else(artefact: Path, key: SigningKey) -> None:
    """The key is dotted, so that the module's other sections stay the manifest's."""
    signed = sign(artefact, key)
    content = layer(signed, "inference")
    assert list(content) == ["inference"]
    assert list(content["inference"]) == ["properties.desired.model"]
    assert model_section.parse(content["inference"]["properties.desired.model"]).ref == signed.ref
    assert signed.data == packed()


def test_going_back_says_who_answers_now() -> None:
    """In the module's own words."""
    answer = Answer(200, {"model": {"name": "digits", "version": "1.0.0", "sha256": "aa"}})
    done = rolled_back(answer, "twinship", "inference")
    assert str(done.model) == "digits:1.0.0"


@pytest.mark.parametrize(
    ("status", "payload", "said"),
    [
        (409, {"error": "there is no previous model to go back to"}, "409: there is no previous model"),
        (404, None, "404: no reason given"),
        (200, "yes", "no reason given"),
        (200, {"model": {"name": ""}}, "no reason given"),
    ],
)
def test_a_module_that_does_not_go_back(status: int, payload: object, said: str) -> None:
    """Whatever it answers, nobody is told that it did."""
    with pytest.raises(NotRolledBack, match=said):
        rolled_back(Answer(status, payload), "twinship", "inference")
