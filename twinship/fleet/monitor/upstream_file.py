"""Follows the simulator's upstream.jsonl while it grows, as `tail -F`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from threading import Event

from twinship.fleet.monitor.messages import BadLine, Batch, UpstreamMessage, parse

POLL_S = 0.2  # a person perceives this delay as immediate
MAX_LINE_BYTES = 1_048_576  # a message is at most 256 KiB, 342 KiB as base64; its envelope is small
_CHUNK_BYTES = 65_536


class Follower:
    """Yields the messages of a growing file, as `tail -F`, until `stop` is set.

    A batch yields its single predictions. Waits until the file exists; starts again if it was truncated or
    replaced; waits for the rest of an incomplete line; skips bad lines and counts them in `skipped`.
    """

    def __init__(self, path: Path, *, stop: Event, from_start: bool = False, poll_s: float = POLL_S) -> None:
        self.skipped = 0
        self._path = path
        self._stop = stop
        self._from_start = from_start
        self._poll_s = poll_s

    def __iter__(self) -> Iterator[UpstreamMessage]:
        for line in self._lines():
            try:
                message = parse(line)
            except BadLine:
                self.skipped += 1
                continue
            if isinstance(message, Batch):
                yield from message.predictions
            else:
                yield message

    def _lines(self) -> Iterator[bytes]:
        # Only a file that exists at the start may contain old messages.
        skip_old = not self._from_start and self._path.exists()
        while (file := self._opened()) is not None:
            with file:
                if skip_old:
                    file.seek(0, os.SEEK_END)
                    skip_old = False
                yield from self._lines_of(file)

    def _opened(self) -> BufferedReader | None:
        """Wait for the file and open it; None if `stop` is set."""
        while not self._stop.is_set():
            try:
                return self._path.open("rb")
            except FileNotFoundError:
                self._stop.wait(self._poll_s)
        return None

    def _lines_of(self, file: BufferedReader) -> Iterator[bytes]:
        """The complete lines of one open file, until it is replaced or truncated, or `stop` is set."""
        rest, overlong = b"", False
        while True:
            # Checked before reading, so that a replaced file is still read to its end.
            replaced = self._was_replaced(file)
            ended = replaced or self._stop.is_set()
            while chunk := file.read(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if overlong and lines:
                    lines, overlong = lines[1:], False
                    self.skipped += 1
                yield from (line for line in lines if line.strip())
                if len(rest) > MAX_LINE_BYTES:
                    rest, overlong = b"", True
            if ended:
                self.skipped += replaced and bool(rest.strip())
                return
            self._stop.wait(self._poll_s)

    def _was_replaced(self, file: BufferedReader) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return True
        opened = os.fstat(file.fileno())
        return (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino) or opened.st_size < file.tell()
