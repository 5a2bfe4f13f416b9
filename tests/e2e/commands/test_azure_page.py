"""The lines of docs/azure.md that say so run here, word for word, against the simulator and its modules."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from azure.iot.hub.models import Twin

from inference.model_section import ModelState
from tests.azure_page import blocks
from tests.e2e.conftest import ROOT, Command, Edge
from tests.e2e.models.test_swap import DEVICE, hub_of, model_status
from tests.e2e.waiting import wait_until
from twinship.fleet import keys
from twinship.fleet.service import ServiceHub

pytestmark = [pytest.mark.e2e, pytest.mark.long]

HERE = "tests/e2e/commands/test_azure_page.py"


@pytest.fixture
def project(edge: Edge, models: Path) -> Command:
    """A folder as the page leaves it after step 2: a filled .env, which names the simulator, and a model."""
    folder = edge.folder / "project"
    settings = re.sub(r"<[a-z ]+>", "filled", (ROOT / ".env.example").read_text())
    settings = re.sub(r"^IOTHUB_CONNECTION_STRING=.*\n", "", settings, flags=re.M)
    hub = edge.simulator.endpoints.service_env.read_text()
    frames = models / "1.0.0" / "frames"
    (folder / "build" / "model").mkdir(parents=True)
    (folder / ".env").write_text(f"{settings}\nCAMERA_FOLDER={frames}\n{hub}")
    (folder / ".env").chmod(0o600)
    for name in (
        "deployment.template.json",
        *(f"modules/{each}/module.json" for each in ("inference", "camera_sim")),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    shutil.copy(models / "1.0.0" / "model.tflite", folder / "build" / "model")
    edge.simulator.start_modules()
    return Command(folder)


def run_block(project: Command, lines: tuple[str, ...], **names: str) -> None:
    """Run each line; `names` are the placeholders of the page, and `> file` is the shell's."""
    for line in lines:
        words, _, target = line.partition(" > ")
        for name, value in names.items():
            words = words.replace(name, value)
        code, output = project.run(*shlex.split(words)[1:])
        assert code == 0, f"{line}: {output}"
        if target:
            (project.folder / target).write_text(output)


def blocks_of(test: str) -> list[tuple[str, ...]]:
    """The blocks whose mark names this test."""
    return [block.lines for block in blocks() if block.test == f"{HERE}::{test}"]


def test_the_commands_of_the_page(edge: Edge, project: Command) -> None:
    """Deploy and publish, to one device and to a fleet: the device answers with the model of the page."""
    found = blocks_of("test_the_commands_of_the_page")
    assert len(found) == 5
    tag(edge, {"site": "lab", "ring": "first"})
    for lines in found:
        run_block(project, lines)
    wait_until(lambda: model_status(edge).get("state") == ModelState.ACTIVE, "the active model")
    assert_az_takes(project.folder)
    with ServiceHub(hub_of(edge)) as hub:
        desired = hub.module_twin(DEVICE, "inference").desired["model"]
    assert desired["sha256"] == model_status(edge)["active"]["sha256"]


def assert_az_takes(folder: Path) -> None:
    """The forms that the reference of az names: modulesContent, and a patch of desired properties."""
    content, patch, layer = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("content", "patch", "layer")
    )
    assert {"$edgeAgent", "$edgeHub", "inference", "camera_sim"} == set(content["modulesContent"])
    assert set(patch["properties"]["desired"]) == {"model"}
    assert set(layer["modulesContent"]["inference"]) == {"properties.desired.model"}
    assert "$CONTAINER_REGISTRY_PASSWORD" in (folder / "content.json").read_text()


def tag(edge: Edge, tags: dict[str, str]) -> None:
    """Set tags of the device, as `az iot hub device-twin update --tags` does."""
    with ServiceHub(hub_of(edge)) as hub:
        hub.call_registry(
            f"device {DEVICE}", lambda registry: registry.update_twin(DEVICE, Twin(tags=tags), "*")
        )


def test_a_signing_key_is_replaced(edge: Edge, project: Command) -> None:
    """After the lines of the page the device trusts the new key only, and runs the model that it signed."""
    (lines,) = blocks_of("test_a_signing_key_is_replaced")
    folder = project.folder / "keys"
    run_block(project, blocks_of("test_the_commands_of_the_page")[0])
    (old,) = [key.key_id for key in keys.show(folder)]
    run_block(project, lines[:1])
    (new,) = {key.key_id for key in keys.show(folder)} - {old}
    run_block(project, lines[1:], OLD_KEY=old, NEW_KEY=new)
    wait_until(lambda: model_status(edge).get("state") == ModelState.ACTIVE, "the active model")
    with ServiceHub(hub_of(edge)) as hub:
        section = hub.module_twin(DEVICE, "inference").desired["model"]
        agent = hub.module_twin(DEVICE, "$edgeAgent").desired
    assert section["keyId"] == new
    trusted = agent["modules"]["inference"]["env"]["MODEL_TRUSTED_KEYS"]["value"]
    assert new in trusted
    assert old not in trusted
