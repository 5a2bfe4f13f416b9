"""From the text of `--dataset` to pictures. `auto` means MNIST if available, else scikit-learn's digits.

For MNIST and Fashion-MNIST the order is: the file that MNIST_NPZ or FASHION_MNIST_NPZ names, Keras's cache, a
download. The caller passes download and digits in, because they come with twinship-training. The origin of
the pictures says what was taken and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from inference.dataset.archives import keras_set, npz
from inference.dataset.folders import folder
from inference.dataset.pictures import DataError, Shaping, SourceData

CHOICES: Final = ("auto", "mnist", "fashion_mnist", "digits", "folder:PATH", "npz:FILE")
#: Keras's data set → the variable that names its file.
VARIABLES: Final = {"mnist": "MNIST_NPZ", "fashion_mnist": "FASHION_MNIST_NPZ"}
#: Keras's data set → its folder in Keras's cache.
CACHE_FOLDERS: Final = {"mnist": "", "fashion_mnist": "fashion-mnist"}
#: Keras's data set → its files there, in the order of `archives.KEYS`.
CACHE_FILES: Final = {
    "mnist": ("mnist.npz",),
    "fashion_mnist": (
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
    ),
}
#: The choices that take a path → their readers.
READERS: Final = {"folder": folder, "npz": npz}
NOT_INSTALLED: Final = "twinship-training is not installed"

Download = Callable[[str, Path], str | None]
"""Puts the files of a Keras data set into a folder and returns None, or returns why it could not."""
Digits = Callable[[str], SourceData]
"""scikit-learn's digits; takes the reason why they are used."""


def no_download(name: str, folder: Path) -> str | None:
    """The download where twinship-training is not installed."""
    return NOT_INSTALLED


def no_digits(why: str) -> SourceData:
    """The digits where twinship-training is not installed. Raises DataError."""
    cure = "install it, or use --dataset folder:PATH or npz:FILE, or MNIST_NPZ"
    raise DataError(f"scikit-learn's digits need training: {NOT_INSTALLED}; {cure}")


def find(
    choice: str,
    environment: Mapping[str, str],
    shaping: Shaping,
    *,
    download: Download = no_download,
    digits: Digits = no_digits,
) -> SourceData:
    """The pictures for one of CHOICES. Raises DataError: unknown choice, bad files, or not available."""
    kind, _, place = choice.partition(":")
    if kind in READERS and place:
        return READERS[kind](Path(place), shaping)
    if choice == "digits":
        return digits("--dataset names them")
    if choice in VARIABLES:
        found = _keras(choice, environment, download)
        if isinstance(found, str):
            cure = f"name its file with {VARIABLES[choice]}, or use --dataset digits"
            raise DataError(f"{choice} is not available: {found}; {cure}")
        return found
    if choice == "auto":
        found = _keras("mnist", environment, download)
        return digits(found) if isinstance(found, str) else found
    raise DataError(f"data set {choice!r} is unknown: use {', '.join(CHOICES)}")


def _keras(name: str, environment: Mapping[str, str], download: Download) -> SourceData | str:
    """One of Keras's data sets, or why it is not available."""
    variable, folder = VARIABLES[name], keras_cache(environment, name)
    files = [folder / file for file in CACHE_FILES[name]]
    if named := environment.get(variable):
        return keras_set(name, [Path(named)], f"the file {named}", f"{variable} names it")
    if all(file.exists() for file in files):
        why = f"it is there already and {variable} is not set"
        return keras_set(name, files, f"Keras's cache {files[0]}", why)
    failure = download(name, folder)
    if failure is None:
        why = f"{variable} is not set and Keras's cache was empty"
        return keras_set(name, files, f"Keras's download, now in {files[0]}", why)
    return f"{variable} is not set, {files[0]} does not exist and the download failed ({failure})"


def keras_cache(environment: Mapping[str, str], name: str = "mnist") -> Path:
    """The folder in which keras.datasets stores the files of this data set.

    >>> keras_cache({"KERAS_HOME": "/data/keras"}, "fashion_mnist").as_posix()
    '/data/keras/datasets/fashion-mnist'
    """
    home = environment.get("KERAS_HOME")
    keras = Path(home) if home else Path(environment.get("HOME", "~")).expanduser() / ".keras"
    return keras / "datasets" / CACHE_FOLDERS[name]
