"""`--arch auto` chooses by measurements on validation pictures, never on test pictures."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.artefact import read
from inference.runtimes import versions
from tests.unit.twinship_training.pictures import colour_folder
from twinship_training.choose import NoneFits, check_limits
from twinship_training.convert import OPTIMISATIONS
from twinship_training.data import find
from twinship_training.data.split import Dataset
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.train import TrainResult, TrainSettings, train

Progress = Callable[[str, float], None]
Tiny = Callable[[Collection[str]], None]


@pytest.fixture
def tiny() -> Iterator[Tiny]:
    """Only these architectures exist, with very short trainings and a target of 0."""
    everything = dict(ARCHITECTURES)  # restored at the end, in its order

    def reduce_to(names: Collection[str]) -> None:
        ARCHITECTURES.clear()
        for name in names:
            each = everything[name]
            recipe = replace(each.recipes["quick"], epochs=1, pictures=2_560)
            accuracy = {"quick": {"digits": 0.0}}
            ARCHITECTURES[name] = replace(each, recipes={"quick": recipe}, accuracy=accuracy)

    yield reduce_to
    ARCHITECTURES.clear()
    ARCHITECTURES.update(everything)


def shuffled(data: Dataset) -> Dataset:
    """The same data set with the labels of the test shuffled."""
    labels = np.random.default_rng(0).permutation(data.test.labels)
    return replace(data, test=replace(data.test, labels=labels), fingerprint="shuffled")


def check_choice(result: TrainResult, settings: TrainSettings) -> None:
    """The metrics have every network; the smallest within the limits was shipped, as measured."""
    metrics, limits = result.metrics, settings.limits
    trained = [name for name in ARCHITECTURES if name not in metrics.left_out]
    assert [each.architecture for each in metrics.candidates] == trained
    assert all(each == check_limits(each, limits) for each in metrics.candidates)
    passing = [each for each in metrics.candidates if not each.failed]
    chosen = min(passing, key=lambda each: each.tflite_bytes)
    artefact = read(result.artefact.read_bytes())
    assert chosen.architecture == metrics.architecture == artefact.manifest.architecture
    assert len(artefact.tflite) == chosen.tflite_bytes <= (limits.size_bytes or 0)
    assert chosen.accuracy >= (limits.accuracy or 1)
    assert all(each.architecture in result.card.read_text() for each in metrics.candidates)


@pytest.mark.long
def test_auto_chooses_by_validation_and_not_by_the_test(
    tmp_path: Path, offline: Dataset, tiny: Tiny, no_progress: Progress
) -> None:
    """With shuffled labels of the test, network, epoch and weights are the same to the bit."""
    tiny(("svm", "micro"))
    limits = {"max_size_bytes": 40_000, "max_latency_ms": 10_000.0, "min_accuracy": 0.4}
    settings = TrainSettings("auto", "digits", "quick", out=tmp_path / "a", **limits)  # type: ignore[arg-type]
    first = train(settings, no_progress, offline)
    check_choice(first, settings)
    blind = train(replace(settings, out=tmp_path / "b"), no_progress, shuffled(offline)).metrics
    assert blind.accuracy.float32 < 0.3 < first.metrics.accuracy.float32
    assert blind.weights_sha256 == first.metrics.weights_sha256
    assert (blind.architecture, blind.history) == (first.metrics.architecture, first.metrics.history)
    assert [each.accuracy for each in blind.candidates] == [e.accuracy for e in first.metrics.candidates]


def test_outside_every_limit_nothing_is_shipped(
    tmp_path: Path, offline: Dataset, tiny: Tiny, no_progress: Progress
) -> None:
    """The error names the limit that failed and by how much, and no file is left."""
    tiny(("svm",))
    settings = TrainSettings("svm", "digits", "quick", max_size_bytes=1_000, out=tmp_path / "model")
    with pytest.raises(NoneFits, match=r"svm: [\d,]+ bytes are [\d,]+ more than 1,000"):
        train(settings, no_progress, offline)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("optimisation", ["float16", "dynamic", "float32"])
def test_another_optimisation_can_be_shipped(
    tmp_path: Path, offline: Dataset, tiny: Tiny, no_progress: Progress, optimisation: str
) -> None:
    """Its artefact passes the device's proof on runtimes that load it; a runtime that is too old is named."""
    tiny(("svm",))
    settings = TrainSettings(
        "svm", "digits", "quick", optimisation=optimisation, out=tmp_path / "model", variants=True
    )
    metrics = train(settings, no_progress, offline).metrics
    manifest = read((tmp_path / "model" / "model.tflite").read_bytes()).manifest
    assert [each.optimisation for each in metrics.variants] == list(OPTIMISATIONS)
    shipped = next(each for each in metrics.variants if each.optimisation == optimisation)
    assert manifest.minimumRuntime == shipped.minimum_runtime
    assert set(metrics.proof) == set(metrics.accuracy.shipped) == set(versions()) - set(shipped.refused)
    assert shipped.refused.keys() == ({"tflite_runtime"} if optimisation == "dynamic" else set())


@pytest.mark.long
def test_auto_on_a_colour_folder(tmp_path: Path, tiny: Tiny, no_progress: Progress) -> None:
    """All small networks learn three classes in colour, and the chosen one is within the limits."""
    tiny(tuple(ARCHITECTURES))
    data = find(f"folder:{colour_folder(tmp_path / 'shapes', 60, width=48, height=40)}", {})
    limits = {"max_size_bytes": 60_000, "max_latency_ms": 10_000.0, "min_accuracy": 0.8}
    settings = TrainSettings("auto", "folder:x", "quick", out=tmp_path / "a", **limits)  # type: ignore[arg-type]
    result = train(settings, no_progress, data)
    check_choice(result, settings)
    assert result.metrics.left_out == {"mobilenet": "it has more than 60,000 bytes"}
    assert "mobilenet was left out: it has more than 60,000 bytes" in result.card.read_text()
    assert read(result.artefact.read_bytes()).labels == data.labels
    assert result.metrics.dataset.report.shape == (40, 48, 3)
