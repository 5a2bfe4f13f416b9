"""`docker compose up` … `down`, as compose.yaml says, with 300 of 300 frames in between."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import docker
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.long]

FRAMES = 300
PROJECT = "twinship-test"
QUICK = ("--dataset", "digits", "--profile", "quick", "--epochs", "2", "--out", "/models/digits")
ARTEFACT = "/models/digits/model.tflite"
PAGE = "http://127.0.0.1:8780/"
PATCH = """
import json, sys
from twinship.fleet import connection
from twinship.fleet.service import ServiceHub
with ServiceHub(connection.find({}, __import__("pathlib").Path(".env"))) as hub:
    hub.patch_desired("twinship", sys.argv[1], json.loads(sys.argv[2]), "*")
"""
LISTENERS = """
import pathlib
rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
addresses = [row[1].split(":") for row in rows if row[3] == "0A"]
print(*{int(port, 16) for address, port in addresses if address[6:] != "7F"})
"""


def compose(*words: str, timeout_s: float = 180) -> str:
    """`docker compose …` in a project of the test's own."""
    return docker("compose", "--project-name", PROJECT, *words, timeout_s=timeout_s)


def patch(module: str, desired: dict[str, Any]) -> None:
    """Patch a module's desired properties from inside the container `edge`."""
    compose("exec", "--no-TTY", "edge", "python", "-c", PATCH, module, json.dumps(desired))


def in_edge(script: str) -> str:
    """The output of a shell script in the container `edge`."""
    return compose("exec", "--no-TTY", "edge", "sh", "-ec", script)


def predictions() -> list[dict[str, Any]]:
    """Every prediction that arrived upstream."""
    text = compose(
        "exec", "--no-TTY", "edge", "sh", "-c", "cat /simulator/state/upstream.jsonl 2>/dev/null; true"
    )
    bodies = [json.loads(line)["Body"] for line in text.splitlines()]
    return [body for body in bodies if body.get("schema") == "twinship.prediction.v1"]


def served() -> tuple[str, str]:
    """State and SHA-256 of the model that `inference` reports."""
    status = json.loads(in_edge("twinship status --json"))
    model = next(each for each in status["modules"] if each["name"] == "inference")["model"]
    return model["state"], (model["active"] or {}).get("sha256", "")


@pytest.fixture
def trained(images: None, train_image: str) -> float:
    """Train a model into the volume `models`, which `up` removes; return the seconds."""
    began = time.monotonic()
    try:
        compose("run", "--rm", "--no-TTY", "train", *QUICK)
    except BaseException:
        compose("down", "--volumes")
        raise
    return time.monotonic() - began


@pytest.fixture
def up(images: None) -> Iterator[float]:
    """The running project, and how long `up` took; afterwards everything is removed."""
    began = time.monotonic()
    try:
        compose("up", "--wait", "--no-build")
        yield time.monotonic() - began
    finally:
        compose("down", "--volumes")


def test_every_frame_of_a_run_is_answered(up: float, models: Path, figures: dict[str, Any]) -> None:
    """The camera's new run has 300 frames; each has one prediction upstream, by the published model."""
    patch("inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    compose("cp", str(models / "1.0.0" / "model.tflite"), "edge:/models/")
    compose("exec", "--no-TTY", "edge", "twinship", "publish", "/models/model.tflite")
    patch("camera_sim", {"camera": {"paused": True}})
    compose("restart", "camera_sim")
    runs = {each["frame"]["run"] for each in predictions()}
    patch("camera_sim", {"camera": {"paused": False, "frames": FRAMES}})

    def answered() -> list[int]:
        return [each["frame"]["seq"] for each in predictions() if each["frame"]["run"] not in runs]

    wait_until(lambda: len(answered()) >= FRAMES, f"{FRAMES} answers")
    assert sorted(answered()) == list(range(FRAMES))
    status = compose("exec", "--no-TTY", "edge", "twinship", "status", "--json")
    inference = next(each for each in json.loads(status)["modules"] if each["name"] == "inference")
    assert inference["model"]["state"] == "active"
    figures["compose"] = {"up_s": round(up, 1), "frames": FRAMES, "answered": len(answered())}


def test_a_model_trained_in_a_container_is_shipped(
    trained: float, up: float, figures: dict[str, Any]
) -> None:
    """`train` writes the artefact into the volume; `edge` signs exactly that one, with the key it made."""
    names = set(in_edge("cd /models/digits && stat -c %u:%n *").split())
    assert {"1000:model.tflite", "1000:metrics.json"} <= names
    published = json.loads(in_edge(f"twinship publish --json {ARTEFACT}"))
    assert published["model"]["sha256"] == in_edge(f"sha256sum {ARTEFACT}").split()[0]
    wait_until(lambda: served() == ("active", published["model"]["sha256"]), "the end of probation")
    assert in_edge(f"stat -c %u:%a /keys/{published['model']['keyId']}.pem") == "1000:600\n"
    assert in_edge("find /models -name '*.pem'") == "", "training needs no key"
    figures.setdefault("train", {})["digits_s"] = round(trained, 1)


def test_the_network_of_the_project_reaches_no_other_machine(up: float) -> None:
    """Only the page is published, on loopback, and the simulator listens on loopback addresses only."""
    services = [json.loads(line) for line in compose("ps", "--format", "json").splitlines()]
    published = {(each["URL"], each["PublishedPort"]) for one in services for each in one["Publishers"] or []}
    assert published == {("127.0.0.1", 8780)}
    open_to_others = compose("exec", "--no-TTY", "edge", "python", "-c", LISTENERS)
    assert set(open_to_others.split()) == {"8780", "9601", "9602", "9603"}, (
        "the page and the modules' metrics"
    )


def test_the_page_is_open_to_this_machine_with_its_token(up: float) -> None:
    """The module made the token in its volume."""
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(PAGE, timeout=10)
    token = compose("exec", "--no-TTY", "dashboard", "cat", "/data/dashboard.token").strip()
    request = urllib.request.Request(PAGE, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert b"<title>" in response.read()
