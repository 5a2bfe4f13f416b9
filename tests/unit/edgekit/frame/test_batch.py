"""Several frames in one message: they come out as they went in, and what is no batch is a BadFrame."""

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
    """These frames as the camera packs them."""
    return batch.to_message(frames, [batch.part(each) for each in frames])


def headed(header: bytes, image: bytes = b"\0" * 6) -> bytes:
    """One frame with any header."""
    return struct.pack(">I", len(header)) + header + struct.pack(">I", len(image)) + image


@given(st.integers(1, batch.MAX_FRAMES), st.integers(0, 10**6))
def test_frames_survive_their_batch(count: int, first: int) -> None:
    """Identity, stamps, truth and picture of each, in order."""
    frames = tuple(frame(first + each) for each in range(count))
    packed = message(*frames)
    assert batch.frames_of(packed) == frames
    assert packed.content_type == "application/vnd.twinship.frames"


def test_a_message_with_one_frame_is_what_it_was() -> None:
    """The same door for both kinds of message."""
    assert batch.frames_of(frame(3).to_message()) == (frame(3),)


def test_the_format_is_lengths_and_bytes() -> None:
    """As others write it: u32 length, JSON header, u32 length, picture; big-endian."""
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
        headed(b"{}")[:-1],
        headed(b"not json"),
        headed(b"[" * 4_000),
        headed(b"[]"),
        headed(b'{"camera":1}'),
        headed(b'{"contentType":"application/octet-stream"}'),
        message(frame(1)).body + b"\0",
        message(frame(2), frame(1)).body,
        message(frame(1), frame(1)).body,
        message(frame(1), frame(2, camera="other")).body,
        message(frame(1), frame(2, run="f" * 16)).body,
        message(*map(frame, range(batch.MAX_FRAMES + 1))).body,
        bytes(300_000),
    ],
)
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    """Lying lengths, headers of anything, two runs, no order, too many: one exception, no partial answer."""
    with pytest.raises(BadFrame):
        batch.frames_of(Message(body, {}, content_type=batch.CONTENT_TYPE))


def test_every_truncation_is_refused() -> None:
    """A batch that was cut off anywhere between two frames' ends is none."""
    whole = message(frame(1), frame(2))
    ends = {len(whole.body), len(message(frame(1)).body)}
    for length in range(len(whole.body)):
        if length not in ends:
            with pytest.raises(BadFrame):
                batch.frames_of(replace(whole, body=whole.body[:length]))


@given(st.binary(max_size=200), st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_nothing_but_bad_frame_is_raised(body: bytes, place: int, change: bytes) -> None:
    """What anybody sends cannot end a module: any bytes, and a good batch with some of them changed."""
    good = bytearray(message(frame(1), frame(2)).body)
    good[place % len(good) : place % len(good) + len(change)] = change
    for each in (body, bytes(good)):
        try:
            frames = batch.frames_of(Message(each, {}, content_type=batch.CONTENT_TYPE))
        except BadFrame:
            continue
        assert 1 <= len(frames) <= batch.MAX_FRAMES
