"""What is read from twins, whatever devices write into them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import model_section
from inference.model_section import ModelRef, ModelState
from inference.models.errors import CODES
from inference.models.status import HistoryEntry, Reason
from inference.models.status import Status as DeviceStatus
from tests.unit.twinship.fleet.conftest import FakeHub
from twinship.fleet.service import HubUnavailable, ModuleTwin
from twinship.fleet.status import COLUMNS, ModelStatus, Status, changes, read_status

REF = ModelRef("digits", "1.0.0", 10, "aa" * 32)
NEW = ModelRef("digits", "1.1.0", 10, "bb" * 32)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["state", "history", "0"]), inner)
    ),
    max_leaves=6,
)


def refused() -> dict[str, Any]:
    """What the inference module reports when it refused a model: its own code says it."""
    device = DeviceStatus(
        ModelState.REFUSED,
        desired_version=4,
        active=REF,
        candidate=NEW.reported(),
        error=Reason("wrong-digest", "digits:1.1.0: sha256 is cc, not bb"),
        history=(
            HistoryEntry(ModelState.CHECKING, "2026-11-23T06:30:00Z", "digits", "1.1.0"),
            HistoryEntry(ModelState.REFUSED, "2026-11-23T06:30:01Z", "digits", "1.1.0", "wrong-digest"),
        ),
    )
    assert "wrong-digest" in CODES
    return device.reported()


@pytest.fixture
def hub() -> FakeHub:
    """A device that runs digits:1.0.0 and refused digits:1.1.0."""
    hub = FakeHub(
        __edgeAgent={},
        __edgeHub={},
        camera_sim={"camera": {}},
        inference={"model": model_section.section_for(NEW, b"x")},
    )
    hub.change("inference", {**hub.twins["inference"].desired})
    hub.change("inference", {**hub.twins["inference"].desired})
    hub.change("inference", {**hub.twins["inference"].desired})
    hub.answer("inference", **refused(), telemetry={"ac": 200, "av": 4, "ad": "", "value": {}})
    hub.answer("camera_sim", camera={"ac": 400, "av": 1, "ad": "fps: too many", "value": {}}, cameraStatus={})
    hub.answer(
        "__edgeAgent",
        lastDesiredStatus={"code": 200, "description": ""},
        modules={"inference": {"runtimeStatus": "backoff", "restartCount": 3}, "camera_sim": "rubbish"},
    )
    return hub


def test_a_device_in_one_table(hub: FakeHub) -> None:
    """A row for each module of ours: what runs, what is wanted, and why not."""
    found = read_status(hub, "hub", "twinship")
    error = "wrong-digest: digits:1.1.0: sha256 is cc, not bb"
    assert found.rows() == (
        ("camera_sim", "Connected", "", "", "", "", "camera: fps: too many"),
        ("inference", "Connected", "backoff (3 restarts)", "digits:1.0.0", "digits:1.1.0", "refused", error),
    )
    assert all(len(row) == len(COLUMNS) for row in found.rows())
    assert found.connection_state == "Connected"


def test_the_deployment_is_answered_by_the_system_modules(hub: FakeHub) -> None:
    """edgeAgent and edgeHub say whether they took the manifest; one that has not said anything is None."""
    configurations = read_status(hub, "hub", "twinship").configurations
    assert [(each.module, each.code) for each in configurations] == [("$edgeAgent", 200), ("$edgeHub", None)]


def test_the_model_in_full(hub: FakeHub) -> None:
    """The device's own words reach the operator: candidate, error and history."""
    model = ModelStatus.read(hub.twins["inference"])
    assert model.candidate is not None
    assert (str(model.candidate), str(model.active), model.previous) == ("digits:1.1.0", "digits:1.0.0", None)
    assert model.answered
    assert [(entry["state"], entry.get("code")) for entry in model.history] == [
        ("checking", None),
        ("refused", "wrong-digest"),
    ]


def test_a_wish_that_the_device_has_not_seen_is_marked(hub: FakeHub) -> None:
    """An old answer stands beside a new wish until the device reports: the table says so."""
    hub.change("inference", hub.twins["inference"].desired)
    assert read_status(hub, "hub", "twinship").rows()[1][4] == "digits:1.1.0 (not seen yet)"


def test_an_accelerator_that_is_not_used_is_told(hub: FakeHub) -> None:
    """The CPU answers, and the device says why."""
    status = {"state": "active", "engine": {"runtime": "litert", "whyNotDelegate": "libx.so: not found"}}
    hub.answer("inference", modelStatus=status)
    row = read_status(hub, "hub", "twinship").rows()[1]
    assert row[5] == "active (on the CPU: libx.so: not found)"


def test_all_of_it_as_json(hub: FakeHub) -> None:
    """--json loses nothing that the table shows."""
    found = read_status(hub, "hub", "twinship").to_json()
    assert json.loads(json.dumps(found))["modules"][1]["model"]["error"]["code"] == "wrong-digest"


def test_a_device_without_modules() -> None:
    """A device that was never deployed has no rows, and that is no error."""
    assert read_status(FakeHub(), "hub", "twinship") == Status("hub", "twinship", "", (), ())


def test_a_module_that_vanishes_between_two_questions_is_left_out(hub: FakeHub) -> None:
    """A deployment may remove a module while somebody watches."""
    del hub.twins["camera_sim"]
    names = (*hub.modules("twinship"), "camera_sim")
    hub.modules = lambda device: names  # type: ignore[method-assign]
    assert [module.name for module in read_status(hub, "hub", "twinship").modules] == ["inference"]


@given(json_values, json_values)
def test_no_reported_value_is_too_strange(model: Any, status: Any) -> None:
    """A module may report anything: reading it never fails and always fits the table."""
    twin = ModuleTwin(
        "d", "m", "e", "", {"model": model}, {"model": model, "modelStatus": status, "x": model}
    )
    hub = FakeHub()
    hub.twins["m"] = twin
    row = read_status(hub, "hub", "d").rows()[0]
    assert all(isinstance(cell, str) for cell in row)


def test_watching_tells_changes_only_and_outlives_a_hub_that_is_away(hub: FakeHub) -> None:
    """The same status is told once; trouble of the moment is told and asked again."""
    looks: list[Status | HubUnavailable] = [
        read_status(hub, "hub", "twinship"),
        read_status(hub, "hub", "twinship"),
        HubUnavailable("hub does not answer"),
        read_status(hub, "hub", "another"),
    ]
    away: list[str] = []
    pauses: list[None] = []

    def look() -> Status:
        found = looks.pop(0)
        if isinstance(found, HubUnavailable):
            raise found
        return found

    told = changes(look, pause=lambda: pauses.append(None), away=lambda error: away.append(str(error)))
    assert [next(told).device, next(told).device] == ["twinship", "another"]
    assert away == ["hub does not answer"]
    assert len(pauses) == 3


def test_watching_a_hub_that_was_never_there(hub: FakeHub) -> None:
    """The first look fails as `status` does."""

    def look() -> Status:
        raise HubUnavailable("hub has no address")

    with pytest.raises(HubUnavailable, match="no address"):
        next(changes(look, pause=lambda: None, away=lambda error: None))
