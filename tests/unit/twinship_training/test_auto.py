"""Choosing: `--arch auto`, by measurements on the validation pictures, and never by the test."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.artefact import read
from inference.runtimes import versions
from tests.unit.twinship_training.pictures import colour_folder
from twinship_training.choose import NoneFits
from twinship_training.convert import OPTIMISATIONS
from twinship_training.data import Dataset, find
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.train import TrainResult, TrainSettings, train

Progress = Callable[[str, float], None]
Tiny = Callable[[Collection[str]], None]


@pytest.fixture
def tiny() -> Iterator[Tiny]:
    """Leaves only these architectures, each trained for moments, and asks nothing of them on the test."""
    everything = dict(ARCHITECTURES)  # put back as it was, in its order

    def leave(names: Collection[str]) -> None:
        ARCHITECTURES.clear()
        for name in names:
            each = everything[name]
            recipe = replace(each.recipes["quick"], epochs=1, pictures=2_560)
            ARCHITECTURES[name] = replace(
                each, recipes={"quick": recipe}, accuracy={("digits", "quick"): 0.0}
            )

    yield leave
    ARCHITECTURES.clear()
    ARCHITECTURES.update(everything)


def shuffled(data: Dataset) -> Dataset:
    """The same, but for the labels of the test, which are now worth nothing."""
    labels = np.random.default_rng(0).permutation(data.test.labels)
    return replace(data, test=replace(data.test, labels=labels), fingerprint="shuffled")


def check_choice(result: TrainResult, settings: TrainSettings) -> None:
    """The table holds every network; the smallest of those within the limits was shipped, as measured."""
    metrics, limits = result.metrics, settings.limits
    assert [each.architecture for each in metrics.candidates] == list(ARCHITECTURES)
    assert all(each == each.judged(limits) for each in metrics.candidates)
    passing = [each for each in metrics.candidates if not each.failed]
    chosen = min(passing, key=lambda each: each.tflite_bytes)
    artefact = read(result.artefact.read_bytes())
    assert chosen.architecture == metrics.architecture == artefact.manifest.architecture
    assert len(artefact.tflite) == chosen.tflite_bytes <= (limits.size_bytes or 0)
    assert chosen.accuracy >= (limits.accuracy or 1)
    assert all(each.architecture in result.card.read_text() for each in metrics.candidates)


@pytest.mark.long
def test_auto_chooses_by_validation_and_not_by_the_test(
    tmp_path: Path, offline: Dataset, tiny: Tiny, untold: Progress
) -> None:
    """On digits: with the labels of the test shuffled, network, epoch and weights are the same to the bit."""
    tiny(("svm", "micro"))
    limits = {"max_size_bytes": 40_000, "max_latency_ms": 10_000.0, "min_accuracy": 0.4}
    settings = TrainSettings("auto", "digits", "quick", out=tmp_path / "a", **limits)  # type: ignore[arg-type]
    first = train(settings, untold, offline)
    check_choice(first, settings)
    blind = train(replace(settings, out=tmp_path / "b"), untold, shuffled(offline)).metrics
    assert blind.accuracy.float32 < 0.3 < first.metrics.accuracy.float32
    assert blind.weights_sha256 == first.metrics.weights_sha256
    assert (blind.architecture, blind.history) == (first.metrics.architecture, first.metrics.history)
    assert [each.accuracy for each in blind.candidates] == [e.accuracy for e in first.metrics.candidates]


def test_outside_every_limit_nothing_is_shipped(
    tmp_path: Path, offline: Dataset, tiny: Tiny, untold: Progress
) -> None:
    """The error says which limit failed by how much, and no file is left."""
    tiny(("svm",))
    asked = TrainSettings("svm", "digits", "quick", max_size_bytes=1_000, out=tmp_path / "model")
    with pytest.raises(NoneFits, match=r"svm: [\d,]+ bytes are [\d,]+ more than 1,000"):
        train(asked, untold, offline)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.parametrize("optimisation", ["float16", "dynamic", "float32"])
def test_another_optimisation_can_be_shipped(
    tmp_path: Path, offline: Dataset, tiny: Tiny, untold: Progress, optimisation: str
) -> None:
    """Its artefact passes the device's proof where it loads; a runtime that is too old for it is named."""
    tiny(("svm",))
    settings = TrainSettings(
        "svm", "digits", "quick", optimisation=optimisation, out=tmp_path / "model", variants=True
    )
    metrics = train(settings, untold, offline).metrics
    manifest = read((tmp_path / "model" / "model.tflite").read_bytes()).manifest
    assert [each.optimisation for each in metrics.variants] == list(OPTIMISATIONS)
    shipped = next(each for each in metrics.variants if each.optimisation == optimisation)
    assert manifest.minimumRuntime == shipped.minimum_runtime
    assert set(metrics.proof) == set(metrics.accuracy.shipped) == set(versions()) - set(shipped.refused)
    assert shipped.refused.keys() == ({"tflite_runtime"} if optimisation == "dynamic" else set())


@pytest.mark.long
def test_auto_on_a_colour_folder(tmp_path: Path, tiny: Tiny, untold: Progress) -> None:
    """All four networks learn three classes in colour, and the choice keeps within the limits."""
    tiny(tuple(ARCHITECTURES))
    data = find(f"folder:{colour_folder(tmp_path / 'shapes', 60, width=48, height=40)}", {}, None)
    limits = {"max_size_bytes": 60_000, "max_latency_ms": 10_000.0, "min_accuracy": 0.8}
    settings = TrainSettings("auto", "folder:x", "quick", out=tmp_path / "a", **limits)  # type: ignore[arg-type]
    result = train(settings, untold, data)
    check_choice(result, settings)
    assert read(result.artefact.read_bytes()).labels == data.labels
    assert result.metrics.dataset.report.shape == (40, 48, 3)
