"""`twinship doctor --online` against the simulator: clock, rights and device, and nothing changes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Command
from twinship.fleet import connection
from twinship.fleet.doctor import HubAnswer, ask_hub
from twinship.fleet.service import ServiceHub
from twinship.simulator.launcher import Simulator, SimulatorSettings


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """The service.env of a simulator that runs no modules."""
    settings = SimulatorSettings(
        ROOT / "deployment.template.json",
        tmp_path / "simulator",
        {"MODEL_TRUSTED_KEYS": "0123456789abcdef:AAAA"},
        leave_out=frozenset({"inference", "camera_sim"}),
    )
    with Simulator(settings) as simulator:
        yield simulator.endpoints.service_env


def test_doctor_asks_the_hub_and_changes_nothing(hub: Path, twinship: Command) -> None:
    """A good policy and device have no finding, a wrong key and an unknown device have theirs."""
    found = connection.find({}, hub)
    with ServiceHub(found) as service:
        before = service.module_twin("twinship", "$edgeAgent")
    answer = ask_hub(found, "twinship")
    assert answer.rule == ""
    assert answer.ahead_s is not None
    assert abs(answer.ahead_s) < 60
    with ServiceHub(found) as service:
        assert service.module_twin("twinship", "$edgeAgent").etag == before.etag
    assert ask_hub(found, "nowhere").rule == "TW505"
    assert ask_hub(replace(found, key="d3Jvbmc="), "twinship").rule == "TW503"
    assert ask_hub(replace(found, ca_bundle=None), "twinship").rule == "TW506"
    code, output = twinship.run("doctor", "--online", "--env", str(hub))
    assert (code, output[:12]) == (0, "no findings;"), output
    code, output = twinship.run("doctor", "--online", "--env", str(hub), EDGE_DEVICE_ID="nowhere")
    assert "warning TW505" in output


def test_a_hub_that_has_ended_is_a_finding(tmp_path: Path) -> None:
    """Nothing listens at this address."""
    gone = connection.Connection("127.0.0.1:9", "iothubowner", "c2VjcmV0")
    assert ask_hub(gone, "twinship") == HubAnswer(
        rule="TW501",
        error="127.0.0.1:9 cannot be reached; cure: start the simulator (twinship simulate), which writes "
        "a new service.env",
    )
