"""Automatic deployments: how one replaces another; and the rollback by a direct method."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference import model_section
from tests.unit.twinship.fleet.conftest import packed
from twinship.fleet.keys import SigningKey
from twinship.fleet.methods import Answer
from twinship.fleet.rollback import RollbackFailed, rollback_result
from twinship.fleet.rollout import InvalidDeployment, RollOut, Targeting, roll_out
from twinship.fleet.service import Configuration
from twinship.fleet.signed_artefact import layer, sign

LAB = Targeting("digits", "tags.site='lab'", 10)


class Hub:
    """Stores configurations as IoT Hub does; `calls` are the changes in order."""

    def __init__(self) -> None:
        self.stored: dict[str, Configuration] = {}
        self.contents: dict[str, Mapping[str, Any]] = {}
        self.calls: list[str] = []

    def configurations(self) -> tuple[Configuration, ...]:
        return tuple(self.stored.values())

    def create_configuration(self, configuration: Configuration, modules_content: Mapping[str, Any]) -> None:
        assert configuration.id not in self.stored
        self.calls.append(f"create {configuration.id}")
        self.stored[configuration.id] = replace(configuration, etag="e1")
        self.contents[configuration.id] = modules_content

    def update_configuration(self, configuration: Configuration) -> None:
        assert self.stored[configuration.id].etag == configuration.etag
        self.calls.append(f"update {configuration.id}")
        self.stored[configuration.id] = replace(configuration, etag="e2")

    def delete_configuration(self, present: Configuration) -> None:
        assert self.stored[present.id].etag == present.etag
        self.calls.append(f"delete {present.id}")
        del self.stored[present.id]


@pytest.fixture
def hub() -> Hub:
    """A hub with a deployment of somebody else."""
    hub = Hub()
    hub.stored["digits-theirs"] = Configuration("digits-theirs", {}, "*", 5, "e0")
    return hub


def out(hub: Hub, content: Mapping[str, Any], targeting: Targeting = LAB) -> RollOut:
    return roll_out(hub, "hub", targeting, content)


def test_the_new_configuration_is_created_before_the_old_one_is_deleted(hub: Hub) -> None:
    """A device is never without the layer; configurations of others stay."""
    first, second = out(hub, {"m": {"a": 1}}), out(hub, {"m": {"a": 2}})
    assert hub.calls == [
        f"create {first.configuration}",
        f"create {second.configuration}",
        f"delete {first.configuration}",
    ]
    assert second.replaced == (first.configuration,)
    assert set(hub.stored) == {"digits-theirs", second.configuration}


def test_the_same_content_again_changes_nothing(hub: Hub) -> None:
    """Another condition or priority updates the configuration without creating a new one."""
    content = {"m": {"a": 1}}
    id = out(hub, content).configuration
    assert out(hub, content).how == "unchanged"
    assert out(hub, content, replace(LAB, priority=11)).how == "updated"
    assert hub.calls == [f"create {id}", f"update {id}"]
    assert hub.stored[id].priority == 11


def test_the_next_command_deletes_what_an_interrupted_one_left(hub: Hub) -> None:
    """The interrupted command created the new configuration and did not delete the old one."""
    old = out(hub, {"m": {"a": 1}}).configuration
    stays = hub.stored[old]
    out(hub, {"m": {"a": 2}})
    hub.stored[old] = stays
    again = out(hub, {"m": {"a": 2}})
    assert (again.how, again.replaced) == ("unchanged", (old,))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("Digits", "*", 10), "cannot be the id of a deployment"),
        (("a/b", "*", 10), "cannot be the id of a deployment"),
        (("digits", "", 10), "--target-condition"),
        (("digits", "*", -1), "--priority"),
        (("digits", "*", 2**31), "--priority"),
    ],
)
def test_invalid_options_of_a_deployment_are_refused(arguments: tuple[str, str, int], expected: str) -> None:
    """A missing condition must not mean all devices."""
    with pytest.raises(InvalidDeployment, match=expected):
        Targeting(*arguments)


def test_a_layer_adds_only_the_model(artefact: Path, key: SigningKey) -> None:
    """The key is dotted, so the other sections of the module come from the manifest."""
    signed = sign(artefact, key)
    content = layer(signed, "inference")
    assert list(content) == ["inference"]
    assert list(content["inference"]) == ["properties.desired.model"]
    assert model_section.parse(content["inference"]["properties.desired.model"]).ref == signed.ref
    assert signed.data == packed()


def test_the_result_of_a_rollback_is_the_model_that_runs_now() -> None:
    """The module's answer names it."""
    model = {"name": "digits", "version": "1.0.0", "sha256": "aa"}
    done = rollback_result(Answer(200, {"model": model, "answered": True}), "twinship", "inference")
    assert (str(done.model), done.not_seen) == ("digits:1.0.0", "")
    assert done.to_json()["answered"] is True


@pytest.mark.parametrize(
    ("answer", "not_seen"),
    [
        ({"answered": False, "notSeen": "no frame came within 2 s"}, "no frame came within 2 s"),
        ({"answered": "yes", "notSeen": "a\nb"}, "a b"),
        ({}, "does not say whether it answers frames"),  # a module of an earlier version
    ],
)
def test_a_rollback_without_an_answered_frame_says_what_was_not_seen(
    answer: dict[str, object], not_seen: str
) -> None:
    """That the module answered the method is no success yet."""
    model = {"name": "digits", "version": "1.0.0", "sha256": "aa"}
    done = rollback_result(Answer(200, {"model": model, **answer}), "twinship", "inference")
    assert not_seen in done.not_seen
    assert done.to_json()["answered"] is False


@pytest.mark.parametrize(
    ("status", "payload", "expected"),
    [
        (409, {"error": "there is no previous model to go back to"}, "409: there is no previous model"),
        (404, None, "404: no reason given"),
        (200, "yes", "no reason given"),
        (200, {"model": {"name": ""}}, "no reason given"),
    ],
)
def test_a_module_that_does_not_roll_back(status: int, payload: object, expected: str) -> None:
    """An error status and a malformed answer are both errors."""
    with pytest.raises(RollbackFailed, match=expected):
        rollback_result(Answer(status, payload), "twinship", "inference")
