"""MobileNetV2: where its weights come from, what stays frozen, and what its artefact declares."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.dataset.pictures import Pictures
from inference.engine import Tensor, quantise
from twinship_training.checkpoint import Checkpoint
from twinship_training.data.download import MOBILENET_FILE
from twinship_training.fit import Fitted, fit, scaled
from twinship_training.networks import mobilenet, pretrained
from twinship_training.networks.architectures import ARCHITECTURES, Recipe
from twinship_training.networks.augment import photographed
from twinship_training.networks.mobilenet import Weights, WeightsError
from twinship_training.settings import SettingsError, TrainSettings
from twinship_training.tf_import import tensorflow

SHAPE = (32, 32, 3)
CLASSES = 3


def keras_network(path: Path, **options: Any) -> Any:
    """A network of Keras's with random weights, saved to `path`."""
    _, keras = tensorflow()
    model = keras.applications.MobileNetV2(input_shape=(96, 96, 3), weights=None, **options)
    model.save_weights(path)
    return model


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with 1,000 classes, in Keras's layout."""
    path = tmp_path_factory.mktemp("weights") / "random.weights.h5"
    keras_network(path)
    return path


@pytest.fixture(scope="module")
def weights(weights_file: Path) -> Weights:
    return mobilenet.load(weights_file)


def few(count: int = 24) -> Pictures:
    """Pictures of three classes: red, green and blue ones."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    images = random.integers(0, 80, (count, *SHAPE), dtype=np.uint8)
    images[np.arange(count), :, :, labels] += 150
    return Pictures(images, labels)


def trained(weights: Weights, epochs: int, **options: Any) -> Fitted:
    """`mobilenet` after these epochs on a few pictures."""
    recipe = Recipe(epochs=epochs, batch=8, rate=0.001, augment=1.0, photographs=True)
    architecture, data = ARCHITECTURES["mobilenet"], few()
    return fit(architecture, recipe, data, data, CLASSES, 1, lambda *_: None, pretrained=weights, **options)


@pytest.mark.long
def test_weights_are_loaded_with_the_classes_of_imagenet_or_without(tmp_path: Path, weights: Weights) -> None:
    """Of a file with 1,000 classes the layers before them are taken; both layouts fill every weight."""
    path = tmp_path / "no_top.weights.h5"
    without = keras_network(path, include_top=False)
    loaded = mobilenet.load(path)
    assert all(np.array_equal(a, b) for a, b in zip(loaded, without.get_weights(), strict=True))
    assert [each.shape for each in weights] == [each.shape for each in loaded]


@pytest.mark.parametrize(
    "what", [*(pytest.param(each, marks=pytest.mark.long) for each in ("narrow", "other", "junk")), "missing"]
)
def test_weights_of_another_network_are_refused(tmp_path: Path, what: str) -> None:
    """One line names the file and the cure: of another width, of another network, no weights, no file."""
    path = tmp_path / f"{what}.weights.h5"
    if what == "narrow":
        keras_network(path, alpha=0.35)
    elif what == "other":
        ARCHITECTURES["small"].build(SHAPE, CLASSES).save_weights(path)
    elif what == "junk":
        path.write_bytes(b"no weights" * 100)
    with pytest.raises(WeightsError, match="not the weights of Keras's MobileNetV2") as raised:
        mobilenet.load(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.long
def test_a_file_that_lacks_a_layer_is_refused(tmp_path: Path, weights_file: Path) -> None:
    """No weight keeps a random number: the same file with a layer removed is not loaded."""
    import h5py  # type: ignore[import-untyped]

    path = tmp_path / "part.weights.h5"
    path.write_bytes(weights_file.read_bytes())
    with h5py.File(path, "a") as file:
        del file["layers/depthwise_conv2d_5"]
    with pytest.raises(WeightsError):
        mobilenet.load(path)


@pytest.mark.long
def test_only_the_last_blocks_and_the_head_learn(weights: Weights) -> None:
    """Batch normalisations and the first blocks keep their weights; the last blocks' do not."""
    fitted = trained(weights, epochs=1)
    features = fitted.model.get_layer(mobilenet.FEATURES)
    before = ARCHITECTURES["mobilenet"].build(SHAPE, CLASSES)
    mobilenet.begin(before, weights)
    learns, seen = False, 0
    for layer, old in zip(features.layers, before.get_layer(mobilenet.FEATURES).layers, strict=True):
        learns = learns or layer.name == mobilenet.FIRST_TRAINED
        same = [np.array_equal(a, b) for a, b in zip(layer.get_weights(), old.get_weights(), strict=True)]
        frozen = not learns or type(layer).__name__ == "BatchNormalization"
        assert all(same) if frozen else not any(same)
        seen += not frozen and bool(same)
    assert seen == 3 * 4 + 1  # convolutions of four blocks, and the last one
    assert fitted.parameters > 2_200_000  # the frozen ones count too


