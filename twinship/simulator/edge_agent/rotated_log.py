"""A log of bounded size: `x.log`, and older files `x.log.1` and `x.log.2`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from twinship.simulator.common.private_files import open_private

MAX_BYTES = 4 * 1024 * 1024  # as the manifest sets for Docker's own log driver
MAX_FILES = 3


class RotatedLog:
    """Appends bytes. A full disk must not stop a module: a failed write is lost, the next one tries again.

    A line that a full disk cut is ended before the next one begins.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._file: BinaryIO | None = None
        self._cut = False  # the last write ended inside a line
        with contextlib.suppress(OSError):
            self._open()

    def write(self, data: bytes) -> None:
        """Append; if the file is full, rotate first."""
        try:
            file = self._file or self._open()
            if (size := file.tell()) and size + len(data) > self._max_bytes:
                file = self._rotate()
            text = b"\n" + data if self._cut else data
            self._cut = file.write(text) != len(text)
        except OSError:
            self._cut = True
            self.close()

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        self._file = open(open_private(self.path, os.O_WRONLY | os.O_APPEND), "ab", buffering=0)  # noqa: SIM115
        return self._file

    def _rotate(self) -> BinaryIO:
        self.close()
        for number in range(self._max_files - 1, 0, -1):
            older = self.path if number == 1 else self._numbered(number - 1)
            if older.exists():
                os.replace(older, self._numbered(number))
        self._cut = False
        return self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def last_line(path: Path) -> str:
    """The last line of a log that is not blank; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
