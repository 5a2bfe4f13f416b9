"""Keeps the last previews of the camera, under the identity of their frames. Memory is bounded.

>>> pictures = Pictures()
>>> identity = {"camera": "door", "run": "0123456789abcdef", "seq": "7"}
>>> pictures.take(b"\\xff\\xd8\\xff", identity, now_s=1.0).key
'door-0123456789abcdef-7'
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from edgekit.frame.message import BadFrame, FrameId

MAX_BYTES: Final = 2 * 1024 * 1024  # of all pictures together
MAX_PICTURE: Final = 128 * 1024
_JPEG: Final = b"\xff\xd8\xff"


class BadPicture(ValueError):
    """The message is no preview; the text says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG of one frame."""

    key: str  # camera, run and sequence number
    body: bytes = field(repr=False)
    truth: str | None
    at_s: float  # arrival, CLOCK_MONOTONIC


class Pictures:
    """The newest pictures. Not thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Picture] = OrderedDict()
        self.bytes = 0

    def take(self, body: bytes, properties: Mapping[str, str], now_s: float) -> Picture:
        """Keep a picture, and drop the oldest ones for it. Raises BadPicture."""
        if not body.startswith(_JPEG) or len(body) > MAX_PICTURE:
            raise BadPicture(f"preview: no JPEG of at most {MAX_PICTURE} bytes")
        picture = Picture(_key(properties), body, properties.get("truth"), now_s)
        if (before := self._kept.pop(picture.key, None)) is not None:
            self.bytes -= len(before.body)
        self._kept[picture.key] = picture
        self.bytes += len(body)
        while self.bytes > MAX_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= len(oldest.body)
        return picture

    def get(self, key: str) -> Picture | None:
        """The picture of this frame, if it is still kept."""
        return self._kept.get(key)

    def newest_first(self) -> Iterator[Picture]:
        """All pictures."""
        return reversed(self._kept.values())


def _key(properties: Mapping[str, str]) -> str:
    seq = properties.get("seq", "")
    try:
        if not (seq.isascii() and seq.isdecimal() and len(seq) < 20):
            raise BadFrame("properties", "seq is no number")
        return str(FrameId(properties.get("camera", ""), properties.get("run", ""), int(seq)))
    except BadFrame as error:
        raise BadPicture(f"preview: {error}") from None
