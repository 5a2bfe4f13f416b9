"""A complete training on digits: its results, their reuse, and what a failed training leaves."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.artefact import read
from inference.drift.measures import MEASURES
from inference.engine import Engine
from inference.evaluate import NotVerified, verify_file
from inference.frames.preprocess import decode_file, prepare
from inference.runtimes import versions
from tests.unit.twinship_training.conftest import Reports
from tests.unit.twinship_training.pictures import dataset
from twinship_training.checkpoint import CheckpointError
from twinship_training.data.split import Dataset
from twinship_training.train import TrainResult, TrainSettings, interrupted, train

Progress = Callable[[str, float], None]


def names(folder: Path) -> set[str]:
    """The names in a folder."""
    return {path.name for path in folder.iterdir()}


def test_the_results_are_complete(trained: TrainResult) -> None:
    """model.tflite, card.md, metrics.json, frames/ and plots/, and nothing else."""
    assert not trained.cached
    assert names(trained.folder) == {"model.tflite", "card.md", "metrics.json", "frames", "plots"}
    assert names(trained.folder.parent) == {trained.folder.name}


def test_the_artefact_is_complete(trained: TrainResult, settings: TrainSettings) -> None:
    """Manifest, labels and ten probes are in the artefact; no path of this machine is."""
    artefact = read(trained.artefact.read_bytes())
    assert artefact.sha256 == trained.metrics.artefact_sha256
    assert artefact.labels == tuple("0123456789")
    assert artefact.probes.expected == artefact.labels
    assert artefact.manifest.weightsSha256 == trained.metrics.weights_sha256
    assert artefact.manifest.latencyBudgetMs == 20.0
    assert set(artefact.manifest.minimumRuntime) == {"litert", "tflite_runtime"}
    assert str(settings.out.parent).encode() not in artefact.data


def test_micro_fits_into_a_twin(trained: TrainResult) -> None:
    """The complete artefact of the small network fits inline."""
    assert trained.metrics.inline.fits
    assert trained.metrics.inline.characters <= trained.metrics.inline.limit == 28_000
    assert trained.metrics.sizes.parameters < 15_000


def test_every_runtime_was_evaluated(trained: TrainResult, offline: Dataset) -> None:
    """int8 accuracy is measured with the device's engine on each runtime; verifying again gives the same."""
    assert set(trained.metrics.accuracy.shipped) == set(versions()) == set(trained.metrics.proof)
    again = verify_file(trained.artefact, offline.labels, offline.test)
    assert {
        name: round(share, 6) for name, share in again.accuracy.items()
    } == trained.metrics.accuracy.shipped
    assert [list(row) for row in again.confusion] == trained.metrics.confusion
    assert sum(map(sum, again.confusion)) == len(offline.test)


def test_the_model_is_accurate(trained: TrainResult) -> None:
    """After one quick epoch most digits are right, and int8 loses very little."""
    assert trained.metrics.accuracy.float32 > 0.9
    assert abs(trained.metrics.accuracy.drop) <= 0.01


def test_the_frames_are_the_held_out_pictures(trained: TrainResult, offline: Dataset) -> None:
    """500 PNG files with truth.csv, as the camera reads them, equal to the test pictures in every pixel."""
    with (trained.frames / "truth.csv").open() as file:
        truth = list(csv.DictReader(file))
    assert len(truth) == 500
    assert {row["file"] for row in truth} | {"truth.csv"} == names(trained.frames)
    assert [int(row["label"]) for row in truth] == offline.test.labels.tolist()
    seventh = np.asarray(Image.open(trained.frames / truth[7]["file"]))
    assert np.array_equal(seventh, offline.test.images[7, :, :, 0])


def test_the_devices_code_reads_a_frame(trained: TrainResult) -> None:
    """The module can decode, prepare and classify a picture of frames/."""
    artefact = read(trained.artefact.read_bytes())
    engine = Engine(artefact, runtime="litert")
    pixels = prepare(decode_file((trained.frames / "0000.png").read_bytes()), engine.input)
    output = engine.infer(pixels)
    assert output.shape == (10,)
    assert abs(float(output.sum()) - 1) < 0.05


def test_metrics_say_how_the_model_was_made(trained: TrainResult) -> None:
    """metrics.json has the command, the data and why they were used, the versions and the durations."""
    document = json.loads((trained.folder / "metrics.json").read_text())
    assert document["schema"] == "twinship.metrics.v1"
    assert document["command"].startswith("twinship train --arch micro --dataset digits --profile quick")
    assert document["dataset"]["why"] == "a test uses them"
    assert document["weightsSha256"] == trained.metrics.weights_sha256
    assert {"keras", "numpy", "ai-edge-litert"} <= set(document["versions"])
    assert document["seconds"]["total"] >= document["seconds"]["fit"]


def test_the_plots_are_pictures(trained: TrainResult) -> None:
    """Curve, confusion, reliability and mistakes are valid PNG files, and the card shows them."""
    card = trained.card.read_text()
    plots = sorted((trained.folder / "plots").iterdir())
    assert [path.stem for path in plots] == ["confusion", "curve", "mistakes", "reliability"]
    for path in plots:
        with Image.open(path) as picture:
            picture.load()
            assert min(picture.size) >= 100
        assert f"(plots/{path.name})" in card


def test_metrics_hold_history_cost_and_calibration(trained: TrainResult) -> None:
    """Loss and accuracy of each epoch, cost on each runtime, and the calibration error."""
    metrics = trained.metrics
    assert len(metrics.history.loss) == len(metrics.history.validation) == metrics.history.kept == 1
    assert set(metrics.cost) == set(versions())
    assert all(0 < cost.p50_ms < 1_000 and cost.memory_bytes < 2**30 for cost in metrics.cost.values())
    assert metrics.calibration is not None
    assert sum(each.count for each in metrics.calibration.bins) == 500
    assert 0 <= metrics.calibration.expected_error < 0.5


