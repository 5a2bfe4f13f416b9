"""From a folder with a user's colour pictures to predictions on a device: train, ship, classify."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from inference.artefact import read
from tests.e2e.conftest import ROOT, Command, Edge
from tests.e2e.models.test_swap import answers, patch, ship
from tests.e2e.waiting import wait_until
from twinship.fleet import keys
from twinship.simulator.launcher import Simulator, SimulatorSettings

pytestmark = pytest.mark.e2e

CHANNELS = {"red": 0, "green": 1, "blue": 2}
LABELS = tuple(sorted(CHANNELS))
PREDICTIONS = 30


def discs(folder: Path, of_each: int = 40) -> Path:
    """Three classes that differ only in colour: discs of any brightness on dark noise, JPEG, 36×32."""
    draw = np.random.default_rng(0)
    for label, channel in CHANNELS.items():
        (folder / label).mkdir(parents=True)
        for number in range(of_each):
            picture = Image.fromarray(draw.integers(0, 50, (32, 36, 3), dtype=np.uint8))
            colour = [0, 0, 0]
            colour[channel] = int(draw.integers(110, 256))
            left, top = draw.integers(2, 10, 2).tolist()
            ImageDraw.Draw(picture).ellipse((left, top, left + 22, top + 20), fill=tuple(colour))
            picture.save(folder / label / f"{number:03}.jpg", quality=90)
    return folder


@pytest.fixture
def trained(twinship: Command, tmp_path: Path) -> Path:
    """The results of `twinship train --dataset folder:…`."""
    out = tmp_path / "model"
    code, output = twinship.run(
        *("train", "--dataset", f"folder:{discs(tmp_path / 'discs')}", "--arch", "micro"),
        *("--profile", "quick", "--epochs", "1", "--out", str(out)),
    )
    assert code == 0, output
    assert "3 classes of 40 to 40 pictures; 36×32 pixels, learnt as 36×32 in colour" in output
    return out


@pytest.fixture
def edge(trained: Path, tmp_path: Path) -> Iterator[Edge]:
    """The manifest's modules on a simulator; the camera replays the held-out pictures."""
    keys.new(tmp_path / "keys")
    variables = {
        "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(tmp_path / "keys"),
        "CAMERA_FOLDER": str(trained / "frames"),
    }
    settings = SimulatorSettings(ROOT / "deployment.template.json", tmp_path / "simulator", variables)
    with Simulator(settings) as simulator:
        yield Edge(simulator, tmp_path / "keys", tmp_path)


@pytest.mark.long
def test_a_folder_of_colour_pictures_is_learnt_shipped_and_classified(edge: Edge, trained: Path) -> None:
    """The labels are the folders' names, and the device classifies pictures that the training held out."""
    artefact = read((trained / "model.tflite").read_bytes())
    assert artefact.labels == LABELS
    assert (artefact.manifest.name, artefact.manifest.input.channels) == ("discs", 3)
    with (trained / "frames" / "truth.csv").open() as file:
        truth = [row["label"] for row in csv.DictReader(file)]
    assert set(truth) == set(LABELS)
    patch(edge, "inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    edge.simulator.start_modules()
    assert ship(edge, trained / "model.tflite").ok
    wait_until(lambda: len(answers(edge)) >= PREDICTIONS, "predictions for the colour frames")
    found = {each["frame"]["seq"]: each["top"][0]["label"] for each in answers(edge)}
    right = sum(label == truth[seq % len(truth)] for seq, label in found.items())
    assert right / len(found) >= 0.9
