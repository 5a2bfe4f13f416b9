"""The training loop: the pictures of an epoch, their distortion, the seed, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.dataset.pictures import Pictures, Shape, input_spec
from inference.frames.preprocess import prepare
from tests.unit.twinship_training.pictures import LABELS, dataset, pictures
from twinship_training.checkpoint import Checkpoint, CheckpointFolder
from twinship_training.fit import Fitted, ProgressReporter, fit, scaled
from twinship_training.networks.architectures import ARCHITECTURES, Architecture, Recipe
from twinship_training.networks.augment import augmented, epoch_pictures, transforms
from twinship_training.tf_import import THREADS, tensorflow
from twinship_training.trainer import AVERAGED_EVERY

TINY = Recipe(epochs=2, batch=16, rate=0.01, augment=0.5, pictures=64)
Progress = Callable[[str, float], None]


def linear(shape: Shape, classes: int) -> Any:
    """One dense layer: quick to build, with initial weights that depend on the seed."""
    _, keras = tensorflow()
    flatten, dense = keras.layers.Flatten(), keras.layers.Dense(classes, activation="softmax")
    return keras.Sequential([keras.Input(shape), flatten, dense])


def normalised(shape: Shape, classes: int) -> Any:
    """A network with layers that have a state: batch normalisation and dropout."""
    _, keras = tensorflow()
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(12),
            layers.BatchNormalization(),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def fitted(
    folder: Path, seed: int, recipe: Recipe = TINY, progress: Progress | None = None, **options: Any
) -> Fitted:
    """`linear` after two short epochs on bars."""
    data = dataset(folder)
    architecture = Architecture("linear", linear, {"full": recipe}, {})
    progress = progress or (lambda text, share: None)
    return fit(architecture, recipe, data.train, data.validation, len(LABELS), seed, progress, **options)


def test_the_seed_decides(tmp_path: Path) -> None:
    """Weights, order and distortions depend on the seed only: the same seed gives the same model."""
    first, again, other = (fitted(tmp_path, seed).weights_sha256 for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("average", [0, pytest.param(64, marks=pytest.mark.long)])
def test_a_resumed_training_ends_at_the_same_weights(tmp_path: Path, average: int) -> None:
    """From the checkpoint of any epoch: weights, optimizer, order, distortions and average continue."""
    recipe = replace(TINY, epochs=3, pictures=192, average=average)  # 12 steps an epoch, 16 between averages
    data, folder = dataset(tmp_path), CheckpointFolder(tmp_path / "checkpoint", "", "")
    architecture = Architecture("normalised", normalised, {"full": recipe}, {})
    checkpoints: list[Checkpoint] = []

    def run(on_epoch: Callable[[Checkpoint], None], resume_from: Checkpoint | None = None) -> Fitted:
        return fit(
            architecture,
            recipe,
            data.train,
            data.validation,
            len(LABELS),
            1,
            lambda text, share: None,
            on_epoch=on_epoch,
            resume_from=resume_from,
        )

    whole = run(checkpoints.append)
    assert len(checkpoints) == len(whole.checkpoint.loss) == 3
    for before in checkpoints:
        folder.write("normalised", before)
        resumed = run(lambda checkpoint: None, folder.read()["normalised"])
        assert resumed.weights_sha256 == whole.weights_sha256
        for name in ("loss", "validation", "best"):
            assert getattr(resumed.checkpoint, name) == getattr(whole.checkpoint, name)


def test_evaluated_weights_are_an_average(tmp_path: Path) -> None:
    """With an average over 160 steps, every sixteenth step's weights count a tenth."""
    recipe = replace(TINY, epochs=3, batch=4, average=10 * AVERAGED_EVERY)  # 16 steps an epoch
    checkpoints: list[Checkpoint] = []
    fitted(tmp_path, 1, recipe, on_epoch=checkpoints.append)
    expected = [each.astype(np.float64) for each in checkpoints[0].state[:2]]  # kernel, bias
    for checkpoint in checkpoints[1:]:
        expected = [0.9 * old + 0.1 * new for old, new in zip(expected, checkpoint.state, strict=False)]
    for found, want in zip(checkpoints[-1].average, expected, strict=True):
        assert np.allclose(found, want, atol=1e-6)
    assert not np.allclose(checkpoints[-1].average[0], checkpoints[-1].state[0], atol=1e-3)


def test_the_number_of_cores_decides_nothing() -> None:
    """TensorFlow uses the same number of threads on every machine."""
    tf, _ = tensorflow()
    assert tf.config.threading.get_intra_op_parallelism_threads() == THREADS


