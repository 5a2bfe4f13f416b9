"""Direct methods with the real service SDK, the simulator's hub and a real module."""

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
    """A hub process."""
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("called", "silent", "away")
        yield running


@pytest.fixture(scope="module")
def hub(simulated: HubUnderTest) -> Iterator[ServiceHub]:
    """The service API of the hub."""
    with ServiceHub(connection.find({}, Path(simulated.folder / "service.env"))) as service:
        yield service


@pytest.fixture(scope="module")
def module(simulated: HubUnderTest) -> Iterator[SdkModule]:
    """A module that answers every method with 207, the method's name and its payload."""
    with simulated.module("called") as running:
        running.call("listen", kind="method")
        yield running


def test_the_status_and_the_payload_of_the_module_are_returned(hub: ServiceHub, module: SdkModule) -> None:
    """Any status of the module is an answer and not an error; a missing payload is sent as {}."""
    assert invoke(hub, DEVICE, "called", "echo", {"a": [1]}) == Answer(
        207, {"name": "echo", "got": {"a": [1]}}
    )
    assert invoke(hub, DEVICE, "called", "echo").payload["got"] == {}
    assert accepted(Answer(207, 5), "called", "echo") == 5


def test_an_error_status_is_one_line_with_the_reason() -> None:
    """Our modules report the reason in `error`."""
    with pytest.raises(MethodFailed, match="inference answers rollback with 409: there is no previous"):
        accepted(Answer(409, {"error": "there is no previous model"}), "inference", "rollback")
    with pytest.raises(MethodFailed, match="with 500: no reason given"):
        accepted(Answer(500, "boom"), "inference", "rollback")


def test_an_offline_module_and_a_missing_module_are_different_errors(hub: ServiceHub) -> None:
    """A retry may succeed only for the offline module."""
    with pytest.raises(HubUnavailable, match=f"{DEVICE}/away is not connected"):
        invoke(hub, DEVICE, "away", "echo")
    with pytest.raises(NotFound, match=f"{DEVICE}/nobody"):
        invoke(hub, DEVICE, "nobody", "echo")


def test_a_module_that_does_not_answer(hub: ServiceHub, simulated: HubUnderTest) -> None:
    """After the time-out, the error names the method and the time."""
    with simulated.module("silent") as running:
        running.call("listen", kind="method")
        running.call("answer_methods", silent=True)
        with pytest.raises(HubUnavailable, match=f"{DEVICE}/silent did not answer echo in 5 s"):
            invoke(hub, DEVICE, "silent", "echo", timeout_s=1)
