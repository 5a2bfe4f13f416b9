"""A detector from drawn pictures: what a training of seconds finds, writes and refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.artefact import read
from inference.drift.measures import MEASURES, of_frame
from inference.drift.reference import reference
from inference.engine import Engine
from inference.evaluate import NotVerified, prove
from inference.frames.preprocess import prepare
from inference.metrics_model import read_results
from inference.predict import FilePrediction, predict_files
from tests.unit.twinship_training.boxes import LABELS, voc
from twinship_training.data.boxes import find
from twinship_training.report.results import DETECTION_PLOTS
from twinship_training.settings import SettingsError, TrainSettings
from twinship_training.train import TrainResult, train


def settings(folder: Path, **changed: object) -> TrainSettings:
    """The shortest training with a useful result."""
    values: dict[str, object] = {"dataset": f"voc:{folder / 'shapes'}", "profile": "quick", "task": "detect"}
    values |= {"architecture": "centers-small", "max_side": 64, "out": folder / "model", "name": "shapes"}
    return TrainSettings(**(values | changed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult]:
    """The folder of the data, and the results of a training on 100 of its pictures, 100 for validation."""
    folder = tmp_path_factory.mktemp("detect")
    voc(folder / "shapes", 150, more=75)
    return folder, train(settings(folder), lambda text, share: None)


def test_a_detector_finds_what_it_has_learnt(learnt: tuple[Path, TrainResult]) -> None:
    """Discs and squares are found and told apart, as float and as int8 on every runtime."""
    metrics = learnt[1].metrics
    assert metrics.accuracy.float32 >= 0.8
    assert min(metrics.accuracy.shipped.values()) >= 0.8
    assert [each.label for each in metrics.detection] == list(LABELS)
    assert (metrics.task, metrics.calibration, metrics.confusion) == ("detection", None, [])


def test_the_artefact_is_one_that_a_device_proves(learnt: tuple[Path, TrainResult]) -> None:
    """Head, threshold and probes are in it; each label is in a probe; a moved box makes the proof fail."""
    result = learnt[1]
    artefact = read(result.artefact.read_bytes())
    manifest = artefact.manifest
    assert (manifest.task, manifest.head.kind, manifest.head.scoreThreshold) == ("detection", "centers", 0.3)
    shown = [found.label for each in artefact.probes.detections for found in each]
    assert set(shown) == set(LABELS)
    prove(result.artefact)


def test_the_artefact_carries_what_a_device_would_measure(learnt: tuple[Path, TrainResult]) -> None:
    """The reference is that of the validation pictures with the artefact's threshold, as a device has it."""
    artefact = read(learnt[1].artefact.read_bytes())
    engine = Engine(artefact)
    images = find(f"voc:{learnt[0] / 'shapes'}", 64).validation.images
    pictures = [prepare(image, engine.input) for image in images]
    answers = [engine.infer(each) for each in pictures]
    measured = [of_frame("detection", *each) for each in zip(pictures, answers, strict=True)]
    found = artefact.manifest.reference
    assert found == reference("detection", np.array(measured), len(LABELS))
    assert found is not None  # a hundred pictures are enough
    assert set(found.measures) == set(MEASURES["detection"].names)


def test_predict_draws_the_boxes_of_a_picture(learnt: tuple[Path, TrainResult], tmp_path: Path) -> None:
    """A picture of twice the size gives the boxes in shares of itself."""
    square = Image.fromarray(np.full((128, 128, 3), 30, np.uint8))
    square.paste((60, 200, 220), (20, 40, 60, 80))
    square.save(tmp_path / "square.png")
    found = next(iter(predict_files(read(learnt[1].artefact.read_bytes()), [tmp_path / "square.png"])))
    assert isinstance(found, FilePrediction)
    best = found.detections[0]
    assert best.label == "square"
    assert np.allclose(best.box, (20 / 128, 40 / 128, 40 / 128, 40 / 128), atol=0.04)


def test_card_plots_and_frames_show_boxes(learnt: tuple[Path, TrainResult]) -> None:
    """The card has precision of each label, sizes and plots; each frame has its boxes beside it."""
    result = learnt[1]
    card = result.card.read_text()
    for text in ("Finds objects in 64×64 colour pictures", "mAP50", "| disc |", "Sides of the boxes"):
        assert text in card
    assert {path.name for path in (result.folder / "plots").iterdir()} == set(DETECTION_PLOTS)
    assert (result.frames / "0000.xml").is_file()
    assert read_results(result.folder) == result.metrics


def test_the_same_training_is_not_repeated(learnt: tuple[Path, TrainResult]) -> None:
    """Equal settings and data: the results are there already."""
    assert train(settings(learnt[0]), lambda text, share: None).cached


@pytest.mark.long
def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    """Ctrl-C in the second epoch, then --resume: the weights are those of an uninterrupted training."""
    voc(tmp_path / "shapes", 60)

    def until(epoch: str) -> Callable[[str, float], None]:
        def progress(text: str, share: float) -> None:
            if text.startswith(epoch):
                raise KeyboardInterrupt

        return progress

    short = {"epochs": 2, "min_accuracy": 0.0, "force": True}
    try:
        whole = train(settings(tmp_path, out=tmp_path / "whole", **short), until("never")).metrics
        with pytest.raises(KeyboardInterrupt):
            train(settings(tmp_path, **short), until("epoch 2"))
        resumed = train(settings(tmp_path, resume=True, **short), until("never")).metrics
    except NotVerified as error:  # two epochs may learn nothing
        pytest.fail(str(error))
    assert resumed.weights_sha256 == whole.weights_sha256


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"architecture": "micro"}, "use centers or centers-small"),
        ({"architecture": "auto"}, "use centers or centers-small"),
        ({"task": "segment"}, "use classify or detect"),
        ({"task": "classify", "architecture": "centers"}, "architecture 'centers' is unknown"),
        ({"weights": Path("w.h5")}, "use it with --arch centers"),
        ({"task": "classify", "architecture": "micro", "score_threshold": 0.3}, "use it with --task detect"),
    ],
)
def test_settings_of_another_task_are_refused(
    tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    """A network belongs to one task, and options that have no effect are errors."""
    with pytest.raises(SettingsError, match=reason):
        settings(tmp_path, **changed)


def test_the_command_repeats_the_training(tmp_path: Path) -> None:
    """The card's command names the task and the threshold."""
    command = settings(tmp_path, score_threshold=0.05).command
    assert command.startswith("twinship train --task detect --arch centers-small --dataset voc:")
    assert "--score-threshold 0.05" in command
