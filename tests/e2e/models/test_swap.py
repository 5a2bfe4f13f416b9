"""Models by twin on running modules: refusals, crashes of a module, crashes of the hub."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from inference.model_section import ModelState
from tests.e2e.conftest import Edge
from tests.e2e.waiting import wait_until
from twinship.fleet import connection as connections
from twinship.fleet import keys
from twinship.fleet.publish import PublishResult, publish
from twinship.fleet.service import ServiceHub
from twinship.fleet.signed_artefact import sign

pytestmark = pytest.mark.e2e

DEVICE = "twinship"


def hub_of(edge: Edge) -> connections.Connection:
    """The service connection from the simulator's service.env."""
    return connections.find({}, edge.simulator.endpoints.service_env)


def ship(edge: Edge, model: Path) -> PublishResult:
    """Publish and wait until the module serves the model."""
    key = keys.signing_key(edge.keys)
    return publish(hub_of(edge), model, key, DEVICE, "inference", wait_s=60, until_active=False)


def patch(edge: Edge, module: str, desired: dict[str, Any]) -> None:
    """Patch a module's desired properties."""
    with ServiceHub(hub_of(edge)) as hub:
        hub.patch_desired(DEVICE, module, desired, "*")


def reported(edge: Edge, module: str = "inference") -> dict[str, Any]:
    """The module's reported properties."""
    with ServiceHub(hub_of(edge)) as hub:
        return dict(hub.module_twin(DEVICE, module).reported)


def model_status(edge: Edge) -> dict[str, Any]:
    """The section `modelStatus`; {} if there is none yet."""
    found = reported(edge).get("modelStatus")
    return dict(found) if found else {}


def answers(edge: Edge) -> list[dict[str, Any]]:
    """Every prediction that arrived upstream."""
    bodies = [json.loads(line)["Body"] for line in edge.upstream().splitlines()]
    return [body for body in bodies if body.get("schema") == "twinship.prediction.v1"]


def start(edge: Edge, models: Path) -> PublishResult:
    """Start the modules with the first model; every prediction is sent upstream."""
    patch(edge, "inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    edge.simulator.start_modules()
    result = ship(edge, models / "1.0.0" / "model.tflite")
    assert result.ok, result.verdict
    wait_until(lambda: len(answers(edge)) > 5, "the first answers")
    return result


def test_a_flipped_byte_is_refused_and_the_old_model_serves(edge: Edge, models: Path) -> None:
    """The signature covers the digest: a model with other bytes never serves, and the twin says why."""
    first = start(edge, models)
    data = bytearray((models / "1.1.0" / "model.tflite").read_bytes())
    good = sign(models / "1.1.0" / "model.tflite", keys.signing_key(edge.keys))
    data[1000] ^= 0x40
    section = type(good)(good.ref, bytes(data)).section()
    patch(edge, "inference", {"model": None})
    patch(edge, "inference", {"model": section})
    wait_until(lambda: model_status(edge).get("state") == ModelState.REFUSED, "the refusal")
    status = model_status(edge)
    assert status["error"]["code"] == "wrong-digest"
    assert status["active"]["sha256"] == first.ref.sha256
    seen = len(answers(edge))
    wait_until(lambda: len(answers(edge)) > seen + 5, "answers after the refusal")
    assert {answer["model"]["sha256"] for answer in answers(edge)} == {first.ref.sha256}


def test_a_killed_module_restarts_with_its_last_good_model(edge: Edge, models: Path) -> None:
    """The model store survives `kill -9`, and the restart policy brings the module back."""
    first = start(edge, models)
    process = edge.simulator.states()["inference"].pid
    assert process is not None
    os.kill(process, signal.SIGKILL)
    instance = answers(edge)[-1]["instance"]
    wait_until(lambda: answers(edge)[-1]["instance"] != instance, "answers of the restarted module")
    assert answers(edge)[-1]["model"]["sha256"] == first.ref.sha256


def test_modules_survive_a_crash_of_the_hub(edge: Edge, models: Path) -> None:
    """After `kill -9` of the hub they reconnect to the same sessions and twins."""
    start(edge, models)
    instance = answers(edge)[-1]["instance"]
    edge.simulator.kill_hub()
    edge.simulator.wait_hub()
    seen = len(answers(edge))
    wait_until(lambda: len(answers(edge)) > seen + 5, "answers after the restart of the hub")
    assert answers(edge)[-1]["instance"] == instance
    assert ship(edge, models / "1.1.0" / "model.tflite").ok


def test_errors_in_a_twin_section_are_reported_field_by_field(edge: Edge, models: Path) -> None:
    """The twin reports wrong types; the last good settings and the model stay."""
    first = start(edge, models)
    patch(edge, "inference", {"inference": {"topK": "many"}, "telemetry": 7})
    wait_until(lambda: reported(edge).get("inference", {}).get("ac") == 400, "the complaint")
    wait_until(lambda: reported(edge).get("telemetry", {}).get("ac") == 400, "the other complaint")
    assert "topK" in reported(edge)["inference"]["ad"]
    seen = len(answers(edge))
    wait_until(lambda: len(answers(edge)) > seen + 5, "answers after the complaint")
    assert answers(edge)[-1]["model"]["sha256"] == first.ref.sha256
