"""Direct methods of both modules from the operator's side: the real SDKs on both ends, frames flowing."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import Command
from tests.e2e.test_model_faults import DEVICE, GOOD, MODULE, Edge, running
from tests.e2e.waiting import wait_until
from twinship.fleet.methods import Answer, invoke

pytestmark = pytest.mark.e2e

CAMERA = "camera_sim"


def test_methods_of_both_modules(tmp_path: Path, twinship: Command) -> None:
    """benchmark as a command, snapshot and set_rate as calls; a bad payload is 400 with its field."""
    with running(tmp_path) as edge:
        env_file = str(edge.simulator.endpoints.service_env)
        measured(twinship, env_file)
        edge.keeps_answering()
        rated(edge)
        pictured(edge)
        for module, method, payload, field in (
            (MODULE, "benchmark", {"queries": "many"}, "queries"),
            (CAMERA, "set_rate", {"fps": -1}, "fps"),
        ):
            answer = invoke(edge.hub, DEVICE, module, method, payload)
            assert answer.status == 400
            assert field in answer.payload["error"]
        assert invoke(edge.hub, DEVICE, MODULE, "rollback").status == 409
        edge.keeps_answering()


def measured(twinship: Command, env_file: str) -> None:
    """The figures in the file are of the model that runs, and no fewer than SingleStream asks for."""
    words = ("benchmark", "--seconds", "60", "--out", "figures.json", "--env-file", env_file)
    code, said = twinship.run(*words)
    assert code == 0, said
    found = json.loads((twinship.folder / "figures.json").read_text())
    assert found["schema"] == "twinship.benchmark.v1"
    assert found["model"]["sha256"] == GOOD["sha256"]
    assert found["queries"] == 1024
    code, said = twinship.run("benchmark", "--queries", "0", "--env-file", env_file)
    assert code == 1
    assert "queries" in said.splitlines()[-1]


def rated(edge: Edge) -> None:
    """A camera that was as good as stopped goes on at the rate that it is told."""
    assert invoke(edge.hub, DEVICE, CAMERA, "set_rate", {"fps": 0.001}) == Answer(200, {"fps": 0.001})
    wait_until(lambda: standing(edge), "a camera that stands")
    assert invoke(edge.hub, DEVICE, CAMERA, "set_rate", {"fps": 50}).status == 200
    edge.keeps_answering()


def standing(edge: Edge) -> bool:
    """Whether no frame was taken between two calls that a whole status call lies between."""
    first = invoke(edge.hub, DEVICE, CAMERA, "snapshot").payload["seq"]
    invoke(edge.hub, DEVICE, MODULE, "status")
    return bool(invoke(edge.hub, DEVICE, CAMERA, "snapshot").payload["seq"] == first)


def pictured(edge: Edge) -> None:
    """A snapshot is a picture that opens."""
    found = invoke(edge.hub, DEVICE, CAMERA, "snapshot").payload
    with Image.open(io.BytesIO(base64.b64decode(found["body"]))) as image:
        assert image.size == (found["width"], found["height"])
    assert (found["contentType"], found["camera"]) == ("image/png", "camera")
