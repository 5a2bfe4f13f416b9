"""Checkpoints of an interrupted training: one file for each network, in a folder beside `out`.

A file holds the complete state after an epoch. It is replaced atomically. Only a training with the same
settings, code, versions and data resumes from it.
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
#: numpy raises these for a damaged or foreign file.
DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
Arrays = list[NDArray[Any]]


class CheckpointError(TrainingError):
    """There is no checkpoint that this training can resume from, or none can be written."""


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch."""

    loss: float  # mean over its training steps
    validation: float  # accuracy on the validation pictures after it, a share of 1


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after a complete epoch."""

    history: tuple[Epoch, ...]  # all epochs so far, the first epoch first
    best: int  # the epoch with the best weights, from 1
    best_weights: Arrays
    state: Arrays  # of the network in training and of its optimizer
    average: Arrays  # averaged weights; empty if the recipe has no average


@dataclass(frozen=True)
class CheckpointFolder:
    """The folder of one training's checkpoints."""

    folder: Path
    recipe_key: str
    fingerprint: str  # of the data

    def write(self, architecture: str, checkpoint: Checkpoint) -> None:
        """Replace this network's checkpoint; remove those of other trainings. Raises CheckpointError."""
        groups = {
            "best": checkpoint.best_weights,
            "state": checkpoint.state,
            "average": checkpoint.average,
        }
        header = {
            "recipeKey": self.recipe_key,
            "fingerprint": self.fingerprint,
            "history": [[epoch.loss, epoch.validation] for epoch in checkpoint.history],
            "best": checkpoint.best,
            "counts": {name: len(arrays) for name, arrays in groups.items()},
        }
        named: dict[str, Any] = {HEADER: np.array(json.dumps(header))}
        named |= {f"{name}{index}": one for name, some in groups.items() for index, one in enumerate(some)}
        content = io.BytesIO()
        np.savez(content, **named)
        path = self.folder / f"{architecture}.npz"
        temporary = path.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content.getbuffer())
            os.replace(temporary, path)
            for other in self.folder.glob("*.npz"):
                if not self._is_ours(other):
                    other.unlink()
        except OSError as error:
            raise CheckpointError(f"{self.folder}: cannot write there: {error.strerror or error}") from error

    def read(self) -> dict[str, Checkpoint]:
        """Network → its checkpoint. Raises CheckpointError: none, damaged, or of another training."""
        cure = "leave --resume away to begin anew"
        found = {path.stem: self._read(path, cure) for path in sorted(self.folder.glob("*.npz"))}
        if not found:
            raise CheckpointError(f"{self.folder}: nothing to resume, there is no checkpoint; {cure}")
        return found

    def remove(self) -> None:
        """Remove the folder, because the training is done."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_ours(self, path: Path) -> bool:
        try:
            self._read(path, "")
        except CheckpointError:
            return False
        return True

    def _read(self, path: Path, cure: str) -> Checkpoint:
        try:
            header, arrays = _load(path)
            key, fingerprint = header["recipeKey"], header["fingerprint"]
            history = tuple(Epoch(loss, validation) for loss, validation in header["history"])
            found = Checkpoint(history, header["best"], arrays["best"], arrays["state"], arrays["average"])
        except DAMAGE as error:
            raise CheckpointError(f"{path} is damaged; {cure}") from error
        if key != self.recipe_key:
            raise CheckpointError(f"{path} was made by other settings, code or versions; {cure}")
        if fingerprint != self.fingerprint:
            raise CheckpointError(f"{path} was made from other data; {cure}")
        return found


def checkpoint_path(out: Path) -> Path:
    """The checkpoint folder of the training that writes to `out`.

    >>> checkpoint_path(Path("build/model")).as_posix()
    'build/model.checkpoint'
    """
    return out.with_name(f"{out.name}.checkpoint")


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Arrays]]:
    # np.load leaves a file open when it cannot read it, so the file is opened here.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        header = json.loads(str(archive[HEADER]))
        return header, {
            name: [archive[f"{name}{index}"] for index in range(count)]
            for name, count in header["counts"].items()
        }
