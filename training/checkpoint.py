"""What an interrupted training goes on from: everything after its last whole epoch, in one file beside `out`.

Written whole or not at all, and read only by the same settings, code, versions and data.
"""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training import TrainingError

HEADER: Final = "header"
Arrays = list[NDArray[Any]]


class CheckpointError(TrainingError):
    """There is nothing that this training could go on from."""


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
class Checkpoint:
    """The file, and to whom it belongs."""

    path: Path
    recipe_key: str
    fingerprint: str  # the data's

    def write(self, reached: Reached) -> None:
        """Replace the file; raises CheckpointError."""
        groups = {"kept": reached.kept, "state": reached.state, "average": reached.average}
        header = {
            "recipe_key": self.recipe_key,
            "fingerprint": self.fingerprint,
            "history": [[epoch.loss, epoch.validation] for epoch in reached.history],
            "best": reached.best,
            "counts": {name: len(arrays) for name, arrays in groups.items()},
        }
        named = {f"{name}{place}": one for name, some in groups.items() for place, one in enumerate(some)}
        half = self.path.with_name(f"{self.path.name}.part")
        try:
            with half.open("wb") as file:
                np.savez(file, **{HEADER: np.array(json.dumps(header))}, **named)
            os.replace(half, self.path)
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot write there: {error.strerror or error}") from error
        finally:
            half.unlink(missing_ok=True)

    def read(self) -> Reached:
        """What lies there; raises CheckpointError: nothing, damaged, or another training's."""
        again = "leave --resume away to begin anew"
        try:
            header, arrays = _load(self.path)
        except FileNotFoundError as error:
            raise CheckpointError(f"{self.path}: nothing to resume, no such file; {again}") from error
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CheckpointError(f"{self.path} is damaged; {again}") from error
        if header["recipe_key"] != self.recipe_key:
            raise CheckpointError(f"{self.path} is of other settings, code or versions; {again}")
        if header["fingerprint"] != self.fingerprint:
            raise CheckpointError(f"{self.path} is of other training data; {again}")
        history = tuple(Epoch(loss, validation) for loss, validation in header["history"])
        return Reached(history, header["best"], arrays["kept"], arrays["state"], arrays["average"])

    def remove(self) -> None:
        """Its training is done."""
        self.path.unlink(missing_ok=True)


def epochs_done(path: Path, recipe_key: str) -> int:
    """By the training of this key, as far as the file there tells; 0: it can go on from nothing."""
    try:
        header, _ = _load(path)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return 0
    return len(header["history"]) if header["recipe_key"] == recipe_key else 0


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Arrays]]:
    # Opened here, because np.load leaves a file open that it cannot read.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        header = json.loads(str(archive[HEADER]))
        return header, {
            name: [archive[f"{name}{place}"] for place in range(count)]
            for name, count in header["counts"].items()
        }
