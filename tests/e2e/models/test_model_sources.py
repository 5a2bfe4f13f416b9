"""Models that do not fit into a twin, and models for many devices: real command, hub and modules."""

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
    """The same model with 200 KB of incompressible data in its trailer, which modules ignore."""
    data = io.BytesIO(model.read_bytes())
    with zipfile.ZipFile(data, "a") as trailer:
        trailer.writestr("padding.bin", os.urandom(200_000))
    path = folder / "large.tflite"
    path.write_bytes(data.getvalue())
    return path


def twin(edge: Edge) -> tuple[dict[str, Any], dict[str, Any]]:
    """Desired and reported properties of the inference module."""
    with ServiceHub(find({}, edge.simulator.endpoints.service_env)) as hub:
        found = hub.module_twin("twinship", "inference")
    return dict(found.desired), dict(found.reported)


def publish(edge: Edge, twinship: Command, model: Path, *words: str) -> tuple[int, str]:
    """Run `twinship publish` with the key that the device trusts."""
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


def predicts_with(edge: Edge, sha256: str) -> bool:
    """Whether the newest prediction comes from this model."""
    bodies = [json.loads(line)["Body"] for line in edge.upstream().splitlines()]
    shas = [body["model"]["sha256"] for body in bodies if body.get("schema") == "twinship.prediction.v1"]
    return bool(shas) and shas[-1] == sha256


@pytest.mark.long
def test_a_model_too_large_for_the_twin_is_downloaded_and_rolled_back(
    edge: Edge, twinship: Command, models: Path
) -> None:
    """The error lists the options; with `--store simulator` it runs; `rollback` needs no download."""
    with ServiceHub(find({}, edge.simulator.endpoints.service_env)) as hub:
        hub.patch_desired("twinship", "inference", {"telemetry": {"predictions": "all"}}, "*")
    edge.simulator.start_modules()
    code, output = publish(edge, twinship, models / "1.0.0" / "model.tflite")
    assert code == 0, output
    wait_until(lambda: twin(edge)[1]["modelStatus"]["state"] == "active", "the end of the first probation")
    first = twin(edge)[1]["modelStatus"]["active"]

    large = too_large_for_a_twin(models / "1.1.0" / "model.tflite", edge.folder)
    code, output = publish(edge, twinship, large)
    assert code == 1
    assert all(
        option in output for option in ("--store blob", "--store simulator", "--url", "--arch micro")
    ), output
    assert twin(edge)[0]["model"]["version"] == "1.0.0"

    code, output = publish(edge, twinship, large, "--store", "simulator")
    assert code == 0, output
    desired, _ = twin(edge)
    assert set(desired["model"]["source"]) == {"uri"}
    wait_until(lambda: predicts_with(edge, desired["model"]["sha256"]), "predictions of the large model")

    code, output = twinship.run("rollback", "--env-file", edge.env_file, "--json")
    assert code == 0, output
    assert json.loads(output)["model"] == first
    wait_until(lambda: predicts_with(edge, first["sha256"]), "predictions of the first model")
    code, output = twinship.run("rollback", "--env-file", edge.env_file)
    assert code == 1
    assert "did not go back (409" in output


def deployment_options(name: str) -> list[str]:
    """The options for a deployment to the simulated device."""
    return ["--deployment", name, "--target-condition", "deviceId = 'twinship'"]


@pytest.mark.long
def test_a_layered_model_stays_when_the_manifest_is_applied_again(
    edge: Edge, twinship: Command, models: Path
) -> None:
    """The model stays in the twin and keeps running; another layer replaces it."""
    edge.simulator.start_modules()
    base = ["deploy", "--template", str(ROOT / "deployment.template.json"), "--env-file", edge.env_file]
    trusted = {"MODEL_TRUSTED_KEYS": keys.trusted_keys_text(edge.keys), "CAMERA_FOLDER": str(models)}
    code, output = twinship.run(*base, *deployment_options("base"), **trusted)
    assert code == 0, output
    layer = deployment_options("digits")
    code, output = publish(edge, twinship, models / "1.0.0" / "model.tflite", *layer)
    assert code == 0, output
    wait_until(lambda: "1.0.0" in str(twin(edge)[1].get("modelStatus", {}).get("active")), "the first model")

    again = {**trusted, "CAMERA_FOLDER": str(models / "1.0.0" / "frames")}
    before = twin(edge)[0]
    code, output = twinship.run(*base, *deployment_options("base"), "--json", **again)
    assert code == 0, output
    assert json.loads(output)["how"] == "created"
    assert len(json.loads(output)["replaced"]) == 1
    wait_until(lambda: twin(edge)[0]["$version"] > before["$version"], "the manifest applied again")
    assert twin(edge)[0]["model"] == before["model"]
    code, output = twinship.run(*base, **trusted)  # to this device alone: the deployments remain in force
    assert twin(edge)[0]["model"] == before["model"]

    code, output = publish(edge, twinship, models / "1.1.0" / "model.tflite", *layer, "--json")
    assert code == 0, output
    assert len(json.loads(output)["replaced"]) == 1
    wait_until(lambda: "1.1.0" in str(twin(edge)[1]["modelStatus"]["active"]), "the second model")
    states = [each["state"] for each in twin(edge)[1]["modelStatus"]["history"]]
    assert "unassigned" not in states[states.index("probation") :], "the twin always named a model"


@pytest.mark.long
def test_the_articles_network_is_downloaded(edge: Edge, twinship: Command) -> None:
    """`train --arch seed` makes 245 KB, too large for a twin; `publish --store simulator` makes it active."""
    code, output = twinship.run("train", "--arch", "seed", "--dataset", "digits", "--profile", "quick")
    assert code == 0, output
    model = twinship.folder / "build" / "model" / "model.tflite"
    edge.simulator.start_modules()
    code, output = publish(edge, twinship, model, "--store", "simulator", "--json")
    assert code == 0, output
    size = json.loads(output[output.index("{") :])["model"]["size"]
    assert size == model.stat().st_size > 200_000
    wait_until(lambda: twin(edge)[1]["modelStatus"]["state"] == "active", "the end of its probation")
    assert twin(edge)[1]["modelStatus"]["active"]["name"] == "digits"
