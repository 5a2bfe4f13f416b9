"""The camera's send log: one line for each frame that the hub has stored."""

import contextlib
import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import to_json

from edgekit.frame.message import Frame

logger = logging.getLogger(__name__)


@dataclass  # not frozen: it is made for every frame
class Sent:
    """A frame that was sent, without its picture."""

    camera: str
    run: str
    seq: int
    truth: str | None
    captured: int  # ns since the epoch
    bytes: int  # of the body
    mailbox: int | None = None  # ns that a picture of a video waited for its turn

    @classmethod
    def of(cls, frame: Frame) -> "Sent":
        """The frame without its picture."""
        mailbox = None if frame.taken is None else frame.taken - frame.mono
        identity = frame.id
        size = len(frame.image)
        return cls(identity.camera, identity.run, identity.seq, frame.truth, frame.captured, size, mailbox)


def line(sent: Sent, stored: int) -> bytes:
    """The frame as a line of JSON; `stored` is the time of the PUBACK in ns since the epoch."""
    fields = vars(sent) | {"stored": stored}
    if sent.mailbox is None:
        del fields["mailbox"]
    return to_json(fields) + b"\n"


class SendLog:
    """A file that is appended to across restarts, and opened for each message, so it needs no closing.

    After a full disk or a restart the file may end inside a line. The next write ends that line first, so it
    spoils no other line.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = threading.Lock()
        self._failing = False
        self._may_be_cut = True  # the last byte is unknown

    def append(self, sent: Sequence[Sent], stored: int) -> None:
        """Write a line for each frame, from any thread. Only the first of successive errors is logged."""
        text = b"".join(line(each, stored) for each in sent)
        with self._writing:
            try:
                self._write(text)
                self._failing = False
            except OSError as error:
                if not self._failing:
                    logger.error("send log %s: frames are not recorded: %s", self._path, error)
                self._failing = True

    def _write(self, text: bytes) -> None:
        """Append to the file, without a file object, which takes three times as long, for every frame."""
        try:
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if self._may_be_cut:
                text = _prepared(file) + text
                self._may_be_cut = False
            if (written := os.write(file, text)) != len(text):
                raise OSError(f"only {written} of {len(text)} bytes written")
        except OSError:
            self._may_be_cut = True
            raise
        finally:
            os.close(file)


def _prepared(file: int) -> bytes:
    """Make the file private, which an earlier version did not; returns what must end its last line."""
    size = os.fstat(file).st_size
    with contextlib.suppress(OSError):  # another user's file
        os.fchmod(file, 0o600)
    return b"\n" if size and os.pread(file, 1, size - 1) != b"\n" else b""
