"""Deploy, publish and status: the real service SDK, the simulator's hub process, a real inference module."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference import model_section
from tests.unit.twinship.fleet.conftest import packed
from twinship.fleet import connection, keys
from twinship.fleet.connection import Connection, NotConfigured
from twinship.fleet.deploy import deploy
from twinship.fleet.publish import PENDING, WaitOptions, publish, publish_to
from twinship.fleet.rollout import Targeting, roll_out
from twinship.fleet.service import (
    HubRefused,
    HubUnavailable,
    ModuleTwin,
    NotFound,
    PreconditionFailed,
    ServiceHub,
)
from twinship.fleet.signed_artefact import CannotPublish, sign
from twinship.fleet.status import status
from twinship.simulator.launcher import Simulator, SimulatorSettings

TEMPLATE = Path(__file__).parents[3] / "deployment.template.json"
DEVICE, MODULE = "twinship", "inference"
VERDICT_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the simulator and the keys."""
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def trusted(folder: Path) -> keys.SigningKey:
    """The key that the device trusts."""
    keys.new(folder / "keys")
    return keys.signing_key(folder / "keys")


@pytest.fixture(scope="module")
def simulator(folder: Path, trusted: keys.SigningKey) -> Iterator[Simulator]:
    """A hub process with the manifest of the repository; no module runs."""
    environment = {"MODEL_TRUSTED_KEYS": keys.trusted_keys_text(folder / "keys")}
    settings = SimulatorSettings(
        TEMPLATE, folder / "simulator", environment, leave_out=frozenset({"camera_sim"})
    )
    with Simulator(settings) as running:
        yield running


@pytest.fixture(scope="module")
def hub(simulator: Simulator) -> Connection:
    """The connection of the simulator's service.env."""
    return connection.find({}, simulator.endpoints.service_env)


@pytest.fixture(autouse=True)
def clean(hub: Connection) -> None:
    """Every test begins with the sections of the manifest."""
    with ServiceHub(hub) as service:
        service.patch_desired(DEVICE, MODULE, {"model": None, "notes": None}, "*")


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """A valid artefact with a flatbuffer that no runtime loads."""
    path = tmp_path / "model.tflite"
    path.write_bytes(packed())
    return path


class OutdatedHub:
    """A hub whose first answer is an old twin."""

    def __init__(self, hub: ServiceHub, old: ModuleTwin) -> None:
        self._hub = hub
        self._old = [old]

    def module_twin(self, device: str, module: str) -> ModuleTwin:
        return self._old.pop() if self._old else self._hub.module_twin(device, module)

    def patch_desired(self, device: str, module: str, patch: Mapping[str, Any], etag: str) -> ModuleTwin:
        return self._hub.patch_desired(device, module, patch, etag)


def desired(hub: Connection) -> dict[str, object]:
    """The inference module's desired properties."""
    with ServiceHub(hub) as service:
        return dict(service.module_twin(DEVICE, MODULE).desired)


def test_the_simulators_file_is_sufficient(hub: Connection) -> None:
    """It has the connection string and the CA; every module of the manifest exists."""
    assert hub.loopback
    found = status(hub, DEVICE)
    assert {"camera_sim", "inference"} <= {module.name for module in found.modules}
    assert {each.module for each in found.configurations} == {"$edgeAgent", "$edgeHub"}
    assert json.loads(json.dumps(found.to_json()))["device"] == DEVICE


def test_a_published_model_is_complete_and_the_other_sections_stay(
    hub: Connection, trusted: keys.SigningKey, artefact: Path
) -> None:
    """The section inflates to the published file; no module runs, so the verdict is pending."""
    before = desired(hub)
    result = publish(hub, artefact, trusted, DEVICE, MODULE, wait_s=0)
    after = desired(hub)
    found = model_section.parse(after["model"])
    assert isinstance(found.source, model_section.Inline)
    assert found.source.inflate(found.ref.size) == artefact.read_bytes()
    assert (result.verdict.state, result.desired_version) == (PENDING, after["$version"])
    assert {"inference", "telemetry"} <= after.keys()
    assert {name: after[name] for name in before if name not in ("model", "$version")} == {
        name: before[name] for name in before if name not in ("model", "$version")
    }
    row = next(row for row in status(hub, DEVICE).rows() if row[0] == MODULE)
    assert row[4] == "digits:1.0.0 (not seen yet)"