@pytest.mark.long
def test_a_resumed_training_ends_at_the_same_weights(weights: Weights) -> None:
    """From the checkpoint of the first of two epochs; after one epoch the weights are others."""
    checkpoints: list[Checkpoint] = []
    whole = trained(weights, 2, on_epoch=checkpoints.append)
    resumed = trained(weights, 2, resume_from=checkpoints[0])
    assert resumed.weights_sha256 == whole.weights_sha256
    assert trained(weights, 1).weights_sha256 != whole.weights_sha256


def test_the_manifest_declares_the_normalisation() -> None:
    """-1 to 1: the device's table has the numbers of the training."""
    spec = mobilenet.spec(SHAPE)
    pixels = np.arange(256, dtype=np.uint8)
    table = quantise(spec, Tensor(0, (1, *SHAPE), np.dtype(np.float32), 0.0, 0))
    assert np.allclose(table, scaled(pixels, spec), atol=1e-6)
    assert (table[0], table[255]) == pytest.approx((-1, 1))


def test_photographs_are_distorted_differently_and_by_the_seed() -> None:
    """uint8 in, uint8 out, grey too; the same generator gives the same pictures; strength 0 changes none."""
    images = np.repeat(few().images[:1], 12, axis=0)
    changed = photographed(images, 1.0, np.random.default_rng(1))
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    assert len({each.tobytes() for each in changed}) == 12
    assert np.array_equal(changed, photographed(images, 1.0, np.random.default_rng(1)))
    assert not np.array_equal(changed, photographed(images, 1.0, np.random.default_rng(2)))
    assert photographed(images[..., :1], 1.0, np.random.default_rng(1)).shape == (12, 32, 32, 1)
    assert photographed(images, 0.0, np.random.default_rng(1)) is images


def test_photographs_are_flipped() -> None:
    """About half of the pictures that are bright on the left become bright on the right."""
    images = np.zeros((200, *SHAPE), np.uint8)
    images[:, :, :10] = 200
    changed = photographed(images, 1.0, np.random.default_rng(1)).astype(int)
    right = (changed[:, :, 16:].sum(axis=(1, 2, 3)) > changed[:, :, :16].sum(axis=(1, 2, 3))).mean()
    assert 0.35 < right < 0.65


def offline(name: str, folder: Path) -> str | None:
    return "no route to host"


def never(name: str, folder: Path) -> str | None:
    raise AssertionError("a download was tried")


def test_without_weights_one_line_says_what_to_do(tmp_path: Path) -> None:
    """It names the file in Keras's cache, why the download failed, and --weights."""
    with pytest.raises(WeightsError, match=r"no_top\.h5 does not exist .*no route to host.*--weights FILE"):
        pretrained.find(None, {"KERAS_HOME": str(tmp_path)}, offline)


def test_keras_cache_and_the_option_need_no_download(
    tmp_path: Path, weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of --weights is taken first, then the one in Keras's cache."""
    found: list[Path] = []
    monkeypatch.setattr(mobilenet, "load", found.append)
    cached = tmp_path / "models" / MOBILENET_FILE
    cached.parent.mkdir()
    cached.write_bytes(b"")
    environment = {"KERAS_HOME": str(tmp_path)}
    pretrained.find(weights_file, environment, never)
    pretrained.find(None, environment, never)
    assert found == [weights_file, cached]


@pytest.mark.parametrize(
    ("shape", "max_bytes", "why"),
    [
        ((28, 28, 1), None, "the pictures are grey"),
        (SHAPE, 22_000, "it has more than 22,000 bytes"),
        (SHAPE, None, "no ImageNet weights: .* use --weights FILE .*"),
    ],
)
def test_auto_leaves_the_network_out_and_says_why(
    tmp_path: Path, shape: tuple[int, int, int], max_bytes: int | None, why: str
) -> None:
    """For grey pictures, below its size, and without weights; else it takes part."""
    environment = {"KERAS_HOME": str(tmp_path)}
    found = pretrained.for_auto(shape, max_bytes, lambda: pretrained.find(None, environment, offline))
    assert found.weights == []
    assert list(found.left_out) == ["mobilenet"]
    assert re.fullmatch(why, found.left_out["mobilenet"])
    some: Weights = [np.zeros(1, np.float32)]
    fits = pretrained.for_auto(SHAPE, 3_000_000, lambda: some)
    assert (fits.weights, fits.left_out) == (some, {})


def test_settings_know_the_sides_and_the_weights(tmp_path: Path) -> None:
    """Photographs may have 224 pixels and have 160; --weights with another network is an error."""
    settings = TrainSettings("mobilenet")
    assert (settings.side, replace(settings, max_side=224).side, TrainSettings("auto").side) == (160, 224, 96)
    with pytest.raises(SettingsError, match="side 225: 28 to 224 pixels"):
        replace(settings, max_side=225)
    with pytest.raises(SettingsError, match="--weights: micro begins without"):
        TrainSettings("micro", weights=tmp_path)
    assert f"--weights {tmp_path}" in replace(settings, weights=tmp_path).command
