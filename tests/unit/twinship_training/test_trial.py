"""Trials and the choice of a network use training and validation pictures only."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.dataset.pictures import Pictures, input_spec
from inference.evaluate import NotVerified, Predictions
from inference.metrics_model import Cost
from tests.unit.twinship_training.pictures import dataset
from twinship_training import convert, trial
from twinship_training.checkpoint import Checkpoint, CheckpointFolder
from twinship_training.data.split import Dataset
from twinship_training.job import Job
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.networks.pretrained import Pretrained
from twinship_training.settings import TrainSettings
from twinship_training.tasks import classify
from twinship_training.train import choose_network

ACCURACY = {"micro": 0.6, "svm": 0.9}  # on the validation pictures; the others: 0.3
LIMIT = 0.8


class Unreadable(Pictures):
    """Test pictures that can be counted, as the manifest does; reading them is an error."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels"):
            raise AssertionError("a trial reads test pictures")
        return super().__getattribute__(name)

    def __len__(self) -> int:
        return 50


@pytest.fixture
def without_tensorflow(monkeypatch: pytest.MonkeyPatch, bars: Dataset) -> list[NDArray[np.uint8]]:
    """Stands in for fit, conversion and runtimes; the pictures that each of them gets."""
    seen: list[NDArray[np.uint8]] = []
    networks: list[str] = []

    def fit(
        network: Any, _recipe: Any, train: Pictures, validation: Pictures, *_args: Any, **_more: Any
    ) -> Any:
        seen.extend((train.images, validation.images))
        networks.append(next(name for name, each in ARCHITECTURES.items() if each is network))
        checkpoint = Checkpoint((0.1,), (0.5,), 1, [], [], [])
        weights = f"{networks[-1]}".encode().hex()
        spec = input_spec(train.shape)
        return SimpleNamespace(
            model=None, checkpoint=checkpoint, parameters=9, weights_sha256=weights, spec=spec
        )

    def converted(_model: Any, _optimisation: str, representative: NDArray[np.uint8], _spec: Any) -> bytes:
        seen.append(representative)
        return b"\0\0\0\0TFL3" + networks[-1].encode()

    def evaluate(
        _artefact: bytes, images: NDArray[np.uint8], _skip: Any, **_more: Any
    ) -> dict[str, Predictions]:
        seen.append(images)
        truth = bars.validation.labels[: len(images)]
        right = np.arange(len(images)) < ACCURACY.get(networks[-1], 0.3) * len(images)
        cost = Cost(p50_ms=0.1, memory_bytes=1)
        labels = np.where(right, truth, (truth + 1) % 10)
        return {"litert": Predictions(labels, np.ones(len(images), np.float32), cost, "int8")}

    monkeypatch.setattr(trial, "fit", fit)
    monkeypatch.setattr(trial, "evaluate", evaluate)
    monkeypatch.setattr(convert, "convert", converted)
    monkeypatch.setattr(convert, "minimum_runtime", lambda tflite: {})
    return seen


@pytest.fixture
def bars(tmp_path: Path) -> Dataset:
    """A data set with pictures in all three splits."""
    return dataset(tmp_path)


def job(data: Dataset, folder: Path) -> Job:
    """A training of all networks."""
    settings = TrainSettings("auto", "mnist", "quick", min_accuracy=LIMIT, out=folder / "model")
    checkpoints = CheckpointFolder(folder / "model.checkpoint", "", "")
    left_out = Pretrained(left_out={"mobilenet": "the pictures are grey"})
    return Job(
        settings, data, lambda text, share: None, "", time.monotonic(), checkpoints, pretrained=left_out
    )


def test_a_network_is_chosen_without_test_pictures(
    tmp_path: Path, bars: Dataset, without_tensorflow: list[NDArray[np.uint8]]
) -> None:
    """Fit, conversion, evaluation, choice and the other conversions never read the test pictures."""
    blind = replace(bars, test=Unreadable(bars.test.images, bars.test.labels))
    with pytest.raises(AssertionError):
        blind.test.take(np.array([0]))  # the counter-proof
    trials, chosen = choose_network(job(blind, tmp_path))
    assert [each.architecture for each in trials] == ["seed", "micro", "small", "svm"]
    assert chosen.architecture == "svm"  # the only one within the limit, by validation pictures
    trial.measure_variant(job(blind, tmp_path), chosen, "float16")
    test = {image.tobytes() for image in bars.test.images}
    assert without_tensorflow
    for images in without_tensorflow:
        assert test.isdisjoint(image.tobytes() for image in images)


@pytest.mark.parametrize(("lost", "refused"), [(0, False), (2, False), (5, True)])
def test_a_loss_by_chance_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bars: Dataset, lost: int, refused: bool
) -> None:
    """The float model has all test pictures right; the metrics have what int8 may lose of them."""
    truth = bars.test.labels
    count = len(truth)
    labels = np.where(np.arange(count) < lost, (truth + 1) % 10, truth)
    found = Predictions(labels, np.ones(count, np.float32), Cost(p50_ms=0.1, memory_bytes=1), "int8")
    monkeypatch.setattr(trial, "_evaluate", lambda *_arguments: {"litert": found})
    monkeypatch.setattr(classify, "logits", lambda *_arguments: 10 * np.eye(10, dtype=np.float32)[truth])
    checkpoint = Checkpoint((0.1,), (0.5,), 1, [], [], [])
    fitted: Any = SimpleNamespace(model=None, spec=None, temperature=1.0, checkpoint=checkpoint)
    chosen = trial.Trial("micro", fitted, b"", bars.test, {"litert": found}, None)  # type: ignore[arg-type]
    if refused:
        with pytest.raises(NotVerified, match="points by the conversion on litert"):
            trial.evaluate_on_test(job(bars, tmp_path), chosen)
    else:
        measured = trial.evaluate_on_test(job(bars, tmp_path), chosen)
        assert measured.accuracy.max_drop == pytest.approx(0.002 + 2 * lost**0.5 / count, abs=1e-6)
