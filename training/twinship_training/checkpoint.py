"""What an interrupted training goes on from: one file for each network, in a folder beside `out`.

A file holds everything after a whole epoch. It is written whole or not at all, and read only by a training
with the same settings, code, versions and data.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinship_training import TrainingError

HEADER: Final = "header"
#: What numpy raises of a file that is none of its own, or half of one.
DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
Arrays = list[NDArray[Any]]


class CheckpointError(TrainingError):
    """There is nothing that this training could go on from, or no place to keep it."""


@dataclass(frozen=True)
class Epoch:
    """How one epoch went."""

    loss: float  # mean over its training steps
    validation: float  # accuracy on the validation pictures after it, a share of 1


@dataclass(frozen=True, eq=False)
class Reached:
    """A training after a whole epoch."""

    history: tuple[Epoch, ...]  # every epoch so far, the first first
    best: int  # the epoch whose weights are kept, from 1
    kept: Arrays  # those weights
    state: Arrays  # of the network that learns, and of its optimizer
    average: Arrays  # empty where the recipe asks for none


@dataclass(frozen=True)
class Checkpoints:
    """The folder, and to whom it belongs."""

    folder: Path
    recipe_key: str
    fingerprint: str  # the data's

    def write(self, architecture: str, reached: Reached) -> None:
        """Replace the one of this network, and what another training left; raises CheckpointError."""
        groups = {"kept": reached.kept, "state": reached.state, "average": reached.average}
        header = {
            "recipeKey": self.recipe_key,
            "fingerprint": self.fingerprint,
            "history": [[epoch.loss, epoch.validation] for epoch in reached.history],
            "best": reached.best,
            "counts": {name: len(arrays) for name, arrays in groups.items()},
        }
        named = {f"{name}{place}": one for name, some in groups.items() for place, one in enumerate(some)}
        content = io.BytesIO()
        np.savez(content, **{HEADER: np.array(json.dumps(header))}, **named)
        whole = self.folder / f"{architecture}.npz"
        half = whole.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            half.write_bytes(content.getbuffer())
            os.replace(half, whole)
            for path in self.folder.glob("*.npz"):
                if not self._ours(path):
                    path.unlink()
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot write there: {error.strerror or error}") from error

    def read(self) -> dict[str, Reached]:
        """Network → how far it had come; raises CheckpointError: nothing, damaged, or another training's."""
        again = "leave --resume away to begin anew"
        found = {path.stem: self._read(path, again) for path in sorted(self.folder.glob("*.npz"))}
        if not found:
            raise CheckpointError(f"{self.folder}: nothing to resume, no epoch is kept there; {again}")
        return found

    def remove(self) -> None:
        """The training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ours(self, path: Path) -> bool:
        try:
            self._read(path, "")
        except CheckpointError:
            return False
        return True

    def _read(self, path: Path, again: str) -> Reached:
        try:
            header, arrays = _load(path)
            key, fingerprint = header["recipeKey"], header["fingerprint"]
            history = tuple(Epoch(loss, validation) for loss, validation in header["history"])
            reached = Reached(history, header["best"], arrays["kept"], arrays["state"], arrays["average"])
        except DAMAGE as error:
            raise CheckpointError(f"{path} is damaged; {again}") from error
        if key != self.recipe_key:
            raise CheckpointError(f"{path} was made by other settings, code or versions; {again}")
        if fingerprint != self.fingerprint:
            raise CheckpointError(f"{path} was made from other data; {again}")
        return reached


def beside(out: Path) -> Path:
    """Where the training that writes to `out` keeps its checkpoints."""
    return out.with_name(f"{out.name}.checkpoint")


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Arrays]]:
    # Opened here, because np.load leaves a file open that it cannot read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        header = json.loads(str(archive[HEADER]))
        return header, {
            name: [archive[f"{name}{place}"] for place in range(count)]
            for name, count in header["counts"].items()
        }
