"""Direct methods of both modules while frames flow, with the real SDKs on both sides."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.conftest import Command
from tests.e2e.models.test_model_faults import DEVICE, GOOD, MODULE, Edge, running
from tests.e2e.waiting import wait_until
from twinship.fleet.methods import Answer, invoke

pytestmark = pytest.mark.e2e

CAMERA = "camera_sim"


def test_methods_of_both_modules(tmp_path: Path, twinship: Command) -> None:
    """benchmark, snapshot and set_rate work; a bad payload is answered with 400 and the field."""
    with running(tmp_path) as edge:
        env_file = str(edge.simulator.endpoints.service_env)
        check_benchmark(twinship, env_file)
        edge.check_predictions()
        check_set_rate(edge)
        check_snapshot(edge)
        for module, method, payload, field in (
            (MODULE, "benchmark", {"queries": "many"}, "queries"),
            (CAMERA, "set_rate", {"fps": -1}, "fps"),
        ):
            answer = invoke(edge.hub, DEVICE, module, method, payload)
            assert answer.status == 400
            assert field in answer.payload["error"]
        assert invoke(edge.hub, DEVICE, MODULE, "rollback").status == 409
        edge.check_predictions()


def check_benchmark(twinship: Command, env_file: str) -> None:
    """The file has the figures of the running model, with the 1024 queries of MLPerf SingleStream."""
    words = ("benchmark", "--seconds", "60", "--out", "figures.json", "--env-file", env_file)
    code, output = twinship.run(*words)
    assert code == 0, output
    found = json.loads((twinship.folder / "figures.json").read_text())
    assert found["schema"] == "twinship.benchmark.v1"
    assert found["model"]["sha256"] == GOOD["sha256"]
    assert found["queries"] == 1024
    code, output = twinship.run("benchmark", "--queries", "0", "--env-file", env_file)
    assert code == 2
    assert "queries" in output.splitlines()[-1]


def check_set_rate(edge: Edge) -> None:
    """A camera that almost stands still continues at the new rate."""
    assert invoke(edge.hub, DEVICE, CAMERA, "set_rate", {"fps": 0.001}) == Answer(200, {"fps": 0.001})
    wait_until(lambda: stands_still(edge), "a camera that stands still")
    assert invoke(edge.hub, DEVICE, CAMERA, "set_rate", {"fps": 50}).status == 200
    edge.check_predictions()


def stands_still(edge: Edge) -> bool:
    """Whether the camera took no frame during a status call."""
    first = invoke(edge.hub, DEVICE, CAMERA, "snapshot").payload["seq"]
    invoke(edge.hub, DEVICE, MODULE, "status")
    return bool(invoke(edge.hub, DEVICE, CAMERA, "snapshot").payload["seq"] == first)


def check_snapshot(edge: Edge) -> None:
    """A snapshot is a valid picture."""
    found = invoke(edge.hub, DEVICE, CAMERA, "snapshot").payload
    with Image.open(io.BytesIO(base64.b64decode(found["body"]))) as image:
        assert image.size == (found["width"], found["height"])
    assert (found["contentType"], found["camera"]) == ("image/png", "camera")
