"""verify, predict and advise without the training distribution; train says what is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.runtimes import versions
from tests.models import quadrant, tiny_artefact

LABELS = ("a", "b", "c", "d")  # of the four quadrants; sorted, as a folder's classes are
WITHOUT_TRAINING = """
import sys
for name in ("twinship_training", "tensorflow", "keras", "sklearn", "matplotlib"):
    sys.modules[name] = None  # as if it were not installed
from twinship.__main__ import main
main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The quadrants model, and ten different pictures of each quadrant in folders."""
    (tmp_path / "model.tflite").write_bytes(tiny_artefact(labels=LABELS, expected=LABELS))
    for place, label in enumerate(LABELS):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for index in range(10):
            pixels = np.minimum(quadrant(place)[..., 0], 255 - index)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{index}.png")
    return tmp_path


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `twinship …` without the training distribution."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRAINING, *words],
        cwd=folder,
        env={"KERAS_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_verify_counts_right_predictions_in_a_folder(folder: Path) -> None:
    """A fifth of the pictures is the test, as in a training; all are right on every runtime."""
    code, stdout, stderr = run(folder, "verify", "model.tflite", "--dataset", "folder:pictures", "--json")
    assert code == 0, stderr
    assert json.loads(stdout) == {"dataset": "folder", "test": 8, "accuracy": dict.fromkeys(versions(), 1.0)}


def test_verify_names_what_digits_need(folder: Path) -> None:
    """scikit-learn comes with the training distribution: one line names it."""
    code, _, stderr = run(folder, "verify", "model.tflite", "--dataset", "digits")
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert "twinship-training" in stderr


def test_predict_classifies_a_file(folder: Path) -> None:
    """The label of the picture's folder."""
    code, stdout, stderr = run(folder, "predict", "model.tflite", "pictures/c/3.png", "--json")
    assert code == 0, stderr
    assert json.loads(stdout)[0]["top"][0]["label"] == "c"


def test_advise_needs_no_training(folder: Path) -> None:
    """The measured devices of the package are enough for advice."""
    code, stdout, stderr = run(
        folder, "advise", "--fps", "1", "--max-latency-ms", "1000", "--bandwidth", "2Mbit"
    )
    assert code == 0, stderr
    assert "edge" in stdout


def test_train_names_the_missing_distribution(folder: Path) -> None:
    """One line, and an exit code that is not 0."""
    code, stdout, stderr = run(folder, "train", "--dataset", "digits")
    assert (code, stdout) == (1, "")
    assert len(stderr.splitlines()) == 1
    assert "twinship-training" in stderr
