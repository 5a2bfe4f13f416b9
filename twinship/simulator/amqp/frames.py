"""The frames of AMQP 1.0 (part 2, 2.3): size, offset of the body, type, channel, performative, payload."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from twinship.simulator.amqp.performatives import Composite, composite
from twinship.simulator.amqp.types import Malformed, decode_at

AMQP_HEADER: Final = b"AMQP\x00\x01\x00\x00"
SASL_HEADER: Final = b"AMQP\x03\x01\x00\x00"
MAX_FRAME_BYTES: Final = 65_536
AMQP_FRAME, SASL_FRAME = 0, 1
EMPTY_FRAME: Final = b"\x00\x00\x00\x08\x02\x00\x00\x00"  # says that the sender lives
_HEAD: Final = struct.Struct(">IBBH")


class Frame(NamedTuple):
    """One frame. `body` is None in an empty frame; `payload` is what follows the performative."""

    type: int
    channel: int
    body: Composite | None
    payload: bytes


def encode_frame(body: Composite, channel: int = 0, payload: bytes = b"", kind: int = AMQP_FRAME) -> bytes:
    """The bytes of a frame."""
    content = body.encode()
    return _HEAD.pack(_HEAD.size + len(content) + len(payload), 2, kind, channel) + content + payload


def take_frame(buffer: bytearray) -> Frame | None:
    """Take the first frame out of the received bytes; None if it is not complete. Raises Malformed."""
    if len(buffer) < _HEAD.size:
        return None
    size, offset, kind, channel = _HEAD.unpack_from(buffer)
    if not _HEAD.size <= size <= MAX_FRAME_BYTES:
        raise Malformed(f"a frame of {size} bytes; the limit is {MAX_FRAME_BYTES}")
    if not _HEAD.size <= offset * 4 <= size:
        raise Malformed("the body of a frame begins outside the frame")
    if kind not in (AMQP_FRAME, SASL_FRAME):
        raise Malformed(f"a frame of type {kind}")
    if len(buffer) < size:
        return None
    content = bytes(buffer[offset * 4 : size])
    del buffer[:size]
    if not content:
        return Frame(kind, channel, None, b"")
    value, end = decode_at(content, 0)
    body = composite(value)
    if not isinstance(body, Composite):
        raise Malformed("a frame without a performative")
    return Frame(kind, channel, body, content[end:])


def frames(buffer: bytearray) -> Iterator[Frame]:
    """Take every complete frame. Raises Malformed."""
    while (frame := take_frame(buffer)) is not None:
        yield frame
