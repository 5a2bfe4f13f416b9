"""Which pictures to learn from, where they came from and why these: MNIST if it can be had, else digits.

Order: the file that MNIST_NPZ names, Keras's own cache, a short download, scikit-learn's digits scaled up.
Every answer says which and why. Distorting pictures for training is `fit`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training import TrainingError
from training.download import download

SIDE: Final = 28
BOX: Final = 20
LABELS: Final = tuple("0123456789")
CHOICES: Final = ("auto", "mnist", "digits")
MNIST_KEYS: Final = ("x_train", "y_train", "x_test", "y_test")
MIN_TRAINING, MIN_TEST = 100, 10  # less than this is a mistake and no data set

DIGITS_TEST: Final = 500  # of 1,797: as many as the frames that a model is demonstrated with
MAX_VALIDATION: Final = 5_000
VALIDATION_SHARE: Final = 0.1
# The splits do not move with the training seed: models of different seeds are compared on the same pictures.
SPLIT_SEED: Final = 20_260_101


class DataError(TrainingError):
    """The data set that was asked for cannot be had, or is not what it should be."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """`images` uint8 (count, 28, 28, 1) as a camera would send them; `labels` int64 (count,), 0 to 9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one picture: height, width, channels."""
        height, width, channels = self.images.shape[1:]
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Pictures:
        """Those at these places, in this order."""
        return Pictures(self.images[index], self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """What to learn from (`train`), to choose by (`validation`) and to be judged by, once (`test`)."""

    name: str  # "mnist" or "digits": which targets hold
    source: str  # where it came from, in words
    why: str  # and why from there
    train: Pictures
    validation: Pictures
    test: Pictures
    fingerprint: str  # sha256 over every picture and label before they were split


Download = Callable[[Path], str | None]
"""Puts MNIST at a path and returns None, or returns why it could not."""


def find(choice: str, environment: Mapping[str, str], fetch: Download | None = download) -> Dataset:
    """The data set for "auto", "mnist" or "digits"; `fetch` None: try no download.

    Raises DataError: an unknown choice, a file of another layout, or "mnist" and nowhere to take it from.
    """
    if choice not in CHOICES:
        raise DataError(f"data set {choice!r} is unknown: use {', '.join(CHOICES)}")
    if choice == "digits":
        return digits("it was asked for")
    if named := environment.get("MNIST_NPZ"):
        return mnist(Path(named), f"the file {named}", "MNIST_NPZ names it")
    cache = keras_cache(environment)
    if cache.exists():
        return mnist(cache, f"Keras's cache {cache}", "it was there already, and MNIST_NPZ is not set")
    failure = fetch(cache) if fetch else "no download was tried"
    if failure is None:
        why = "MNIST_NPZ is not set and Keras's cache was empty"
        return mnist(cache, f"Keras's download, now in {cache}", why)
    absent = f"MNIST_NPZ is not set, {cache} does not exist and the download failed ({failure})"
    if choice == "mnist":
        raise DataError(f"MNIST cannot be had: {absent}; name a file with MNIST_NPZ, or ask for digits")
    return digits(absent)


def keras_cache(environment: Mapping[str, str]) -> Path:
    """Where keras.datasets.mnist keeps its file."""
    home = environment.get("KERAS_HOME")
    folder = Path(home) if home else Path(environment.get("HOME", "~")).expanduser() / ".keras"
    return folder / "datasets" / "mnist.npz"


def mnist(path: Path, source: str, why: str) -> Dataset:
    """MNIST, or anything in the same layout, from Keras's mnist.npz; raises DataError."""
    arrays = _load(path)
    train = _pictures(path, "train", arrays, MIN_TRAINING)
    test = _pictures(path, "test", arrays, MIN_TEST)
    return _split("mnist", source, why, train, test)


def digits(reason: str) -> Dataset:
    """scikit-learn's 1,797 digits, 8×8 in 17 greys, scaled to 28×28 as MNIST's are; 500 are held out."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]

    small, labels = load_digits(return_X_y=True)
    grey = np.rint(small.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    images = np.stack([_scaled(picture) for picture in grey])[..., np.newaxis]
    everything = Pictures(images, labels.astype(np.int64))
    rest, test = _stratified(everything, DIGITS_TEST)
    return _split("digits", "scikit-learn's digits, 8×8 scaled to 28×28", reason, rest, test)


def spread(pictures: Pictures, count: int) -> Pictures:
    """At most `count` of these, evenly spaced: MNIST's second half is harder than its first."""
    places = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(np.int64)
    return pictures.take(places)


def _load(path: Path) -> dict[str, NDArray[Any]]:
    cure = f"want Keras's mnist.npz: {', '.join(MNIST_KEYS)}, uint8"
    try:
        # Opened here, because np.load leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if missing := [key for key in MNIST_KEYS if key not in getattr(archive, "files", ())]:
                raise DataError(f"{path}: no {missing[0]} in it; {cure}")
            return {key: archive[key] for key in MNIST_KEYS}
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; name another with MNIST_NPZ, or unset it") from error
    except DataError:
        raise
    except (
        Exception
    ) as error:  # numpy raises nearly anything: ValueError, TokenError, zlib.error, BadZipFile …
        raise DataError(f"{path}: not a readable .npz ({_one_line(error)}); {cure}") from error


def _pictures(path: Path, part: str, arrays: Mapping[str, NDArray[Any]], minimum: int) -> Pictures:
    images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise DataError(f"{path}: x_{part} is {_shape(images)}, not uint8 (count, {SIDE}, {SIDE})")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(f"{path}: y_{part} is {_shape(labels)}, not one whole number for each picture")
    if len(labels) < minimum:
        raise DataError(f"{path}: {len(labels)} pictures in x_{part}, at least {minimum} are needed")
    if labels.min() < 0 or labels.max() >= len(LABELS):
        raise DataError(
            f"{path}: y_{part} holds {labels.min()} to {labels.max()}, not 0 to {len(LABELS) - 1}"
        )
    return Pictures(images[..., np.newaxis], labels.astype(np.int64))


def _split(name: str, source: str, why: str, pictures: Pictures, test: Pictures) -> Dataset:
    train, validation = _stratified(pictures, min(MAX_VALIDATION, int(len(pictures) * VALIDATION_SHARE)))
    return Dataset(name, source, why, train, validation, test, _fingerprint(pictures, test))


def _stratified(pictures: Pictures, count: int) -> tuple[Pictures, Pictures]:
    """All but `count` of these, and those `count`: every label keeps its share, the order is kept."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pictures))
    by_label = order[np.argsort(pictures.labels[order], kind="stable")]
    held = by_label[((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)]
    return pictures.take(np.setdiff1d(order, held)), pictures.take(np.sort(held))


def _fingerprint(*parts: Pictures) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.images.shape}\n".encode())
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(part.labels.astype("<i8").tobytes())
    return digest.hexdigest()


def _scaled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """As MNIST places them: a box of 20×20 in the middle of 28×28, so that a model knows both."""
    box = Image.fromarray(picture).resize((BOX, BOX), Image.Resampling.BILINEAR)
    return np.pad(np.asarray(box, dtype=np.uint8), (SIDE - BOX) // 2)


def _shape(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
