"""Checkpoints of an interrupted training: one file for each network, in a folder beside `out`.

A file holds the complete state after an epoch. It is replaced atomically. Only a training with the same
settings, code, versions and data resumes from it.
"""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from twinship_training import TrainingError

#: The arrays of a file: whose training it is (recipe key, fingerprint of the data), figures of the epochs,
#: and "GROUP/NUMBER" for each of the weights.
OWNER: Final = "owner"
GROUPS: Final = ("best_weights", "state", "average")
#: numpy raises these for a damaged or foreign file.
DAMAGE: Final = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
Arrays = list[NDArray[Any]]


class CheckpointError(TrainingError):
    """There is no checkpoint that this training can resume from, or none can be written."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after a complete epoch."""

    loss: tuple[float, ...]  # of each epoch so far: the mean over its training steps
    validation: tuple[float, ...]  # of each epoch: the accuracy on the validation pictures, a share of 1
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
        named: dict[str, Any] = {
            OWNER: np.array([self.recipe_key, self.fingerprint]),
            "loss": np.array(checkpoint.loss),
            "validation": np.array(checkpoint.validation),
            "best": np.array(checkpoint.best),
        }
        for group in GROUPS:
            arrays = getattr(checkpoint, group)
            named |= {f"{group}/{number}": array for number, array in enumerate(arrays)}
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
            # np.load leaves a file open when it cannot read it, so the file is opened here.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                key, fingerprint = archive[OWNER].tolist()
                loss, validation = (tuple(archive[name].tolist()) for name in ("loss", "validation"))
                arrays = (
                    [archive[name] for name in archive.files if name.startswith(f"{group}/")]
                    for group in GROUPS
                )
                found = Checkpoint(loss, validation, int(archive["best"]), *arrays)
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
