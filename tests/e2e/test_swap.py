"""Models by twin on running modules: what is refused, what keeps answering, what survives a crash."""

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
from twinship.fleet.publish import PublishResult, publish, sign
from twinship.fleet.service import ServiceHub

pytestmark = pytest.mark.e2e

DEVICE = "twinship"


def hub_of(edge: Edge) -> connections.Connection:
    """The service connection that the simulator wrote down."""
    return connections.find({}, edge.simulator.endpoints.service_env)


def ship(edge: Edge, model: Path) -> PublishResult:
    """Publish and wait until the module answers frames with it."""
    key = keys.signing_key(edge.keys)
    return publish(hub_of(edge), model, key, DEVICE, "inference", wait_s=60, until_active=False)


def patch(edge: Edge, module: str, desired: dict[str, Any]) -> None:
    """A patch of a module's desired properties, as any twin client would send it."""
    with ServiceHub(hub_of(edge)) as hub:
        hub.patch_desired(DEVICE, module, desired, "*")


def reported(edge: Edge, module: str = "inference") -> dict[str, Any]:
    """What the module says of itself."""
    with ServiceHub(hub_of(edge)) as hub:
        return dict(hub.module_twin(DEVICE, module).reported)


def model_status(edge: Edge) -> dict[str, Any]:
    """The section `modelStatus`; {} before there is one."""
    found = reported(edge).get("modelStatus")
    return dict(found) if found else {}


def answers(edge: Edge) -> list[dict[str, Any]]:
    """Every prediction that arrived upstream."""
    bodies = [json.loads(line)["Body"] for line in edge.upstream().splitlines()]
    return [body for body in bodies if body.get("schema") == "twinship.prediction.v1"]


def start(edge: Edge, models: Path) -> PublishResult:
    """Modules running, the first model answering, every prediction upstream."""
    patch(edge, "inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    edge.simulator.start_modules()
    result = ship(edge, models / "1.0.0" / "model.tflite")
    assert result.ok, result.verdict
    wait_until(lambda: len(answers(edge)) > 5, "the first answers")
    return result


def test_a_flipped_byte_is_refused_and_the_old_model_keeps_answering(edge: Edge, models: Path) -> None:
    """The signature is over the digest: other bytes under it are named in the twin and answer nothing."""
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


def test_a_killed_module_is_restarted_and_answers_with_its_last_good_model(edge: Edge, models: Path) -> None:
    """The model store survives `kill -9`, and the restart policy brings the module back."""
    first = start(edge, models)
    process = edge.simulator.states()["inference"].pid
    assert process is not None
    os.kill(process, signal.SIGKILL)
    instance = answers(edge)[-1]["instance"]
    wait_until(lambda: answers(edge)[-1]["instance"] != instance, "answers of the restarted module")
    assert answers(edge)[-1]["model"]["sha256"] == first.ref.sha256


def test_the_hub_may_crash_and_the_modules_go_on(edge: Edge, models: Path) -> None:
    """`kill -9` of the hub leaves the modules running; they reconnect to the same sessions and twins."""
    start(edge, models)
    instance = answers(edge)[-1]["instance"]
    edge.simulator.kill_hub()
    edge.simulator.wait_hub()
    seen = len(answers(edge))
    wait_until(lambda: len(answers(edge)) > seen + 5, "answers after the restart of the hub")
    assert answers(edge)[-1]["instance"] == instance
    assert ship(edge, models / "1.1.0" / "model.tflite").ok


def test_a_section_written_by_hand_is_answered_field_by_field(edge: Edge, models: Path) -> None:
    """Wrong types in a twin are said in the twin; the last good settings and the model stay."""
    first = start(edge, models)
    patch(edge, "inference", {"inference": {"topK": "many"}, "telemetry": 7})
    wait_until(lambda: reported(edge).get("inference", {}).get("ac") == 400, "the complaint")
    wait_until(lambda: reported(edge).get("telemetry", {}).get("ac") == 400, "the other complaint")
    assert "topK" in reported(edge)["inference"]["ad"]
    seen = len(answers(edge))
    wait_until(lambda: len(answers(edge)) > seen + 5, "answers after the complaint")
    assert answers(edge)[-1]["model"]["sha256"] == first.ref.sha256