def test_the_result_is_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch with the highest accuracy on the validation pictures; of equals, the later one."""
    right = iter((True, False, True, False))

    def planned(model: Any, validation: Pictures, _spec: Any) -> Any:
        return np.eye(10)[(validation.labels + (not next(right))) % 10]

    monkeypatch.setattr("twinship_training.fit.float_outputs", planned)
    checkpoints: list[Checkpoint] = []
    four = fitted(tmp_path, 1, replace(TINY, epochs=4), on_epoch=checkpoints.append)
    assert (four.checkpoint.best, four.checkpoint.validation) == (3, (1.0, 0.0, 1.0, 0.0))
    for found, third, last in zip(
        four.model.get_weights(), checkpoints[2].state[:2], checkpoints[3].state[:2], strict=True
    ):
        assert np.array_equal(found, third / np.float32(four.temperature))
        assert not np.allclose(found, last / np.float32(four.temperature))


def test_progress_reports_epoch_share_and_time(tmp_path: Path) -> None:
    """The last step of every epoch is reported; the share grows to 1."""
    reports: list[tuple[str, float]] = []
    fitted(tmp_path, 1, progress=lambda text, share: reports.append((text, share)))
    texts = [text for text, _ in reports]
    assert any(text.startswith("epoch 1 of 2, 100%") for text in texts)
    assert texts[-1] == "epoch 2 of 2, 100%, 0 s left"
    assert reports[-1][1] == 1.0


def test_a_resumed_training_reports_the_time_that_is_left() -> None:
    """The share continues; the time left is estimated from this run's own steps: 1 s each, 7 to go."""
    clock = iter([10.0, 11.0, 12.0])
    reports: list[tuple[str, float]] = []

    def progress(text: str, share: float) -> None:
        reports.append((text, share))

    reporter = ProgressReporter(progress, epochs=10, steps=2, clock=lambda: next(clock))
    for epoch, step in ((6, 1), (6, 2), (7, 1)):
        reporter(epoch, step)
    assert reports == [
        ("epoch 6 of 10, 50%", 0.55),
        ("epoch 6 of 10, 100%, 8 s left", 0.6),
        ("epoch 7 of 10, 50%, 7 s left", 0.65),
    ]


def test_an_epoch_has_every_picture_once() -> None:
    """Without a number in the recipe, an epoch is the training data in a new order."""
    shown = epoch_pictures(pictures(list(range(10))), replace(TINY, pictures=None), np.random.default_rng(0))
    assert sorted(shown.labels) == list(range(10))
    assert shown.labels.tolist() != list(range(10))
    assert np.array_equal(shown.images[:, 0, 0, 0], shown.labels)


@pytest.mark.parametrize(("wanted", "fewest"), [(4, 0), (25, 2)])
def test_an_epoch_may_be_shorter_or_longer_than_the_data(wanted: int, fewest: int) -> None:
    """The recipe's number of pictures, spread evenly over the data."""
    shown = epoch_pictures(
        pictures(list(range(10))), replace(TINY, pictures=wanted), np.random.default_rng(0)
    )
    counts = np.bincount(shown.labels, minlength=10)
    assert counts.sum() == wanted
    assert set(counts) == {fewest, fewest + 1}


def test_pictures_are_scaled_as_the_device_scales_them() -> None:
    """0 to 1, as the manifest declares; the device need not change such a picture."""
    black_to_white = np.arange(28 * 28, dtype=np.uint32).astype(np.uint8).reshape(1, 28, 28, 1)
    spec = input_spec((28, 28, 1))
    values = scaled(black_to_white, spec)
    assert values.dtype == np.float32
    assert np.allclose(values, black_to_white * spec.scale + spec.offset)
    assert (float(values.min()), float(values.max())) == (0.0, 1.0)
    assert np.array_equal(prepare(black_to_white[0], spec), black_to_white[0])


def test_without_augmentation_pictures_are_unchanged() -> None:
    """Strength 0 copies nothing."""
    images = pictures([1, 2, 3]).images
    assert augmented(images, 0.0, np.random.default_rng(0)) is images


def test_distortion_stays_within_its_limits() -> None:
    """Corners of the 20×20 box move at most as far as the limits of angle, scale, shear and shift allow."""
    rows = transforms(2_000, 1.0, np.random.default_rng(0), (28, 28)).astype(np.float64)
    corners = np.array([(x, y, 1.0) for x in (4, 23) for y in (4, 23)])
    moved = np.einsum("nij,kj->nki", rows[:, :6].reshape(-1, 2, 3), corners)
    distance = np.linalg.norm(moved - corners[:, :2], axis=2)
    assert distance.max() < 9.5 * np.sqrt(2) * (np.sin(np.radians(10)) + 0.1 + 0.1) + 2 * np.sqrt(2) + 0.5
    assert distance.max(axis=1).min() > 0


def test_distortion_rotates_about_the_middle() -> None:
    """On average the middle of a picture does not move."""
    rows = transforms(20_000, 1.0, np.random.default_rng(0), (28, 28)).astype(np.float64)
    middle = rows[:, :6].reshape(-1, 2, 3) @ np.array([13.5, 13.5, 1.0])
    assert np.abs(middle.mean(axis=0) - 13.5).max() < 0.05
    assert np.abs(middle - 13.5).max() <= 2.0 + 1e-4


def test_distortion_changes_pictures_and_keeps_their_type(tmp_path: Path) -> None:
    """uint8 in, uint8 out; each picture is distorted differently."""
    images = np.repeat(dataset(tmp_path).train.images[:1], 2, axis=0)
    moved = augmented(images, 1.0, np.random.default_rng(0))
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
    assert not np.array_equal(moved[0], images[0])
    assert not np.array_equal(moved[0], moved[1])


def test_the_seed_architecture_is_the_one_of_the_article() -> None:
    """Two convolutions with poolings, a dense layer of 128, 10 outputs."""
    model = ARCHITECTURES["seed"].build((28, 28, 1), 10)
    shapes = [tuple(weight.shape) for weight in model.get_weights()]
    assert shapes[::2] == [(3, 3, 1, 32), (3, 3, 32, 64), (1600, 128), (128, 10)]
    assert [layer.__class__.__name__ for layer in model.layers] == [
        *("Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "Flatten", "Dense", "Dense")
    ]
    assert ARCHITECTURES["seed"].recipes["full"] == Recipe(epochs=5, batch=128, rate=0.004, augment=0.5)
