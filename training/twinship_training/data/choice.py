"""From the words of `--dataset` to a data set. MNIST if it can be had, else digits, unless one was asked for.

Order for Keras's sets: the file that MNIST_NPZ (or FASHION_MNIST_NPZ) names, Keras's own cache, a short
download. Every answer says which and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from twinship_training.data.archives import keras_set, npz
from twinship_training.data.download import FILES, download
from twinship_training.data.folders import folder
from twinship_training.data.pictures import USUAL, DataError, Dataset, Shaping
from twinship_training.data.scikit import digits

CHOICES: Final = ("auto", "mnist", "fashion_mnist", "digits", "folder:PATH", "npz:FILE")
#: Keras's set → the variable that names its file.
VARIABLES: Final = {"mnist": "MNIST_NPZ", "fashion_mnist": "FASHION_MNIST_NPZ"}
CACHE_FOLDER: Final = {"mnist": "", "fashion_mnist": "fashion-mnist"}

Download = Callable[[str, Path], str | None]
"""Puts Keras's set of that name into a folder and returns None, or returns why it could not."""


def find(
    choice: str,
    environment: Mapping[str, str],
    fetch: Download | None = download,
    shaping: Shaping = USUAL,
) -> Dataset:
    """The data set for one of CHOICES; `fetch` None: try no download.

    Raises DataError: an unknown choice, bad files, or a set of Keras's and nowhere to take it from.
    """
    kind, _, place = choice.partition(":")
    if kind in PLACED and place:
        return PLACED[kind](Path(place), shaping)
    if choice == "digits":
        return digits("it was asked for")
    if choice in VARIABLES:
        found = _keras(choice, environment, fetch)
        if isinstance(found, str):
            cure = f"name a file with {VARIABLES[choice]}, or ask for digits"
            raise DataError(f"{choice} cannot be had: {found}; {cure}")
        return found
    if choice == "auto":
        found = _keras("mnist", environment, fetch)
        return digits(found) if isinstance(found, str) else found
    raise DataError(f"data set {choice!r} is unknown: use {', '.join(CHOICES)}")


#: What takes a path → how it is read.
PLACED: Final = {"folder": folder, "npz": npz}


def _keras(name: str, environment: Mapping[str, str], fetch: Download | None) -> Dataset | str:
    """One of Keras's sets, or why it cannot be had."""
    variable, folder = VARIABLES[name], keras_cache(environment, name)
    files = [folder / remote.name for remote in FILES[name]]
    if named := environment.get(variable):
        return keras_set(name, [Path(named)], f"the file {named}", f"{variable} names it")
    if all(file.exists() for file in files):
        why = f"it was there already, and {variable} is not set"
        return keras_set(name, files, f"Keras's cache {files[0]}", why)
    failure = fetch(name, folder) if fetch else "no download was tried"
    if failure is None:
        why = f"{variable} is not set and Keras's cache was empty"
        return keras_set(name, files, f"Keras's download, now in {files[0]}", why)
    return f"{variable} is not set, {files[0]} does not exist and the download failed ({failure})"


def keras_cache(environment: Mapping[str, str], name: str = "mnist") -> Path:
    """The folder in which keras.datasets keeps the files of this set."""
    home = environment.get("KERAS_HOME")
    keras = Path(home) if home else Path(environment.get("HOME", "~")).expanduser() / ".keras"
    return keras / "datasets" / CACHE_FOLDER[name]
