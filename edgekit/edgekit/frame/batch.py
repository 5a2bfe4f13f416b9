"""Several frames of one camera in one message, both ways; opens no socket. What a frame is, is `frame`'s.

For each frame: u32 length, JSON header, u32 length, the picture's bytes; lengths are big-endian. The header
holds what the frame's own message would have as application properties, and `contentType`.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from pydantic_core import from_json, to_json

from edgekit.frame.message import MAX_BODY_BYTES, BadFrame, Frame, Message

CONTENT_TYPE: Final = "application/vnd.twinship.frames"
MAX_FRAMES: Final = 256  # what inference queues of single frames, too
MAX_HEADER_BYTES: Final = 4_096

_LENGTH: Final = struct.Struct(">I")


def part(frame: Frame) -> bytes:
    """One frame, whose picture fits into a message, as it stands in a batch."""
    header = to_json(frame.properties() | {"contentType": frame.content_type})
    return b"".join((_LENGTH.pack(len(header)), header, _LENGTH.pack(len(frame.image)), frame.image))


def to_message(frames: Sequence[Frame], parts: Sequence[bytes]) -> Message:
    """1 to MAX_FRAMES frames of one run, in the order of seq, with what `part` made of each."""
    last = len(frames) - 1
    return Message(b"".join(parts), {}, message_id=f"{frames[0].id}+{last}", content_type=CONTENT_TYPE)


def frames_of(message: Message) -> tuple[Frame, ...]:
    """The frames in a message from anybody, be it a batch or one frame. Raises BadFrame."""
    if message.content_type != CONTENT_TYPE:
        return (Frame.from_message(message),)
    if len(message.body) > MAX_BODY_BYTES:
        raise BadFrame("batch", f"{len(message.body)} bytes, at most {MAX_BODY_BYTES}")
    frames: list[Frame] = []
    for header, image in _parts(message.body):
        if len(frames) == MAX_FRAMES:
            raise BadFrame("batch", f"more than {MAX_FRAMES} frames")
        frames.append(_frame(header, image))
    _check_order(frames)
    return tuple(frames)


def _parts(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(body):
        header, position = _field(body, position, MAX_HEADER_BYTES)
        image, position = _field(body, position, MAX_BODY_BYTES)
        yield header, image


def _field(body: bytes, position: int, most: int) -> tuple[bytes, int]:
    first = position + _LENGTH.size
    if first > len(body):
        raise BadFrame("batch", "it ends within a length")
    (length,) = _LENGTH.unpack_from(body, position)
    if length > most or first + length > len(body):
        raise BadFrame("batch", f"a length of {length} where {len(body) - first} bytes are left")
    return body[first : first + length], first + length


def _frame(header: bytes, image: bytes) -> Frame:
    try:
        properties = from_json(header)
    except ValueError as error:
        raise BadFrame("batch", "a header is not JSON") from error
    if not isinstance(properties, dict) or not set(map(type, properties.values())) <= {str}:
        raise BadFrame("batch", "a header is no object of strings")
    content_type = properties.pop("contentType", "")
    return Frame.of(properties, image, content_type)


def _check_order(frames: Sequence[Frame]) -> None:
    if not frames:
        raise BadFrame("batch", "no frame in it")
    first = frames[0].id
    if any(each.id.camera != first.camera or each.id.run != first.run for each in frames):
        raise BadFrame("batch", "frames of two runs")
    if any(each.id.seq >= after.id.seq for each, after in pairwise(frames)):
        raise BadFrame("batch", "not in the order of seq")