def test_a_shorter_model_deletes_the_chunks_of_a_longer_one(
    hub: Connection, trusted: keys.SigningKey, tmp_path: Path
) -> None:
    """The hub merges patches: without nulls the section would contain chunks of both."""
    noise = bytes(range(256)) * 4
    for version, weights in [
        ("2.0.0", b"".join(bytes(b ^ n for b in noise) for n in range(20))),
        ("2.0.1", b"w"),
    ]:
        path = tmp_path / f"{version}.tflite"
        path.write_bytes(packed(version, weights))
        publish(hub, path, trusted, DEVICE, MODULE, wait_s=0)
    assert str(model_section.parse(desired(hub)["model"]).ref) == "digits:2.0.1"


def test_an_old_etag_is_refused_and_publishing_reads_the_twin_again(
    hub: Connection, trusted: keys.SigningKey, tmp_path: Path
) -> None:
    """Publishing between the read and the write of somebody else loses neither change."""
    path = tmp_path / "model.tflite"
    path.write_bytes(packed("3.0.0"))
    signed = sign(path, trusted)
    with ServiceHub(hub) as service:
        old = service.module_twin(DEVICE, MODULE)
        service.patch_desired(DEVICE, MODULE, {"telemetry": {"intervalSeconds": 7}}, old.etag)
        with pytest.raises(PreconditionFailed):
            service.patch_desired(DEVICE, MODULE, {"telemetry": None}, old.etag)
        assert publish_to(OutdatedHub(service, old), signed, DEVICE, MODULE, WaitOptions(0)).written
    after = desired(hub)
    assert after["telemetry"] == {"intervalSeconds": 7, "predictions": "changes"}
    assert str(model_section.parse(after["model"]).ref) == "digits:3.0.0"


def test_deploying_removes_the_model_from_the_twin_and_reports_it(
    hub: Connection, folder: Path, trusted: keys.SigningKey, artefact: Path
) -> None:
    """The manifest names no model, and a deployment replaces the desired properties of its modules."""
    publish(hub, artefact, trusted, DEVICE, MODULE, wait_s=0)
    variables = {"MODEL_TRUSTED_KEYS": keys.trusted_keys_text(folder / "keys")}
    first = deploy(hub, TEMPLATE, variables, DEVICE)
    assert (first.unassigned, first.created) == (("inference",), False)
    assert set(first.images) == {"camera_sim", "inference"}
    assert first.undefined == ("CAMERA_FOLDER", "CONTAINER_REGISTRY_SERVER")
    assert "model" not in desired(hub)
    assert deploy(hub, TEMPLATE, variables, DEVICE).unassigned == ()


def test_a_device_can_be_created(hub: Connection, folder: Path) -> None:
    """Without `create` an unknown device is an error; with it the device gets the manifest's modules."""
    with pytest.raises(NotFound, match="device porch is not on"):
        deploy(hub, TEMPLATE, {}, "porch")
    assert deploy(hub, TEMPLATE, {}, "porch", create=True).created
    assert not deploy(hub, TEMPLATE, {}, "porch", create=True).created
    assert {"camera_sim", "inference"} <= {module.name for module in status(hub, "porch").modules}


def test_a_missing_device_or_module_is_named(
    hub: Connection, trusted: keys.SigningKey, artefact: Path
) -> None:
    """The error is one line."""
    with pytest.raises(NotFound, match="module twinship/inferrence is not on"):
        publish(hub, artefact, trusted, DEVICE, "inferrence", wait_s=0)
    with pytest.raises(NotFound, match="device attic is not on"):
        status(hub, "attic")