def test_a_training_calibrates_its_model(trained: TrainResult) -> None:
    """One quick epoch is not sure enough of itself; int8 has the error of the calibrated float model."""
    found = trained.metrics.calibration
    assert found is not None
    before, after, shipped = found.float_error_before, found.float_error_after, found.expected_error
    assert before is not None
    assert after is not None
    assert found.temperature < 0.9
    assert after < before / 2
    assert abs(shipped - after) < 0.02
    assert f"The temperature {found.temperature:.3f} divides the logits" in trained.card.read_text()


def test_progress_goes_forward(trained: TrainResult, reports: Reports) -> None:
    """The share only grows and ends at 1; an epoch reports its share and the time left."""
    shares = [share for _, share in reports]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert any("epoch 1 of 1, 100%, 0 s left" in text for text, _ in reports)


def test_a_training_is_not_repeated(
    trained: TrainResult, settings: TrainSettings, offline: Dataset, no_progress: Progress
) -> None:
    """With the same settings, code and data the existing results are used."""
    before = (trained.folder / "metrics.json").stat().st_mtime_ns
    again = train(settings, no_progress, offline)
    assert again.cached
    assert again.metrics == trained.metrics
    assert (trained.folder / "metrics.json").stat().st_mtime_ns == before


@pytest.mark.long
def test_the_same_command_gives_the_same_model_in_silence(
    trained: TrainResult, settings: TrainSettings, tmp_path: Path
) -> None:
    """In another process and folder: the same bits, and TensorFlow prints nothing to the terminal."""
    code = (
        "import pickle, sys; from twinship_training.train import train\n"
        "settings = pickle.load(sys.stdin.buffer)\n"
        "sys.stdout.write(train(settings, lambda text, share: None).metrics.weights_sha256)"
    )
    out = tmp_path / "elsewhere"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(replace(settings, out=out)),
        env={"PATH": os.defpath, "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == trained.metrics.weights_sha256
    again = read((out / "model.tflite").read_bytes())
    assert again.tflite == read(trained.artefact.read_bytes()).tflite


@pytest.mark.long
def test_below_the_target_nothing_is_left(no_progress: Progress, out: Path) -> None:
    """A model below the target is an error, and no file of it can be shipped by mistake."""
    settings = TrainSettings(architecture="svm", epochs=1, min_accuracy=1.01, out=out)
    with pytest.raises(NotVerified, match=r"101.00% is wanted"):
        train(settings, no_progress, dataset(out.parent))
    assert names(out.parent) == {"bars.npz"}


def test_a_failed_training_leaves_the_last_result(
    trained: TrainResult, settings: TrainSettings, offline: Dataset
) -> None:
    """After Ctrl-C in the first epoch the results before are complete, and there is no other file."""

    def interrupt(text: str, share: float) -> None:
        if text.startswith("epoch"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(replace(settings, seed=3), interrupt, offline)
    digest = hashlib.sha256(trained.artefact.read_bytes()).hexdigest()
    assert digest == trained.metrics.artefact_sha256
    assert names(trained.folder.parent) == {trained.folder.name}


@pytest.mark.long
def test_an_interrupted_training_leaves_a_checkpoint(
    settings: TrainSettings, offline: Dataset, no_progress: Progress, out: Path
) -> None:
    """After Ctrl-C in the second epoch it says how to resume; another seed cannot use the checkpoint."""

    def interrupt(text: str, share: float) -> None:
        if text.startswith("epoch 2"):
            raise KeyboardInterrupt

    two = replace(settings, epochs=2, out=out)
    assert interrupted(two) == "no epoch was complete, so nothing is kept"
    with pytest.raises(KeyboardInterrupt):
        train(two, interrupt, offline)
    assert interrupted(two).endswith(f"go on with: {two.command} --resume")
    with pytest.raises(CheckpointError, match="other settings"):
        train(replace(two, seed=3, resume=True), no_progress, offline)
    assert names(out.parent) == {"model.checkpoint"}
    assert names(out.parent / "model.checkpoint") == {"micro.npz"}


def test_a_damaged_artefact_is_not_verified(trained: TrainResult, offline: Dataset, tmp_path: Path) -> None:
    """A truncated or empty file is refused before any picture is evaluated."""
    path = tmp_path / "model.tflite"
    path.write_bytes(trained.artefact.read_bytes()[:-100])
    with pytest.raises(NotVerified, match="trailer"):
        verify_file(path, offline.labels, offline.test)
    path.write_bytes(b"")
    with pytest.raises(NotVerified, match="TFL3"):
        verify_file(path, offline.labels, offline.test)


def test_importing_the_package_is_quick() -> None:
    """Importing it loads no TensorFlow and no scikit-learn."""
    heavy = "{'tensorflow', 'keras', 'sklearn'}"
    code = f"import sys, twinship_training.train; sys.exit(not {heavy}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_artefact_carries_the_reference_of_its_validation_pictures(trained: TrainResult) -> None:
    """Small, of the converted model, inside the file that is signed; any frame of the data has gains."""
    artefact = read(trained.artefact.read_bytes())
    found = artefact.manifest.reference
    assert found is not None
    assert set(found.measures) == set(MEASURES["classification"].names)
    assert len(found.classes) == len(artefact.labels)
    assert len(found.model_dump_json()) < 4_096
    assert b'"reference":{' in artefact.data
