"""A program that changes models and is killed before its n-th write to the folder, for every n.

`python -m tests.unit.inference.models.reconciler.kill_points CHANGE BASE SCRATCH SECTION` copies the folder
BASE to SCRATCH/1, SCRATCH/2, … and prints the steps at which it was killed there, one on each line. CHANGE is
`start`, `install` (the section in the file SECTION, through probation) or `rollback`. It forks, so the
runtime is loaded once.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tests.unit.inference.fixtures.device import Device

#: Audit events of Python and our names of them. os.fsync raises none, so it is wrapped.
_EVENTS = {"open": "open", "os.rename": "replace", "os.remove": "remove", "os.mkdir": "mkdir"}


class Killer:
    """Kills this process before step `at`, and writes the step's name to `note`."""

    def __init__(self, folder: Path, at: int, note: Path) -> None:
        self._folder, self._left, self._note = str(folder), at, note
        self._armed = True
        self._fsync = os.fsync
        os.fsync = self._sync  # type: ignore[assignment]
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._armed and event in _EVENTS and str(arguments[0]).startswith(self._folder):
            path = Path(arguments[0])
            self._step(_EVENTS[event], path)
            # Between an open that empties a file and the first write: code that writes in place fails here.
            if event == "open" and arguments[2] & os.O_TRUNC and path.is_file():
                self._step("write", path, torn=True)

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if str(path).startswith(self._folder):
            self._step("sync", path)
        self._fsync(descriptor)

    def _step(self, what: str, path: Path, *, torn: bool = False) -> None:
        self._left -= 1
        if self._left == 0:
            self._armed = False
            if torn:
                os.truncate(path, 0)
            self._note.write_text(f"{what} {path.name}")
            os.kill(os.getpid(), signal.SIGKILL)


def run(change: str, folder: Path, section: dict[str, Any], at: int, note: Path) -> None:
    """One change of models, by a process that may be killed before its end."""
    if change == "start":
        Killer(folder, at, note)
    with Device(folder) as device:
        # The model to go back to is loaded after start() has returned.
        device.wait(lambda twin: twin.get("modelStatus", {}).get("previous"))
        if change != "start":
            Killer(folder, at, note)
        if change == "install":
            device.install(section)
        elif change == "rollback":
            assert device.reconciler.rollback() is not None


def main(change: str, base: Path, scratch: Path, section: Path) -> None:
    """Repeat until a process survives: there is no further step then."""
    wanted = json.loads(section.read_text())
    for at in range(1, 1000):
        folder, note = scratch / str(at), scratch / f"{at}.step"
        shutil.copytree(base, folder)
        if not (child := os.fork()):
            try:
                run(change, folder, wanted, at, note)
            finally:
                os._exit(0 if sys.exc_info()[0] is None else 1)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSIGNALED(status):
            shutil.rmtree(folder)
            sys.exit(os.waitstatus_to_exitcode(status))
        sys.stdout.write(note.read_text() + "\n")


if __name__ == "__main__":
    main(sys.argv[1], *(Path(word) for word in sys.argv[2:]))
