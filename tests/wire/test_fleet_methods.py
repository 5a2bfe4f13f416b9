"""Direct methods as an operator calls them: the real service SDK, the simulator's hub, a real module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import DEVICE, HubUnderTest, running_hub
from tests.wire.sdk_module import SdkModule
from twinship.fleet import connection
from twinship.fleet.methods import Answer, MethodFailed, accepted, invoke
from twinship.fleet.service import HubUnavailable, NotFound, ServiceHub

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    """One hub process."""
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("called", "silent", "away")
        yield running


@pytest.fixture(scope="module")
def hub(simulated: HubUnderTest) -> Iterator[ServiceHub]:
    """The operator's side of it."""
    with ServiceHub(connection.find({}, Path(simulated.folder / "service.env"))) as service:
        yield service


@pytest.fixture(scope="module")
def module(simulated: HubUnderTest) -> Iterator[SdkModule]:
    """A module that answers every method with 207, its name and what it got."""
    with simulated.module("called") as running:
        running.call("listen", kind="method")
        yield running


def test_the_modules_own_status_and_words_come_back(hub: ServiceHub, module: SdkModule) -> None:
    """Whatever status it chooses is an answer, and no error of the hub's; no payload arrives as {}."""
    assert invoke(hub, DEVICE, "called", "echo", {"a": [1]}) == Answer(
        207, {"name": "echo", "got": {"a": [1]}}
    )
    assert invoke(hub, DEVICE, "called", "echo").payload["got"] == {}
    assert accepted(Answer(207, 5), "called", "echo") == 5


def test_a_modules_refusal_is_one_line_with_its_reason() -> None:
    """`error` is where our modules say why."""
    with pytest.raises(MethodFailed, match="inference answers rollback with 409: there is no previous"):
        accepted(Answer(409, {"error": "there is no previous model"}), "inference", "rollback")
    with pytest.raises(MethodFailed, match="with 500: no reason given"):
        accepted(Answer(500, "boom"), "inference", "rollback")


def test_a_module_that_is_away_and_one_that_is_not_there(hub: ServiceHub) -> None:
    """One may come back; the other's name is wrong."""
    with pytest.raises(HubUnavailable, match=f"{DEVICE}/away is not connected"):
        invoke(hub, DEVICE, "away", "echo")
    with pytest.raises(NotFound, match=f"{DEVICE}/nobody"):
        invoke(hub, DEVICE, "nobody", "echo")


def test_a_module_that_does_not_answer(hub: ServiceHub, simulated: HubUnderTest) -> None:
    """After the time that it was given, the line says which method and how long."""
    with simulated.module("silent") as running:
        running.call("listen", kind="method")
        running.call("answer_methods", silent=True)
        with pytest.raises(HubUnavailable, match=f"{DEVICE}/silent did not answer echo in 5 s"):
            invoke(hub, DEVICE, "silent", "echo", timeout_s=1)
