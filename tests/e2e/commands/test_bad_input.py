"""Mistakes of users: one line that names the fault and the cure, an exit code, and nothing half done."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import ROOT, Command, Edge
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e


def refused(command: Command, *words: str, **environment: str) -> str:
    """Run a command that must fail, and return its error line."""
    code, output = command.run(*words, **environment)
    assert code not in (0, 130), output
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.startswith("twinship: ")]
    assert len(lines) == 1, output
    return lines[0]


def manifest_with(folder: Path, change: tuple[str, str]) -> str:
    """The path of a copy of the manifest and the module.json files, with one text replaced."""
    text = (ROOT / "deployment.template.json").read_text()
    assert change[0] in text
    template = folder / "deployment.template.json"
    template.write_text(text.replace(*change))
    shutil.copytree(ROOT / "modules", folder / "modules", ignore=shutil.ignore_patterns("*.py", "*.pyc"))
    return str(template)


def test_a_missing_manifest_is_named(twinship: Command) -> None:
    """The error names the template that does not exist."""
    assert "nowhere.json" in refused(twinship, "simulate", "--template", "nowhere.json")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (('"$schema-template": "4.0.0",', '"$schema-template": "4.0.0"'), ("line 3",)),
        (("/modules/inference/inputs/frames", "/modules/infrence/inputs/frames"), ("frames", "infrence")),
        (("INTO $upstream", "INTO $downstream"), ("predictions", "$downstream")),
        (("${MODULES.inference}", "${MODULES.inferense}"), ("inferense",)),
    ],
)
def test_a_broken_manifest(twinship: Command, change: tuple[str, str], named: tuple[str, ...]) -> None:
    """The error names the place and the fault, and nothing is started."""
    template = manifest_with(twinship.folder, change)
    line = refused(twinship, "simulate", "--template", template)
    assert all(word in line for word in named), line
    assert not list(twinship.folder.rglob("hub.sqlite"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["deploy", "--template", "/dev/zero"], "/dev/zero is not a regular file"),
        (["bench", "compare", "/nope", "/nope"], "/nope is not a report"),
        (["benchmark", "--seconds", "nan"], "--seconds"),
        (["benchmark", "--out", "."], ". is a folder"),
        (["demo", "--folder", "/"], "root of the file system"),
        (["simulate", "--folder", ""], "the path is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_nobody_means(twinship: Command, words: list[str], named: str) -> None:
    """One line before the work, and nothing is left behind; test_options.py has every option."""
    assert named in refused(twinship, *words)
    assert list(twinship.folder.iterdir()) == []


def test_a_data_file_of_the_wrong_shape(twinship: Command) -> None:
    """MNIST_NPZ is checked before the training starts."""
    wrong = twinship.folder / "wrong.npz"
    np.savez(wrong, x_train=np.zeros((5, 3), np.uint8))
    line = refused(twinship, "train", MNIST_NPZ=str(wrong))
    assert "wrong.npz" in line
    assert not (twinship.folder / "build" / "model").exists()


def test_advice_for_impossible_requirements(twinship: Command) -> None:
    """An ambiguous unit is refused; the exit code is 1 if nothing meets the requirements."""
    words = ("advise", "--fps", "30", "--max-latency-ms")
    assert "as in 2Mbit or 250kB" in refused(twinship, *words, "20", "--bandwidth", "2mb")
    code, output = twinship.run(*words, "1", "--bandwidth", "2Mbit")
    assert code == 1
    assert "neither at the edge nor in the cloud" in output


def test_resuming_without_a_checkpoint(twinship: Command) -> None:
    """The error names the checkpoint that does not exist."""
    line = refused(twinship, "train", "--dataset", "digits", "--out", "model", "--resume")
    assert "model.checkpoint: nothing to resume" in line
    assert not list(twinship.folder.iterdir())


def test_a_malformed_tf_config(twinship: Command) -> None:
    """The error names TF_CONFIG and shows a correct one."""
    line = refused(twinship, "train", "--dataset", "digits", TF_CONFIG='{"cluster": {}}')
    assert "TF_CONFIG" in line
    assert '"task": {"type": "worker", "index": 0}' in line


def test_publishing_without_a_hub_a_key_or_a_model(twinship: Command, models: Path) -> None:
    """The error names each missing thing and the command that makes it."""
    model = str(models / "1.0.0" / "model.tflite")
    assert "twinship keys new" in refused(twinship, "publish", model)
    assert twinship.run("keys", "new")[0] == 0
    assert "IOTHUB_CONNECTION_STRING" in refused(twinship, "publish", model)
    assert "nothing.tflite" in refused(twinship, "publish", "nothing.tflite", "--print")
    picture = next((models / "1.0.0" / "frames").glob("*.png"))
    assert "no model artefact" in refused(twinship, "publish", str(picture), "--print")


def test_publishing_to_a_module_that_does_not_exist(edge: Edge, twinship: Command, models: Path) -> None:
    """The error names the module or device of the 404, and no twin is written."""
    words = ["publish", str(models / "1.0.0" / "model.tflite"), "--env-file", edge.env_file]
    assert "inferense" in refused(twinship, *words, "--module", "inferense")
    assert "twinshop" in refused(twinship, *words, "--device", "twinshop")
    code, output = twinship.run("status", "--env-file", edge.env_file, "--json")
    assert code == 0, output
    assert "digits" not in output


@pytest.mark.long
def test_publishing_to_a_module_without_models(edge: Edge, twinship: Command, models: Path) -> None:
    """A camera that reports its settings gets no model section."""
    edge.simulator.start_modules()
    env_file = ("--env-file", edge.env_file)

    def camera() -> Any:
        modules = json.loads(twinship.run("status", *env_file, "--json")[1])["modules"]
        return next(module for module in modules if module["name"] == "camera_sim")

    wait_until(lambda: camera()["sections"], "the camera reports its settings")
    model = str(models / "1.0.0" / "model.tflite")
    line = refused(twinship, "publish", model, *env_file, "--module", "camera_sim")
    assert "camera_sim runs no models" in line
    assert camera()["model"] is None


def test_a_port_that_another_process_uses(twinship: Command) -> None:
    """A listener on all addresses blocks the simulator; the error names the port."""
    program = (
        "import socket, sys, subprocess\n"
        "subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)\n"
        "listener = socket.create_server(('0.0.0.0', 8883))\n"
        "sys.exit(subprocess.run([sys.executable, '-m', 'twinship', 'simulate']).returncode)\n"
    )
    own_network = ["unshare", "--user", "--map-root-user", "--net"]
    if shutil.which("ip") is None or subprocess.run([*own_network, "true"], capture_output=True).returncode:
        pytest.skip("needs a network namespace, or it would take the port of other tests")
    found = subprocess.run(
        [*own_network, sys.executable, "-c", program], cwd=twinship.folder, capture_output=True, text=True
    )
    assert found.returncode == 1, found
    assert "0.0.0.0:8883" in found.stderr
    assert "Traceback" not in found.stderr


def test_predict_continues_after_a_file_that_it_cannot_read(twinship: Command, models: Path) -> None:
    """Every readable picture has a result; the exit code is 1, and the unreadable files are named."""
    good = sorted((models / "1.0.0" / "frames").glob("*.png"))[:2]
    (twinship.folder / "text.png").write_text("no picture")
    pictures = [str(good[0]), "text.png", "absent.png", str(good[1])]
    code, output = twinship.run("predict", str(models / "1.0.0" / "model.tflite"), *pictures, "--json")
    assert code == 1
    answers = json.loads(output[output.index("[\n") : output.rindex("]") + 1])
    assert [len(answer.get("top", [])) for answer in answers] == [3, 0, 0, 3]
    assert "text.png" in output
    assert "absent.png" in output


@pytest.mark.parametrize(
    ("fake", "expected"),
    [
        ("python3:Python 3.9.1", "needs Python 3.11, 3.12 or 3.13 with venv"),
        ("python3:Python 3.9.1", "found 'Python 3.9.1'"),
        ("uname:Plan9", "Linux x86-64"),
    ],
)
def test_setup_stops_with_one_line(tmp_path: Path, fake: str, expected: str) -> None:
    """`make setup` reports an unsupported platform or Python before it makes anything."""
    for name in ("Makefile", "requirements.lock", "VERSION", "distributions.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for project in ("edgekit", "modules/camera_sim", "modules/dashboard", "modules/inference", "training"):
        (tmp_path / project).mkdir(parents=True)
        shutil.copy(ROOT / project / "pyproject.toml", tmp_path / project)
    name, answer = fake.split(":")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / name).write_text(f"#!/bin/sh\necho '{answer}'\n[ {name} = uname ]\n")
    (tmp_path / "bin" / name).chmod(0o755)
    for tool in ("make", "sh", "uname"):  # and no Python of this machine
        if not (tmp_path / "bin" / tool).exists():
            (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    found = subprocess.run(
        ["make", "setup"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
    )
    assert found.returncode != 0
    assert expected in found.stderr
    assert [line for line in found.stderr.splitlines() if not line.startswith("make")] == [
        next(line for line in found.stderr.splitlines() if expected in line)
    ]
    assert not (tmp_path / ".venv").exists()


def test_a_usage_error_is_one_line(twinship: Command) -> None:
    """The exit code is 2."""
    for words in (["nonsense"], ["train", "--epochs", "many"], ["demo", "--frames", "-1"]):
        code, output = twinship.run(*words)
        assert code == 2
        assert len(output.splitlines()) == 1, output


def test_every_help_fits_a_screen(twinship: Command) -> None:
    """No help text is longer than 40 lines of 80 characters."""
    for words in ([], ["train"], ["publish"], ["simulate"], ["demo"], ["status"], ["keys"], ["predict"]):
        code, output = twinship.run(*words, "--help", COLUMNS="80")
        assert code == 0
        assert len(output.splitlines()) <= 40, output


def test_two_simulators_run_at_the_same_time(twinship: Command, edge: Edge) -> None:
    """Two simulators run at the same time, each on its own addresses."""
    gateway = edge.simulator.endpoints.gateway
    with socket.create_connection((gateway, 8883), timeout=5):
        pass
    process = twinship.start("simulate", "--template", str(ROOT / "deployment.template.json"))
    assert process.stdout is not None
    line = next(line for line in process.stdout if "ready" in line or "twinship:" in line)
    assert "ready" in line
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
