"""The messages from the child that decodes to the camera, over a pipe: two lengths, a JSON header, pixels.

The other way go one line of JSON, the request, and then one byte for each picture that is asked for.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

ASK: Final = b"n"
_LENGTHS: Final = struct.Struct(">II")
_MAX_HEADER_BYTES: Final = 4_096
MAX_PIXEL_BYTES: Final = 4_096 * 4_096 * 4


@dataclass(frozen=True, repr=False)
class DecodingRequest:
    """What the child decodes. It gets this over stdin, because `url` may hold a password."""

    url: str
    format: str | None
    options: dict[str, str]
    is_file: bool
    loop: bool
    max_side: int
    timeout_s: float

    def to_line(self) -> bytes:
        """The request as the child reads it."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "DecodingRequest":
        """The request of `to_line`."""
        return cls(**json.loads(line))


def packed(header: dict[str, Any], pixels: int = 0) -> bytes:
    """The beginning of a message, which `pixels` bytes follow."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), pixels) + text


def read_message(read: Callable[[int], bytes]) -> tuple[dict[str, Any], bytes]:
    """The next message; `read(n)` returns n bytes or raises. Raises ValueError if it is none."""
    header_bytes, pixel_bytes = _LENGTHS.unpack(read(_LENGTHS.size))
    if header_bytes > _MAX_HEADER_BYTES or pixel_bytes > MAX_PIXEL_BYTES:
        raise ValueError("a message of the decoder is too long")
    header = json.loads(read(header_bytes))
    if not isinstance(header, dict):
        raise ValueError("a message of the decoder has no header")
    return header, read(pixel_bytes) if pixel_bytes else b""
