"""The sources of pictures, their order, and the errors for damaged or foreign files."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.dataset.choice import keras_cache
from inference.dataset.pictures import DataError, input_spec
from inference.frames.preprocess import prepare
from tests.unit.twinship_training.pictures import arrays, bars, mnist, pictures, write_npz
from twinship_training.data import find
from twinship_training.data.split import Dataset, spread


def never(name: str, folder: Path) -> str | None:
    """A download that must not happen."""
    raise AssertionError(f"downloaded {name} to {folder}")


def fails(name: str, folder: Path) -> str | None:
    """A download without a network."""
    return "no network"


def arrives(name: str, folder: Path) -> str | None:
    """A download that works."""
    write_npz(folder / "mnist.npz")
    return None


def test_mnist_npz_is_used_first(tmp_path: Path) -> None:
    """MNIST_NPZ has priority over Keras's cache, and nothing is downloaded."""
    named = write_npz(tmp_path / "mine.npz")
    write_npz(tmp_path / "datasets" / "mnist.npz")
    found = find("auto", {"MNIST_NPZ": str(named), "KERAS_HOME": str(tmp_path)}, never)
    assert found.name == "mnist"
    assert str(named) in found.source
    assert "MNIST_NPZ" in found.why


def test_the_keras_cache_is_used_second(tmp_path: Path) -> None:
    """A file that Keras downloaded before is used, and nothing is downloaded."""
    cache = write_npz(tmp_path / "datasets" / "mnist.npz")
    found = find("auto", {"KERAS_HOME": str(tmp_path)}, never)
    assert str(cache) in found.source
    assert "cache" in found.source


def test_the_download_is_used_third(tmp_path: Path) -> None:
    """Without file and cache the data set is downloaded, and the source says so."""
    found = find("mnist", {"KERAS_HOME": str(tmp_path)}, arrives)
    assert "download" in found.source
    assert found.name == "mnist"


def test_digits_are_used_last_and_say_why(tmp_path: Path) -> None:
    """Without MNIST the digits are used, with the reason for each source that was not."""
    found = find("auto", {"KERAS_HOME": str(tmp_path)}, fails)
    assert found.name == "digits"
    assert "scikit-learn" in found.source
    for word in ("MNIST_NPZ", str(keras_cache({"KERAS_HOME": str(tmp_path)}) / "mnist.npz"), "no network"):
        assert word in found.why


def test_mnist_is_not_replaced_by_digits(tmp_path: Path) -> None:
    """`--dataset mnist` gives MNIST or an error with the cure."""
    with pytest.raises(DataError, match=r"no network.*MNIST_NPZ"):
        find("mnist", {"KERAS_HOME": str(tmp_path)}, fails)


def test_digits_need_no_download_and_no_file(tmp_path: Path) -> None:
    """`--dataset digits` downloads nothing and reads no file."""
    found = find("digits", {"MNIST_NPZ": str(tmp_path / "absent"), "KERAS_HOME": str(tmp_path)}, never)
    assert (found.name, found.why) == ("digits", "--dataset names them")


def test_an_unknown_choice_is_named() -> None:
    """An unknown choice is an error, not a default."""
    with pytest.raises(DataError, match="'cifar' is unknown"):
        find("cifar", {}, never)


def test_the_folder_of_the_keras_cache() -> None:
    """KERAS_HOME if it is set, else ~/.keras, as in Keras."""
    assert keras_cache({"HOME": "/h"}) == Path("/h/.keras/datasets")
    assert keras_cache({"HOME": "/h", "KERAS_HOME": "/k"}) == Path("/k/datasets")
    assert keras_cache({"KERAS_HOME": "/k"}, "fashion_mnist") == Path("/k/datasets/fashion-mnist")


def write_idx(folder: Path) -> None:
    """Fashion-MNIST's four files, filled with bars."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"train": bars(200), "t10k": bars(50, seed=1)}
    for prefix, (images, labels) in content.items():
        for name, values in ((f"{prefix}-images-idx3", images), (f"{prefix}-labels-idx1", labels)):
            head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(head + values.tobytes()))


def test_fashion_mnist_is_read_as_keras_stores_it(tmp_path: Path) -> None:
    """Four IDX files in Keras's cache, or an .npz that FASHION_MNIST_NPZ names; labels are garments."""
    write_idx(tmp_path / "datasets" / "fashion-mnist")
    cached = find("fashion_mnist", {"KERAS_HOME": str(tmp_path)}, never)
    named = write_npz(tmp_path / "mine.npz")
    other = find("fashion_mnist", {"FASHION_MNIST_NPZ": str(named)}, never)
    assert cached.fingerprint == other.fingerprint == mnist(named).fingerprint
    assert cached.labels[0] == "T-shirt/top"
    assert len(set(cached.labels)) == 10


