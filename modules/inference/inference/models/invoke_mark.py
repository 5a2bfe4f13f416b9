"""The mark of a running invoke: in which model's invoke did the last process end, and which invoke hung?

A memory-mapped file of one page, set before each invoke and cleared after it. It survives the process,
however that ends. The kernel writes the page to disk when it likes, so a mark from before the last boot says
nothing: after a power cut no invoke counts. A hang is synced at once, and survives a power cut too.

>>> mark = InvokeMark(None)
>>> mark.open()
Interrupted(invoking='', hung='', hung_s=0.0)
>>> mark.begin("ab" * 32)
>>> mark.hung("ab" * 32, 5.0)
"""

import logging
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgekit.clock import boot_id

log = logging.getLogger(__name__)

#: sha256 of the invoking model, of the hung model, seconds, boot id.
_LAYOUT: Final = struct.Struct("<64s64sd36s")
_INVOKING: Final = slice(0, 64)
_NONE: Final = bytes(64)


@dataclass(frozen=True)
class Interrupted:
    """What the last process left, as sha256 of the artefacts; empty for none."""

    invoking: str = ""  # it ended during an invoke of this model
    hung: str = ""  # an invoke of this model did not return
    hung_s: float = 0.0  # … within this time


class InvokeMark:
    """One for each process. `begin` and `end` cost a fraction of a microsecond."""

    def __init__(self, path: Path | None) -> None:
        """Without a path, or if the file cannot be used, the mark ends with the process."""
        self._path = path
        self._page: mmap.mmap | bytearray = bytearray(_LAYOUT.size)

    def open(self) -> Interrupted:
        """Map the file; return what the last process left. It stays there until `forget`. Never raises."""
        if self._path is None:
            return Interrupted()
        try:
            self._page = _mapped(self._path)
        except OSError as error:
            log.warning("%s: %s; crashes of models during an invoke are not recognised", self._path, error)
            return Interrupted()
        invoking, hung, hung_s, boot = _LAYOUT.unpack(self._page[: _LAYOUT.size])
        if boot != _boot():
            invoking = _NONE
        return Interrupted(_text(invoking), _text(hung), hung_s)

    def forget(self) -> None:
        """The next process does not need what the last one left. No invoke may be running."""
        self._page[: _LAYOUT.size] = _LAYOUT.pack(_NONE, _NONE, 0.0, _boot())

    def begin(self, sha256: str) -> None:
        """An invoke of this model begins."""
        self._page[_INVOKING] = sha256.encode()

    def end(self) -> None:
        """The invoke has ended."""
        self._page[_INVOKING] = _NONE

    def hung(self, sha256: str, after_s: float) -> None:
        """An invoke of this model does not return: the next start withdraws the model. Writes to disk."""
        self._page[: _LAYOUT.size] = _LAYOUT.pack(_NONE, sha256.encode(), after_s, _boot())
        if isinstance(self._page, mmap.mmap):
            self._page.flush()


def _mapped(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Without blocks on the disk, a write to the page on a full disk would kill the process (SIGBUS).
        os.posix_fallocate(descriptor, 0, mmap.PAGESIZE)
        return mmap.mmap(descriptor, mmap.PAGESIZE)
    finally:
        os.close(descriptor)


def _boot() -> bytes:
    return boot_id().encode()[:36].ljust(36)


def _text(sha256: bytes) -> str:
    return sha256.rstrip(b"\0").decode("ascii", errors="replace")