def test_a_wrong_key_a_missing_ca_and_a_closed_port_are_different_errors(
    hub: Connection, tmp_path: Path
) -> None:
    """They are HubRefused, NotConfigured and HubUnavailable."""
    with pytest.raises(HubRefused, match="does not accept the key of policy"):
        status(replace(hub, key="c2VjcmV0"), DEVICE)
    with pytest.raises(NotConfigured, match="is not trusted; cure"):
        status(replace(hub, ca_bundle=None), DEVICE)
    with pytest.raises(HubUnavailable, match="cannot be reached"):
        status(replace(hub, host=hub.host.partition(":")[0] + ":1"), DEVICE)


def test_a_twin_over_the_limit_is_not_changed(
    hub: Connection, trusted: keys.SigningKey, tmp_path: Path
) -> None:
    """Publishing itself refuses what IoT Hub would refuse, and names the sizes."""
    path = tmp_path / "model.tflite"
    path.write_bytes(packed("4.0.0"))
    with ServiceHub(hub) as service:
        notes = {str(n): "x" * 4000 for n in range(8)}
        service.patch_desired(DEVICE, MODULE, {"notes": notes}, "*")
        with pytest.raises(CannotPublish, match=r"of 32,768"):
            publish(hub, path, trusted, DEVICE, MODULE, wait_s=0)
    assert "model" not in desired(hub)


def test_a_deployment_is_created_updated_and_replaced(hub: Connection, trusted: keys.SigningKey) -> None:
    """The real SDK sends etags to the hub's API."""
    lab = Targeting("wire", "tags.site = 'lab'", 10)

    def content(number: int) -> dict[str, Any]:
        return {MODULE: {"properties.desired.notes": {"number": number}}}

    with ServiceHub(hub) as service:
        first = roll_out(service, hub.host, lab, content(1))
        assert roll_out(service, hub.host, lab, content(1)).how == "unchanged"
        assert roll_out(service, hub.host, replace(lab, priority=11), content(1)).how == "updated"
        second = roll_out(service, hub.host, lab, content(2))
        assert second.replaced == (first.configuration,)
        (present,) = (each for each in service.configurations() if each.id.startswith("wire-"))
        assert (present.id, present.priority) == (second.configuration, 10)
        with pytest.raises(HubRefused, match=r"wire-\w+ \(400: .*column 12"):
            roll_out(service, hub.host, replace(lab, condition="tags.site ="), content(3))
        assert service.configurations() == (present,), "the old deployment stays"
        service.delete_configuration(present)


def test_publishing_returns_the_verdict_of_the_device(
    simulator: Simulator, hub: Connection, folder: Path, trusted: keys.SigningKey, artefact: Path
) -> None:
    """The real module refuses an unknown key, then a model that does not load, and tries that one again."""
    simulator.start_modules()
    keys.new(folder / "other keys")
    stranger = keys.signing_key(folder / "other keys")
    lines = list[str]()
    first = publish(hub, artefact, stranger, DEVICE, MODULE, wait_s=VERDICT_WITHIN_S, progress=lines.append)
    assert first.verdict.error is not None
    assert (first.verdict.state, first.verdict.error.code) == ("refused", "unknown-key")
    assert stranger.key_id in first.verdict.error.message
    assert lines[-1].startswith("refused: unknown-key: ")
    second = publish(hub, artefact, trusted, DEVICE, MODULE, wait_s=VERDICT_WITHIN_S)
    assert second.verdict.error is not None
    assert second.verdict.state == "refused"
    assert second.verdict.error.code in ("does-not-load", "crashes-runtime")
    third = publish(hub, artefact, trusted, DEVICE, MODULE, wait_s=VERDICT_WITHIN_S)
    assert (third.attempt, third.written, third.verdict.state) == (second.attempt + 1, True, "refused")
    row = next(row for row in status(hub, DEVICE).rows() if row[0] == MODULE)
    assert row[1:2] + row[3:6] == ("Connected", "", "digits:1.0.0", "refused")
    simulator.stop_modules()