@pytest.mark.parametrize(
    "body",
    [b"", b"no gzip", gzip.compress(b"\0\0\x08\x03"), gzip.compress(b"\0" * 99)],
    ids=["empty", "no gzip", "too short", "of another kind"],
)
def test_a_damaged_idx_file_is_one_clear_error(tmp_path: Path, body: bytes) -> None:
    """The error names the file and the cure: a removed file is downloaded again."""
    folder = tmp_path / "datasets" / "fashion-mnist"
    write_idx(folder)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(body)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz.*remove it|x_test is"):
        find("fashion_mnist", {"KERAS_HOME": str(tmp_path)}, never)


def test_an_npz_may_have_any_shape_and_classes(tmp_path: Path) -> None:
    """Colour, any size, any number of classes: shape and labels come from the file."""
    draw = np.random.default_rng(0)
    content = {
        "x_train": draw.integers(0, 256, (120, 40, 32, 3), dtype=np.uint8),
        "y_train": np.arange(120)[:, None] % 4,  # the shape in Keras's cifar10
        "x_test": draw.integers(0, 256, (12, 40, 32, 3), dtype=np.uint8),
        "y_test": np.arange(12) % 4,
    }
    found = find(f"npz:{write_npz(tmp_path / 'own.npz', content)}", {}, never)
    assert found.train.shape == (40, 32, 3)
    assert found.labels == ("0", "1", "2", "3")
    assert np.array_equal(found.test.images, content["x_test"])


