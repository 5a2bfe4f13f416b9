"""Models that do not fit inside a twin, and models for fleets: the command, a hub, modules, all real."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT, Command, Edge
from tests.e2e.waiting import wait_until
from twinship.fleet import keys
from twinship.fleet.connection import find
from twinship.fleet.service import ServiceHub

pytestmark = pytest.mark.e2e


def too_large_for_a_twin(model: Path, folder: Path) -> Path:
    """The same model and 200 KB that do not compress: members of other names are left alone."""
    data = io.BytesIO(model.read_bytes())
    with zipfile.ZipFile(data, "a") as trailer:
        trailer.writestr("padding.bin", os.urandom(200_000))
    path = folder / "large.tflite"
    path.write_bytes(data.getvalue())
    return path


def twin(edge: Edge) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both sides of the inference module's twin."""
    with ServiceHub(find({}, edge.simulator.endpoints.service_env)) as hub:
        found = hub.module_twin("twinship", "inference")
    return dict(found.desired), dict(found.reported)


def publish(edge: Edge, twinship: Command, model: Path, *words: str) -> tuple[int, str]:
    """`twinship publish`, with the key that the device trusts."""
    return twinship.run(
        "publish",
        str(model),
        "--env-file",
        edge.env_file,
        "--wait",
        "60",
        *words,
        TWINSHIP_KEYS=str(edge.keys),
    )


def answers_with(edge: Edge, sha256: str) -> bool:
    """Whether the newest prediction is by this model."""
    bodies = [json.loads(line)["Body"] for line in edge.upstream().splitlines()]
    shas = [body["model"]["sha256"] for body in bodies if body.get("schema") == "twinship.prediction.v1"]
    return bool(shas) and shas[-1] == sha256


def test_a_model_too_large_for_the_twin_travels_by_address_and_back(
    edge: Edge, twinship: Command, models: Path
) -> None:
    """What does not fit is said with the ways that there are; by the simulator's store it becomes active, and
    `rollback` goes back to the model before without any download."""
    with ServiceHub(find({}, edge.simulator.endpoints.service_env)) as hub:
        hub.patch_desired("twinship", "inference", {"telemetry": {"predictions": "all"}}, "*")
    edge.simulator.start_modules()
    code, said = publish(edge, twinship, models / "1.0.0" / "model.tflite")
    assert code == 0, said
    wait_until(lambda: twin(edge)[1]["modelStatus"]["state"] == "active", "the end of the first probation")
    first = twin(edge)[1]["modelStatus"]["active"]

    large = too_large_for_a_twin(models / "1.1.0" / "model.tflite", edge.folder)
    code, said = publish(edge, twinship, large)
    assert code == 1
    assert all(way in said for way in ("--store blob", "--store simulator", "--url", "--arch micro")), said
    assert twin(edge)[0]["model"]["version"] == "1.0.0"

    code, said = publish(edge, twinship, large, "--store", "simulator")
    assert code == 0, said
    desired, _ = twin(edge)
    assert set(desired["model"]["source"]) == {"uri"}
    wait_until(lambda: answers_with(edge, desired["model"]["sha256"]), "answers of the large model")

    code, said = twinship.run("rollback", "--env-file", edge.env_file, "--json")
    assert code == 0, said
    assert json.loads(said)["model"] == first
    wait_until(lambda: answers_with(edge, first["sha256"]), "answers of the first model")
    code, said = twinship.run("rollback", "--env-file", edge.env_file)
    assert code == 1
    assert "did not go back (409" in said


def deployment_of(name: str) -> list[str]:
    """For the simulated device alone."""
    return ["--deployment", name, "--target-condition", "deviceId = 'twinship'"]


@pytest.mark.long
def test_a_model_laid_over_the_manifest_survives_the_manifest(
    edge: Edge, twinship: Command, models: Path
) -> None:
    """Re-applying the manifest keeps the model in the twin and running; another model takes its place."""
    edge.simulator.start_modules()
    base = ["deploy", "--template", str(ROOT / "deployment.template.json"), "--env-file", edge.env_file]
    trusted = {"MODEL_TRUSTED_KEYS": keys.trusted_keys_text(edge.keys), "CAMERA_FOLDER": str(models)}
    code, said = twinship.run(*base, *deployment_of("base"), **trusted)
    assert code == 0, said
    layer = deployment_of("digits")
    code, said = publish(edge, twinship, models / "1.0.0" / "model.tflite", *layer)
    assert code == 0, said
    wait_until(lambda: "1.0.0" in str(twin(edge)[1].get("modelStatus", {}).get("active")), "the first model")

    again = {**trusted, "CAMERA_FOLDER": str(models / "1.0.0" / "frames")}
    before = twin(edge)[0]
    code, said = twinship.run(*base, *deployment_of("base"), "--json", **again)
    assert code == 0, said
    assert json.loads(said)["how"] == "created"
    assert len(json.loads(said)["replaced"]) == 1
    wait_until(lambda: twin(edge)[0]["$version"] > before["$version"], "the manifest applied again")
    assert twin(edge)[0]["model"] == before["model"]
    code, said = twinship.run(*base, **trusted)  # to this one device: the deployments hold it
    assert twin(edge)[0]["model"] == before["model"]

    code, said = publish(edge, twinship, models / "1.1.0" / "model.tflite", *layer, "--json")
    assert code == 0, said
    assert len(json.loads(said)["replaced"]) == 1
    wait_until(lambda: "1.1.0" in str(twin(edge)[1]["modelStatus"]["active"]), "the second model")
    states = [each["state"] for each in twin(edge)[1]["modelStatus"]["history"]]
    assert "unassigned" not in states[states.index("probation") :], "at no moment did the twin lack a model"


@pytest.mark.long
def test_the_articles_network_travels_by_address(edge: Edge, twinship: Command) -> None:
    """`train --arch seed`, `publish --store simulator`, active: 245 KB that no twin holds."""
    code, said = twinship.run("train", "--arch", "seed", "--dataset", "digits", "--profile", "quick")
    assert code == 0, said
    model = twinship.folder / "build" / "model" / "model.tflite"
    edge.simulator.start_modules()
    code, said = publish(edge, twinship, model, "--store", "simulator", "--json")
    assert code == 0, said
    size = json.loads(said[said.index("{") :])["model"]["size"]
    assert size == model.stat().st_size > 200_000
    wait_until(lambda: twin(edge)[1]["modelStatus"]["state"] == "active", "the end of its probation")
    assert twin(edge)[1]["modelStatus"]["active"]["name"] == "digits"
