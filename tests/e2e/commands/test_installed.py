"""The wheels in an empty environment: third-party packages from the lock, ours without an index."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PROJECTS = (
    "./edgekit",
    "./modules/camera_sim",
    "./modules/dashboard",
    "./modules/inference",
    "./training",
    ".",
)
TRAINING = ("twinship-training", "tensorflow-cpu", "keras", "scikit-learn", "matplotlib", "h5py")


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder in which its commands run."""

    venv: Path
    folder: Path

    def run(self, *words: str) -> tuple[int, str]:
        """Exit code and output of `twinship …`."""
        done = subprocess.run(
            [self.venv / "bin" / "twinship", *words],
            cwd=self.folder,
            env={**_clean(), "TWINSHIP_KEYS": str(self.folder / "keys")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        return done.returncode, done.stdout

    def output(self, *words: str) -> str:
        """The output of a command that must succeed."""
        code, output = self.run(*words)
        assert code == 0, output
        return output

    def pip(self, *words: str) -> None:
        command = [str(self.venv / "bin" / "python"), "-m", "pip", "--quiet", *words]
        subprocess.run(command, cwd=self.folder, env=_clean(), check=True, timeout=1200)


def _clean() -> dict[str, str]:
    """The environment without what would lead Python back to the checkout."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
    }


@pytest.fixture
def installed(tmp_path: Path) -> Environment:
    """All five distributions, built as wheels and installed as a user installs them."""
    ours = ("--no-index", "--no-deps")
    wheels = [sys.executable, "-m", "pip", "--quiet", "wheel", *ours, "--no-build-isolation"]
    subprocess.run([*wheels, "--wheel-dir", tmp_path / "dist", *PROJECTS], cwd=ROOT, check=True)
    (tmp_path / "empty").mkdir()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], env=_clean(), check=True)
    environment = Environment(tmp_path / "venv", tmp_path / "empty")
    environment.pip("install", "--no-compile", "--require-hashes", "-r", str(ROOT / "requirements.lock"))
    environment.pip("install", *ours, *(str(wheel) for wheel in sorted((tmp_path / "dist").glob("*.whl"))))
    return environment


def test_wheels_in_an_empty_environment(installed: Environment) -> None:
    """All commands work in an empty folder; without twinship-training, all but those that train."""
    installed.output("train", "--dataset", "digits", "--profile", "quick", "--out", "model")
    _runs_the_demo(installed)
    _writes_a_project(installed)
    installed.pip("uninstall", "--yes", *TRAINING)
    _names_the_missing_distribution(installed)
    _works_without_training(installed)


def _runs_the_demo(installed: Environment) -> None:
    installed.output("demo", "--dataset", "digits", "--frames", "200")
    summary = json.loads((installed.folder / "build" / "demo" / "summary.json").read_text())
    assert (summary["frames_sent"], summary["frames_answered"]) == (200, 200)


def _writes_a_project(installed: Environment) -> None:
    installed.output("init", "project")
    for name in ("deployment.template.json", ".env.example", "modules/inference/module.json"):
        assert (installed.folder / "project" / name).read_text() == (ROOT / name).read_text()
    code, output = installed.run("init", "project")
    assert code != 0
    assert len(output.splitlines()) == 1
    assert "exists" in output


def _names_the_missing_distribution(installed: Environment) -> None:
    for words in (["train", "--dataset", "digits"], ["demo", "--dataset", "digits"], ["bench", "single"]):
        code, output = installed.run(*words)
        assert code != 0
        assert len(output.splitlines()) == 1, output
        assert "twinship-training" in output


def _works_without_training(installed: Environment) -> None:
    model = "model/model.tflite"
    frames = installed.folder / "model" / "frames"
    installed.output("predict", model, *map(str, sorted(frames.glob("*.png"))[:2]))
    with (frames / "truth.csv").open() as lines:
        for row in csv.DictReader(lines):
            (installed.folder / "classes" / row["label"]).mkdir(parents=True, exist_ok=True)
            shutil.copy(frames / row["file"], installed.folder / "classes" / row["label"])
    assert json.loads(installed.output("verify", model, "--dataset", "folder:classes", "--json"))["accuracy"]
    installed.output("keys", "new")
    assert '"desired"' in installed.output("publish", model, "--print")
    installed.output("advise", "--fps", "10", "--max-latency-ms", "1000", "--bandwidth", "2Mbit")
    assert "--template" in installed.output("simulate", "--help")