def test_pictures_outside_the_limits_are_scaled_by_the_devices_code(tmp_path: Path) -> None:
    """`prepare` reduces pictures above 96 pixels and enlarges those below 28, and keeps the proportions."""
    draw = np.random.default_rng(0)
    for side, shape in ((200, (96, 48, 1)), (20, (56, 28, 1))):
        large = draw.integers(0, 256, (110, side, side // 2), dtype=np.uint8)
        labels = np.arange(110) % 2
        content = {"x_train": large, "y_train": labels, "x_test": large[:20], "y_test": labels[:20]}
        found = find(f"npz:{write_npz(tmp_path / f'{side}.npz', content)}", {}, never)
        assert found.test.shape == shape
        assert np.array_equal(found.test.images[3], prepare(large[3][..., None], input_spec(shape)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_train": np.zeros(200, np.int64)}, "y_train has 1 classes"),
        ({"y_train": np.arange(200) % 9 + (np.arange(200) % 9 > 3)}, "no picture of class 4"),
        ({"y_test": np.arange(50) % 11}, "holds 0 to 10, not 0 to 9"),
        ({"x_train": np.zeros((200, 28, 28, 2), np.uint8)}, "2 channels"),
        ({"x_train": np.zeros((200, 30, 28), np.uint8)}, "x_test"),
        ({"x_train": np.zeros((200, 28, 28), np.uint16)}, "x_train is uint16"),
        ({"y_train": np.array([], np.int64)}, "y_train has 0 classes"),
    ],
)
def test_a_bad_npz_is_one_clear_error(tmp_path: Path, changed: Any, message: str) -> None:
    """One class, an empty or unknown class, wrong channels, sizes or types: the file and the fault."""
    path = write_npz(tmp_path / "odd.npz", arrays() | changed)
    with pytest.raises(DataError, match=message) as caught:
        find(f"npz:{path}", {}, never)
    assert str(path) in str(caught.value)


def test_digits_look_like_mnist(offline: Dataset) -> None:
    """28×28 grey, the digit in the middle 20×20, the whole range of greys."""
    images = np.concatenate([offline.train.images, offline.validation.images, offline.test.images])
    assert images.shape == (1797, 28, 28, 1)
    assert images.dtype == np.uint8
    assert images.max() == 255
    images[:, 4:24, 4:24] = 0
    assert images.max() == 0


def test_five_hundred_digits_are_held_out(offline: Dataset) -> None:
    """500 test pictures, every label with its share; no picture is in two splits."""
    assert len(offline.test) == 500
    assert np.bincount(offline.test.labels).min() >= 45
    splits = [
        {image.tobytes() for image in split.images}
        for split in (offline.train, offline.validation, offline.test)
    ]
    assert sum(len(split) for split in splits) == len(set.union(*splits))


def test_the_split_is_fixed(offline: Dataset) -> None:
    """Two trainings have the same test pictures."""
    again = find("digits", {}, never)
    assert again.fingerprint == offline.fingerprint
    assert np.array_equal(again.test.images, offline.test.images)


def test_validation_is_taken_from_the_training_data(tmp_path: Path) -> None:
    """The test is the file's own, complete and in its order; a tenth of the rest is the validation."""
    content = arrays(train=300, test=40)
    found = mnist(write_npz(tmp_path / "a.npz", content))
    assert (len(found.train), len(found.validation), len(found.test)) == (270, 30, 40)
    assert np.array_equal(found.test.images[..., 0], content["x_test"])
    assert np.bincount(found.validation.labels).tolist() == [3] * 10


def test_one_changed_pixel_changes_the_fingerprint(tmp_path: Path) -> None:
    """A result is reused only for exactly the same pictures."""
    content = arrays()
    before = mnist(write_npz(tmp_path / "a.npz", content)).fingerprint
    content["x_test"][7, 3, 3] ^= 1
    assert mnist(write_npz(tmp_path / "b.npz", content)).fingerprint != before


Change = Callable[[dict[str, NDArray[Any]]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("y_test"), "no y_test in it"),
        (lambda content: content.update(x_train=content["x_train"].astype(float)), "x_train is float64"),
        (lambda content: content.update(x_test=content["x_test"][:, :27]), r"\(50, 27, 28\)"),
        (lambda content: content.update(x_test=content["x_test"][..., None]), r"\(50, 28, 28, 1\)"),
        (lambda content: content.update(y_train=content["y_train"][:-1]), "not one whole number for each"),
        (lambda content: content.update(y_train=content["y_train"].astype(float)), "y_train is float64"),
        (lambda content: content.update(y_test=content["y_test"] + 1), "1 to 10, not 0 to 9"),
        (lambda content: content.update(arrays(train=99)), "99 pictures in x_train, at least 100"),
        (lambda content: content.update(arrays(test=9)), "9 pictures in x_test, at least 10"),
        (lambda content: content.update(y_test=np.array([{}], object)), "not a readable .npz"),
    ],
)
def test_another_layout_is_one_clear_error(tmp_path: Path, change: Change, message: str) -> None:
    """A missing key, a wrong shape, type or range, pickled objects: the file and the fault, in one line."""
    content = arrays()
    change(content)
    path = write_npz(tmp_path / "odd.npz", content)
    with pytest.raises(DataError, match=message) as caught:
        mnist(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04 cut", b"not a zip file at all", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_npz_is_one_clear_error(tmp_path: Path, body: bytes) -> None:
    """Any bytes that are no .npz give a DataError."""
    path = tmp_path / "mnist.npz"
    path.write_bytes(body)
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        mnist(path)


def test_every_truncated_file_is_one_clear_error(tmp_path: Path) -> None:
    """A truncated download is never read as a data set."""
    whole = write_npz(tmp_path / "whole.npz").read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            mnist(path)


def test_every_damaged_header_is_one_clear_error(tmp_path: Path) -> None:
    """A damaged byte in numpy's or zip's headers gives a DataError and no other exception."""
    whole = write_npz(tmp_path / "whole.npz", arrays(train=100, test=10)).read_bytes()
    path = tmp_path / "damaged.npz"
    draw = np.random.default_rng(0)
    for place in draw.choice(160, 60, replace=False):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 8]) + whole[place + 1 :])
        with suppress(DataError):
            mnist(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    """numpy can load a .npy file, but it is not a data set."""
    path = tmp_path / "mnist.npy"
    np.save(path, np.zeros(3))
    with pytest.raises(DataError):
        mnist(path)


def test_a_missing_mnist_npz_is_an_error(tmp_path: Path) -> None:
    """A wrong path in MNIST_NPZ does not select another data set."""
    with pytest.raises(DataError, match="no such file"):
        find("auto", {"MNIST_NPZ": str(tmp_path / "typo.npz")}, never)


def test_spread_covers_first_to_last() -> None:
    """Evenly spaced pictures, each once, at most all of them."""
    ten = pictures(list(range(10)))
    assert spread(ten, 4).labels.tolist() == [0, 3, 6, 9]
    assert spread(ten, 99).labels.tolist() == list(range(10))
