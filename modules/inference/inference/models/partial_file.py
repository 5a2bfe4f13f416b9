"""A download that is not whole yet, on disk: the ETag that its bytes belong to, and the bytes so far.

Written by the process that downloads, read by the module; it outlives both. Knows no HTTP.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAX_ETAG_BYTES = 512


@dataclass(frozen=True)
class Part:
    """The file: one line with the ETag, then the bytes. Every method may raise OSError."""

    path: Path

    def begun(self) -> tuple[str, int]:
        """The ETag, and how many bytes are here; ("", 0) when there is nothing to go on from."""
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
        """Where the next bytes go: behind the `offset` bytes that are here, or at 0 into a new file.

        An ETag that is empty or odd makes a file that nobody goes on from.
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
        """The bytes so far, at most so many."""
        with self.path.open("rb") as file:
            file.readline(_MAX_ETAG_BYTES)
            return file.read(max_bytes)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
