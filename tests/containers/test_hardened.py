"""Both modules in hardened containers beside a simulator on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.containers.engine import Container, docker, inspect
from tests.e2e.conftest import Edge
from tests.e2e.models.test_swap import DEVICE, answers, hub_of, model_status, patch, ship
from tests.e2e.waiting import wait_until
from twinship.fleet import keys
from twinship.fleet.publish import publish

pytestmark = [
    pytest.mark.containers,
    pytest.mark.long,
    pytest.mark.parametrize("edge", [("inference", "camera_sim")], indirect=True),
]

MODULES = ("inference", "camera_sim")
MAX_START_S = 2.0  # the report has the figure; on an idle machine it is below 0.5
MAX_ANONYMOUS_MB = 60
MAX_STOP_S = 4.0  # two for unfinished work, one for the connection


def start(edge: Edge, module: str, *options: str) -> Container:
    """Start a module's container; the simulator's folder has the env file that its user would get."""
    return Container.run(module, edge.simulator.write_env_file(module), *options)


def start_both(edge: Edge, models: Path) -> dict[str, Container]:
    """Both modules with the first model; every prediction goes upstream."""
    pictures = str(models / "1.0.0" / "frames")
    patch(edge, "inference", {"telemetry": {"predictions": "all"}})
    inference = start(edge, "inference", "--volume", "/data")
    camera = start(edge, "camera_sim", "--volume", f"{pictures}:{pictures}:ro")
    assert ship(edge, models / "1.0.0" / "model.tflite").ok
    wait_until(lambda: len(answers(edge)) > 5, "the first answers")
    return {"inference": inference, "camera_sim": camera}


def test_a_hardened_device_answers_frames(containers: Edge, models: Path, figures: dict[str, Any]) -> None:
    """Health, restart with the last model, memory, a crash of the hub, and SIGTERM, in this order."""
    edge = containers
    modules = start_both(edge, models)
    for name, container in modules.items():
        first_s = container.first_line_s()
        figures.setdefault(name, {})["first_line_s"] = round(first_s, 3)
        assert first_s <= MAX_START_S, name
        wait_until(lambda each=container: each.health() == "healthy", f"{name} is healthy")  # type: ignore[misc]

    docker("restart", "inference")  # its memory then has no trace of the proof
    instance = answers(edge)[-1]["instance"]
    wait_until(lambda: answers(edge)[-1]["instance"] != instance, "answers after the restart")
    seen = len(answers(edge))
    wait_until(lambda: len(answers(edge)) > seen + 60, "answers of some seconds")
    for name, container in modules.items():
        figures[name] |= container.memory()
        assert figures[name]["anonymous_mb"] <= MAX_ANONYMOUS_MB, name

    edge.simulator.kill_hub()
    edge.simulator.wait_hub()
    docker("restart", "inference")  # signs in by the socket that the new hub made
    seen = len(answers(edge))
    wait_until(lambda: len(answers(edge)) > seen + 5, "answers after the crash of the hub")

    for name, container in modules.items():
        status, took_s = container.stop()
        figures[name]["stop_s"] = round(took_s, 2)
        assert (status, took_s < MAX_STOP_S) == (0, True), name
        assert container.events()[-1]["event"] == "stopped: SIGTERM"


@pytest.mark.parametrize("module", MODULES)
def test_sigterm_while_a_module_starts_is_heard(containers: Edge, module: str) -> None:
    """Without a handler, process 1 would live until SIGKILL after ten seconds, with exit status 137."""
    container = start(containers, module)
    wait_until(lambda: bool(container.events()), "the first log line")
    assert [each["event"] for each in container.events()][:1] == ["starting"]
    status, took_s = container.stop()
    assert (status, took_s < MAX_STOP_S) == (0, True)


def test_a_data_folder_that_cannot_be_written_is_in_the_twin(
    containers: Edge, models: Path, tmp_path: Path
) -> None:
    """A folder of root's, mounted for user 1000: the usual mistake with a bind mount."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    start(containers, "inference", "--volume", f"{folder}:/data")
    key = keys.signing_key(containers.keys)
    publish(hub_of(containers), models / "1.0.0" / "model.tflite", key, DEVICE, "inference", wait_s=0)
    wait_until(lambda: model_status(containers).get("error") is not None, "the error in the twin")
    error = model_status(containers)["error"]
    assert error["code"] == "disk-read-only"
    assert "cure: let user 1000 write there" in error["message"]


def test_no_secret_is_in_a_container(containers: Edge) -> None:
    """The module signs over the socket: neither environment nor log has a key."""
    start(containers, "inference")
    wait_until(lambda: (containers.folder / "simulator" / "service.env").exists(), "service.env")
    time.sleep(2)
    key = (
        (containers.folder / "simulator" / "service.env")
        .read_text()
        .split("SharedAccessKey=")[1]
        .split('"')[0]
    )
    text = json.dumps(inspect("inference")) + docker("logs", "inference")
    assert key not in text
    assert "SharedAccess" not in text
