"""The demo's own folder: held by one run at a time, emptied at its start. No other folder is touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinship.demo import DemoFailed
from twinship.simulator import LOCK_FILE, end_leftover_processes, lock_folder

SIMULATOR = "simulator"


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Hold the folder, end what a killed run left there, empty it. Raises DemoFailed, FolderInUse."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {entry.name for entry in folder.iterdir()}
    if found and LOCK_FILE not in found:
        raise DemoFailed(f"{folder} holds other things, and the demo empties its folder: name another")
    lock = lock_folder(folder)
    try:
        end_leftover_processes(folder / SIMULATOR)  # before its record is removed
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_FILE:
                entry.unlink()
        yield
    finally:
        os.close(lock)
