"""Packs several frames of one camera into one message, and unpacks them.

For each frame: u32 length, JSON header, u32 length, the picture's bytes; lengths are big-endian. The header
holds the application properties of the frame's own message, and `contentType`.

>>> from edgekit.frame.message import FrameId, RAW
>>> frames = [
...     Frame(FrameId("camera", "0123456789abcdef", seq), bytes(4), RAW, 2, 2, 1, 5, 6, 7, "id of this boot")
...     for seq in (3, 4)
... ]
>>> message = to_message(frames, [encode(frame) for frame in frames])
>>> message.message_id
'camera-0123456789abcdef-3+1'
>>> frames_of(message) == tuple(frames)
True
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from pydantic_core import from_json, to_json

from edgekit.frame.message import MAX_BODY_BYTES, BadFrame, Frame, Message

CONTENT_TYPE: Final = "application/vnd.twinship.frames"
MAX_FRAMES: Final = 256  # as many as inference queues single frames
MAX_HEADER_BYTES: Final = 20_480  # the longest truth, its quotes escaped, and the rest

_LENGTH: Final = struct.Struct(">I")


def encode(frame: Frame) -> bytes:
    """The frame in the format of a batch. Its picture must have at most MAX_BODY_BYTES."""
    header = to_json(frame.properties() | {"contentType": frame.content_type})
    return b"".join((_LENGTH.pack(len(header)), header, _LENGTH.pack(len(frame.image)), frame.image))


def to_message(frames: Sequence[Frame], encoded: Sequence[bytes]) -> Message:
    """Pack 1 to MAX_FRAMES frames of one run, ascending by seq; `encoded` holds each frame from `encode`."""
    last = len(frames) - 1
    return Message(b"".join(encoded), {}, message_id=f"{frames[0].id}+{last}", content_type=CONTENT_TYPE)


def frames_of(message: Message) -> tuple[Frame, ...]:
    """The frames in a message from any sender, a batch or a single frame. Raises BadFrame."""
    if message.content_type != CONTENT_TYPE:
        return (Frame.from_message(message),)
    if len(message.body) > MAX_BODY_BYTES:
        raise BadFrame("batch", f"{len(message.body)} bytes, at most {MAX_BODY_BYTES}")
    frames: list[Frame] = []
    for header, image in _encoded_frames(message.body):
        if len(frames) == MAX_FRAMES:
            raise BadFrame("batch", f"more than {MAX_FRAMES} frames")
        frames.append(_frame(header, image))
    _check_order(frames)
    return tuple(frames)


def _encoded_frames(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(body):
        header, position = _field(body, position, MAX_HEADER_BYTES)
        image, position = _field(body, position, MAX_BODY_BYTES)
        yield header, image


def _field(body: bytes, position: int, most: int) -> tuple[bytes, int]:
    first = position + _LENGTH.size
    if first > len(body):
        raise BadFrame("batch", "the message ends inside a length")
    (length,) = _LENGTH.unpack_from(body, position)
    if length > most or first + length > len(body):
        raise BadFrame("batch", f"a length of {length}, but {len(body) - first} bytes are left")
    return body[first : first + length], first + length


def _frame(header: bytes, image: bytes) -> Frame:
    try:
        properties = from_json(header)
    except ValueError as error:
        raise BadFrame("batch", "a header is not JSON") from error
    if not isinstance(properties, dict) or not set(map(type, properties.values())) <= {str}:
        raise BadFrame("batch", "a header is not an object of strings")
    content_type = properties.pop("contentType", "")
    return Frame.from_properties(properties, image, content_type)


def _check_order(frames: Sequence[Frame]) -> None:
    if not frames:
        raise BadFrame("batch", "the batch is empty")
    first = frames[0].id
    if any(each.id.camera != first.camera or each.id.run != first.run for each in frames):
        raise BadFrame("batch", "frames of more than one run")
    if any(each.id.seq >= after.id.seq for each, after in pairwise(frames)):
        raise BadFrame("batch", "frames not ascending by seq")
