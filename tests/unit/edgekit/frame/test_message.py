"""Frames and flow acknowledgements to messages and back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.frame.batch import encode, frames_of, to_message
from edgekit.frame.message import (
    MAX_BODY_BYTES,
    MAX_TRUTH,
    RAW,
    BadFrame,
    Flow,
    Frame,
    FrameId,
    FrameTooLarge,
    Message,
)
from edgekit.hub.outbox import too_large

NANOSECONDS = st.integers(0, 2**62)
IDS = st.builds(
    FrameId,
    camera=st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True),
    run=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    seq=st.integers(0, 2**53),
)
FRAMES = st.builds(
    Frame,
    id=IDS,
    image=st.binary(min_size=1, max_size=64),
    content_type=st.sampled_from(["image/png", "image/jpeg"]),
    width=st.integers(1, 16_384),
    height=st.integers(1, 16_384),
    channels=st.sampled_from([1, 3]),
    captured=NANOSECONDS,
    mono=NANOSECONDS,
    encoded=NANOSECONDS,
    boot=st.uuids().map(str),
    truth=st.none() | st.text(max_size=MAX_TRUTH),
)
FRAME = Frame(
    id=FrameId("camera", "0123456789abcdef", 7),
    image=bytes(12),
    content_type=RAW,
    width=2,
    height=2,
    channels=3,
    captured=1_700_000_000_000_000_000,
    mono=5,
    encoded=6,
    boot="b",
    truth="7",
)


@given(FRAMES)
def test_a_frame_survives_its_message(frame: Frame) -> None:
    """Inference reads the frame that the camera sent."""
    assert Frame.from_message(frame.to_message()) == frame


def test_a_truth_that_is_too_long_stays_with_the_camera() -> None:
    """The frame travels without; a truth of the greatest length travels, in a batch too."""
    assert "truth" not in replace(FRAME, truth="x" * (MAX_TRUTH + 1)).to_message().properties
    longest = replace(FRAME, truth='"' * MAX_TRUTH)
    assert too_large(longest.to_message()) is None
    foreign = replace(FRAME, truth="\udc85" * 200)  # bytes that are no text, from another sender
    assert Frame.from_message(foreign.to_message()) == foreign
    beside = replace(longest, image=bytes(MAX_BODY_BYTES))
    assert "truth" not in beside.to_message().properties
    assert too_large(beside.to_message()) is None
    assert frames_of(to_message([longest], [encode(longest)])) == (longest,)


def test_a_message_has_the_documented_format() -> None:
    """The body is the picture; identity and timestamps are properties; the message id names the frame."""
    message = FRAME.to_message()
    assert message.body == FRAME.image
    assert message.message_id == "camera-0123456789abcdef-7"
    assert message.content_type == RAW
    assert list(message.properties) == [
        "camera", "run", "seq", "width", "height", "channels", "captured", "mono", "encoded", "boot", "truth",
    ]  # fmt: skip


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, MAX_BODY_BYTES])
def test_the_body_size_is_limited(size: int) -> None:
    """A body of exactly the limit passes; one byte more raises FrameTooLarge."""
    frame = replace(FRAME, image=bytes(size), content_type="image/png")
    if size > MAX_BODY_BYTES:
        with pytest.raises(FrameTooLarge, match="at most 258048"):
            frame.to_message()
    else:
        assert Frame.from_message(frame.to_message()) == frame


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seq": None}, "properties"),
        ({"seq": "-1"}, "properties"),
        ({"seq": "1_0"}, "properties"),
        ({"seq": " 1"}, "properties"),
        ({"seq": "١"}, "properties"),
        ({"seq": "9" * 20}, "properties"),
        ({"captured": ""}, "properties"),
        ({"boot": "x" * 129}, "properties"),
        ({"truth": "x" * (MAX_TRUTH + 1)}, "properties"),
        ({"camera": "a b"}, "identity"),
        ({"camera": ""}, "identity"),
        ({"camera": "x" * 33}, "identity"),
        ({"run": "0123456789ABCDEF"}, "identity"),
        ({"run": "12"}, "identity"),
        ({"width": "0"}, "size"),
        ({"width": "16385"}, "size"),
        ({"seq": "1,2"}, "properties"),
        ({"seq": "1,2", "width": ""}, "properties"),
        ({"channels": "2"}, "size"),
        ({"height": "3"}, "size"),
    ],
)
def test_invalid_properties_raise_bad_frame_with_a_reason(change: dict[str, str | None], reason: str) -> None:
    """Each fault has one reason, and no other exception is raised."""
    message = FRAME.to_message()
    properties = {**message.properties, **change}
    cleaned = {name: value for name, value in properties.items() if value is not None}
    with pytest.raises(BadFrame) as caught:
        Frame.from_message(replace(message, properties=cleaned))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"content_type": "text/html"}, "content_type"), ({"body": b""}, "size"), ({"body": bytes(13)}, "size")],
)
def test_an_invalid_body_raises_bad_frame_with_a_reason(change: dict[str, object], reason: str) -> None:
    """A body that does not match its properties is refused before it is decoded."""
    with pytest.raises(BadFrame) as caught:
        Frame.from_message(replace(FRAME.to_message(), **change))  # type: ignore[arg-type]
    assert caught.value.reason == reason


@given(
    st.dictionaries(st.text(max_size=9), st.text(max_size=30)), st.binary(max_size=40), st.text(max_size=20)
)
def test_nothing_but_bad_frame_is_raised(properties: dict[str, str], body: bytes, kind: str) -> None:
    """Arbitrary messages raise BadFrame and no other exception."""
    message = Message(body, properties, content_type=kind)
    with pytest.raises(BadFrame):
        Frame.from_message(message)


@given(IDS)
def test_flow_survives_its_message(frame: FrameId) -> None:
    """The camera reads the acknowledgement that inference sent."""
    flow = Flow(frame.camera, frame.run, frame.seq)
    message = flow.to_message()
    assert Flow.from_message(message) == flow
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def test_a_fresh_flow_is_recognised() -> None:
    """It names camera `*`, which is no valid camera name."""
    assert Flow.from_message(Flow.fresh().to_message()).is_fresh
    assert not Flow("camera", "0123456789abcdef", 3).is_fresh


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"camera":"a","run":"b","seq":"1"}',
        b'{"camera":"a","run":"b","seq":true}',
        b"[" * 100_000,
    ],
)
def test_an_invalid_flow_raises_bad_frame(body: bytes) -> None:
    """Any module may send a flow message."""
    with pytest.raises(BadFrame) as caught:
        Flow.from_message(Message(body, {}))
    assert caught.value.reason == "flow"


def test_a_message_does_not_print_its_body() -> None:
    """repr() leaves the picture out of logs."""
    assert "body" not in repr(FRAME.to_message())
    assert "image" not in repr(FRAME)
