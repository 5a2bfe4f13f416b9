"""The demo's folder: one run at a time locks it and empties it at its start."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinship.demo import DemoFailed
from twinship.simulator import LOCK_FILE, end_leftover_processes, lock_folder

SIMULATOR = "simulator"


def refuse_foreign_files(folder: Path) -> None:
    """Raise DemoFailed if the folder contains files and was not made by the demo. Changes nothing."""
    found = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if found and LOCK_FILE not in found:
        raise DemoFailed(
            f"{folder} contains other files, and the demo empties its folder; cure: choose another one"
        )


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Lock the folder, end the processes of a killed run and empty the folder.

    Raises DemoFailed if the folder is not the demo's, FolderInUse if another run has locked it.
    """
    refuse_foreign_files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(folder)
    try:
        end_leftover_processes(folder / SIMULATOR)  # their record is in this folder
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_FILE:
                entry.unlink()
        yield
    finally:
        os.close(lock)
