"""The mark of a running invoke: in which model's invoke did the last process end, and which invoke hung?

During a probation the file is mapped into memory, and the mark is set before each invoke and cleared after
it. It survives the process, however that ends. The kernel writes the page to disk when it likes, so a mark
from before the last boot says nothing: after a power cut no invoke counts. A hang is synced at once, and
survives a power cut too. Without a probation the file is closed: a disk that turns read-only then kills no
process by SIGBUS.

>>> mark = InvokeMark(None)
>>> mark.open()
Interrupted(invoking='', hung='', hung_s=0.0)
>>> mark.begin("ab" * 32)
>>> mark.end()
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
_BOOT: Final = slice(_LAYOUT.size - 36, _LAYOUT.size)
_NONE: Final = bytes(64)


@dataclass(frozen=True)
class Interrupted:
    """What the last process left, as sha256 of the artefacts; empty for none."""

    invoking: str = ""  # it ended during an invoke of this model
    hung: str = ""  # an invoke of this model did not return
    hung_s: float = 0.0  # … within this time


class InvokeMark:
    """One for each process. `begin` and `end` cost a fraction of a microsecond. Nothing raises."""

    def __init__(self, path: Path | None) -> None:
        """Without a path, or if the file cannot be used, the mark ends with the process."""
        self._path = path
        self._page: mmap.mmap | bytearray = bytearray(_LAYOUT.size)

    def open(self) -> Interrupted:
        """Return what the last process left. It stays there until `forget`."""
        content = b""
        if self._path is not None:
            try:
                _create(self._path)
                content = self._path.read_bytes()[: _LAYOUT.size]
            except OSError as error:
                log.warning("%s: %s: a model that crashes is not recognised", self._path, error.strerror)
        if len(content) < _LAYOUT.size:
            return Interrupted()
        invoking, hung, hung_s, boot = _LAYOUT.unpack(content)
        return Interrupted(_text(invoking if boot == _boot() else _NONE), _text(hung), hung_s)

    def forget(self) -> None:
        """The next process does not need what the last one left. No invoke may be running."""
        self._write(_NONE, 0.0)

    def arm(self) -> None:
        """A probation begins: what `begin` and `end` say survives the process."""
        if self._path is None:
            return
        try:
            page = _mapped(self._path)
        except OSError as error:
            log.warning("%s: %s: a model that crashes is not recognised", self._path, error.strerror)
            return
        page[_INVOKING], page[_BOOT] = _NONE, _boot()  # a verdict stays
        self._page = page

    def disarm(self) -> None:
        """No model is on probation. The file is closed when the invoke in progress no longer uses it."""
        self._page = bytearray(_LAYOUT.size)

    def begin(self, sha256: str) -> None:
        """An invoke of this model begins."""
        self._page[_INVOKING] = sha256.encode()

    def end(self) -> None:
        """The invoke has ended."""
        self._page[_INVOKING] = _NONE

    def hung(self, sha256: str, after_s: float) -> None:
        """An invoke of this model does not return: the next start withdraws the model. Writes to disk."""
        self._write(sha256.encode(), after_s)

    def _write(self, hung: bytes, hung_s: float) -> None:
        if self._path is None:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, _LAYOUT.pack(_NONE, hung, hung_s, _boot()), 0)
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.error("%s: %s: the verdict on a model is lost", self._path, error.strerror)


def _create(path: Path) -> None:
    """Reserve the block, so that a verdict can be written on a full disk, and a mapped page too (SIGBUS)."""
    if path.exists() and path.stat().st_size >= mmap.PAGESIZE:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, mmap.PAGESIZE)
    finally:
        os.close(descriptor)


def _mapped(path: Path) -> mmap.mmap:
    _create(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        return mmap.mmap(descriptor, mmap.PAGESIZE)
    finally:
        os.close(descriptor)


def _boot() -> bytes:
    return boot_id().encode()[:36].ljust(36)


def _text(sha256: bytes) -> str:
    return sha256.rstrip(b"\0").decode("ascii", errors="replace")
