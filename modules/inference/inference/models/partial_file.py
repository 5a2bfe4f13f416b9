"""A partial download on disk: the ETag of its bytes, and the bytes so far.

The child that downloads writes it, the module reads it, and the next process resumes it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAX_ETAG_BYTES = 512


@dataclass(frozen=True)
class PartialFile:
    """One line with the ETag, then the bytes. Every method may raise OSError."""

    path: Path

    def progress(self) -> tuple[str, int]:
        """The ETag and the number of bytes; ("", 0) if there is nothing to resume."""
        try:
            with self.path.open("rb") as file:
                head = file.readline(_MAX_ETAG_BYTES)
        except FileNotFoundError:
            return "", 0
        if not head.endswith(b"\n") or head == b"\n":
            return "", 0
        return head[:-1].decode("latin-1"), self.path.stat().st_size - len(head)

    @contextmanager
    def writing(self, etag: str, offset: int) -> Iterator[BinaryIO]:
        """Open the file for the next bytes: behind its `offset` bytes, or a new file if that is 0.

        A file with an empty or unusable ETag cannot be resumed.
        """
        if offset:
            with self.path.open("ab", buffering=0) as file:
                yield file
            return
        head = etag.encode("latin-1", "replace") + b"\n"
        if len(head) > _MAX_ETAG_BYTES or not etag.isprintable():
            head = b"\n"
        with self.path.open("wb", buffering=0) as file:
            file.write(head)
            yield file

    def read(self, max_bytes: int) -> bytes:
        """The bytes so far, at most `max_bytes`."""
        with self.path.open("rb") as file:
            file.readline(_MAX_ETAG_BYTES)
            return file.read(max_bytes)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
