"""Several frames in one message: packing, unpacking, and invalid batches."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.frame import batch
from edgekit.frame.message import RAW, BadFrame, Frame, FrameId, Message

RUN = "0123456789abcdef"


def frame(seq: int, *, camera: str = "camera", run: str = RUN) -> Frame:
    """A frame of 2 x 3 pixels."""
    return Frame(
        FrameId(camera, run, seq), bytes([seq % 251] * 6), RAW, 2, 3, 1, 5, 6, 7, "boot", truth=str(seq)
    )


def message(*frames: Frame) -> Message:
    """Pack these frames as the camera does."""
    return batch.to_message(frames, [batch.encode(each) for each in frames])


def with_header(header: bytes, image: bytes = b"\0" * 6) -> bytes:
    """An encoded frame with any header."""
    return struct.pack(">I", len(header)) + header + struct.pack(">I", len(image)) + image


@given(st.integers(1, batch.MAX_FRAMES), st.integers(0, 10**6))
def test_frames_survive_their_batch(count: int, first: int) -> None:
    """Unpacking returns each frame with its identity, timestamps, truth and picture, in order."""
    frames = tuple(frame(first + each) for each in range(count))
    packed = message(*frames)
    assert batch.frames_of(packed) == frames
    assert packed.content_type == "application/vnd.twinship.frames"


def test_a_single_frame_is_unpacked_too() -> None:
    """`frames_of` accepts both kinds of message."""
    assert batch.frames_of(frame(3).to_message()) == (frame(3),)


def test_the_format_is_lengths_and_bytes() -> None:
    """u32 length, JSON header, u32 length, picture; big-endian."""
    body = message(frame(1)).body
    (length,) = struct.unpack_from(">I", body)
    assert body[4 : 4 + length].startswith(b'{"camera":"camera"')
    assert body[4 + length :] == b"\0\0\0\6" + frame(1).image


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\x10\x01" + b" " * 5_000,
        with_header(b"{}")[:-1],
        with_header(b"not json"),
        with_header(b"[" * 4_000),
        with_header(b"[]"),
        with_header(b'{"camera":1}'),
        with_header(b'{"contentType":"application/octet-stream"}'),
        message(frame(1)).body + b"\0",
        message(frame(2), frame(1)).body,
        message(frame(1), frame(1)).body,
        message(frame(1), frame(2, camera="other")).body,
        message(frame(1), frame(2, run="f" * 16)).body,
        message(*map(frame, range(batch.MAX_FRAMES + 1))).body,
        bytes(300_000),
    ],
)
def test_an_invalid_batch_raises_bad_frame(body: bytes) -> None:
    """Wrong lengths, invalid headers, two runs, no order, too many frames: no partial result."""
    with pytest.raises(BadFrame):
        batch.frames_of(Message(body, {}, content_type=batch.CONTENT_TYPE))


def test_a_truncated_batch_raises_bad_frame() -> None:
    """A batch may only end where a frame ends."""
    whole = message(frame(1), frame(2))
    ends = {len(whole.body), len(message(frame(1)).body)}
    for length in range(len(whole.body)):
        if length not in ends:
            with pytest.raises(BadFrame):
                batch.frames_of(replace(whole, body=whole.body[:length]))


@given(st.binary(max_size=200), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_nothing_but_bad_frame_is_raised(body: bytes, place: int, change: bytes) -> None:
    """Arbitrary bytes, and a valid batch with changed bytes, raise BadFrame and no other exception."""
    good = bytearray(message(frame(1), frame(2)).body)
    good[place % len(good) : place % len(good) + len(change)] = change
    for each in (body, bytes(good)):
        try:
            frames = batch.frames_of(Message(each, {}, content_type=batch.CONTENT_TYPE))
        except BadFrame:
            continue
        assert 1 <= len(frames) <= batch.MAX_FRAMES
