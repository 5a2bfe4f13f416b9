"""The status of a device, read from twins with any content."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import model_section
from inference.model_section import ModelRef, ModelState
from inference.models.errors import CODES, Reason
from inference.models.status import DesiredModel, HistoryEntry, LoadedModel, State
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
    """The reported properties of the inference module after a refusal, made by the module's own code."""
    device = State(
        ModelState.REFUSED,
        desired=DesiredModel({}, version=4, digest=""),
        serving=LoadedModel(REF),
        rejected=NEW.reported(),
        reason=Reason("wrong-digest", "digits:1.1.0: sha256 is cc, not bb"),
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
        modules={"inference": {"runtimeStatus": "backoff", "restartCount": 3}, "camera_sim": "not an object"},
    )
    return hub


def test_a_device_in_one_table(hub: FakeHub) -> None:
    """Each of our modules has a row with the active model, the desired model and the error."""
    found = read_status(hub, "hub", "twinship")
    error = "wrong-digest: digits:1.1.0: sha256 is cc, not bb"
    assert found.rows() == (
        ("camera_sim", "Connected", "", "", "", "", "camera: fps: too many"),
        ("inference", "Connected", "backoff (3 restarts)", "digits:1.0.0", "digits:1.1.0", "refused", error),
    )
    assert all(len(row) == len(COLUMNS) for row in found.rows())
    assert found.connection_state == "Connected"


@pytest.mark.parametrize(
    ("connection_state", "shown"), [("Connected", "started by somebody else"), ("Disconnected", "stopped")]
)
def test_a_connected_module_that_edge_agent_did_not_start_is_named(
    hub: FakeHub, connection_state: str, shown: str
) -> None:
    """`twinship simulate --except` leaves a module to its user; edgeAgent reports it as stopped."""
    hub.answer("__edgeAgent", modules={"camera_sim": {"runtimeStatus": "stopped"}})
    hub.twins["camera_sim"] = replace(hub.twins["camera_sim"], connection_state=connection_state)
    assert read_status(hub, "hub", "twinship").rows()[0][:3] == ("camera_sim", connection_state, shown)


def test_the_system_modules_report_on_the_deployment(hub: FakeHub) -> None:
    """The code of edgeAgent and edgeHub is None until they report."""
    configurations = read_status(hub, "hub", "twinship").configurations
    assert [(each.module, each.code) for each in configurations] == [("$edgeAgent", 200), ("$edgeHub", None)]


def test_the_complete_model_status(hub: FakeHub) -> None:
    """Candidate, active model, error and history come from the device."""
    model = ModelStatus.read(hub.twins["inference"])
    assert model.candidate is not None
    assert (str(model.candidate), str(model.active), model.previous) == ("digits:1.1.0", "digits:1.0.0", None)
    assert model.answered
    assert [(entry["state"], entry.get("code")) for entry in model.history] == [
        ("checking", None),
        ("refused", "wrong-digest"),
    ]


def test_a_section_without_a_report_is_marked(hub: FakeHub) -> None:
    """Until the device reports on the new section, the table shows `not seen yet`."""
    hub.change("inference", hub.twins["inference"].desired)
    assert read_status(hub, "hub", "twinship").rows()[1][4] == "digits:1.1.0 (not seen yet)"


def test_an_accelerator_that_is_not_used_is_shown(hub: FakeHub) -> None:
    """The state shows that the CPU runs the model, and why."""
    status = {"state": "active", "engine": {"runtime": "litert", "whyNotDelegate": "libx.so: not found"}}
    hub.answer("inference", modelStatus=status)
    row = read_status(hub, "hub", "twinship").rows()[1]
    assert row[5] == "active (on the CPU: libx.so: not found)"


def test_the_status_as_json(hub: FakeHub) -> None:
    """`--json` has everything that the table shows."""
    found = read_status(hub, "hub", "twinship").to_json()
    assert json.loads(json.dumps(found))["modules"][1]["model"]["error"]["code"] == "wrong-digest"


def test_a_device_without_modules() -> None:
    """A device without a deployment has no rows; that is no error."""
    assert read_status(FakeHub(), "hub", "twinship") == Status("hub", "twinship", "", (), ())


def test_a_module_deleted_between_two_requests_is_left_out(hub: FakeHub) -> None:
    """A deployment may delete a module while the status is read."""
    del hub.twins["camera_sim"]
    names = (*hub.modules("twinship"), "camera_sim")
    hub.modules = lambda device: names  # type: ignore[method-assign]
    assert [module.name for module in read_status(hub, "hub", "twinship").modules] == ["inference"]


@given(json_values, json_values)
def test_any_reported_value_can_be_read(model: Any, status: Any) -> None:
    """Reading never fails, and each cell is a string."""
    twin = ModuleTwin(
        "d", "m", "e", "", {"model": model}, {"model": model, "modelStatus": status, "x": model}
    )
    hub = FakeHub()
    hub.twins["m"] = twin
    row = read_status(hub, "hub", "d").rows()[0]
    assert all(isinstance(cell, str) for cell in row)


def test_watching_yields_changes_only_and_continues_if_the_hub_is_unavailable(hub: FakeHub) -> None:
    """An unchanged status is yielded once; an unavailable hub is reported and asked again."""
    results: list[Status | HubUnavailable] = [
        read_status(hub, "hub", "twinship"),
        read_status(hub, "hub", "twinship"),
        HubUnavailable("hub does not answer"),
        read_status(hub, "hub", "another"),
    ]
    unavailable: list[str] = []
    pauses: list[None] = []

    def read() -> Status:
        result = results.pop(0)
        if isinstance(result, HubUnavailable):
            raise result
        return result

    found = changes(
        read,
        pause=lambda: pauses.append(None),
        on_unavailable=lambda error: unavailable.append(str(error)),
    )
    assert [next(found).device, next(found).device] == ["twinship", "another"]
    assert unavailable == ["hub does not answer"]
    assert len(pauses) == 3


def test_watching_fails_if_the_first_read_fails(hub: FakeHub) -> None:
    """The error is that of `status`."""

    def read() -> Status:
        raise HubUnavailable("hub has no address")

    with pytest.raises(HubUnavailable, match="no address"):
        next(changes(read, pause=lambda: None, on_unavailable=lambda error: None))
