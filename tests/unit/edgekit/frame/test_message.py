"""Frames and flow answers through their messages and back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.frame.message import MAX_BODY_BYTES, RAW, BadFrame, Flow, Frame, FrameId, FrameTooLarge, Message

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
    truth=st.none() | st.text(max_size=128),
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
    """Whatever a camera sends, inference reads the same frame."""
    assert Frame.from_message(frame.to_message()) == frame


def test_message_is_what_the_design_says() -> None:
    """The body is the picture itself; identity and stamps are properties; the id names the frame."""
    message = FRAME.to_message()
    assert message.body == FRAME.image
    assert message.message_id == "camera-0123456789abcdef-7"
    assert message.content_type == RAW
    assert list(message.properties) == [
        "camera", "run", "seq", "width", "height", "channels", "captured", "mono", "encoded", "boot", "truth",
    ]  # fmt: skip


def test_frames_sort_by_seq_within_a_run() -> None:
    """Order is by number, not by text: 10 comes after 9."""
    run = "0123456789abcdef"
    assert sorted([FrameId("a", run, 10), FrameId("a", run, 9)])[0].seq == 9


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, MAX_BODY_BYTES])
def test_too_large_a_body_is_no_message(size: int) -> None:
    """The limit is on the body, and the limit itself passes."""
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
        ({"truth": "x" * 129}, "properties"),
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
def test_wrong_properties_are_refused_by_reason(change: dict[str, str | None], reason: str) -> None:
    """Anybody may send to an input: each fault has one word, and nothing else than BadFrame comes out."""
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
def test_a_wrong_body_is_refused_by_reason(change: dict[str, object], reason: str) -> None:
    """A body that cannot be this picture is refused before anything decodes it."""
    with pytest.raises(BadFrame) as caught:
        Frame.from_message(replace(FRAME.to_message(), **change))  # type: ignore[arg-type]
    assert caught.value.reason == reason


@given(
    st.dictionaries(st.text(max_size=9), st.text(max_size=30)), st.binary(max_size=40), st.text(max_size=20)
)
def test_nothing_but_bad_frame_is_raised(properties: dict[str, str], body: bytes, kind: str) -> None:
    """What anybody sends cannot end a module."""
    message = Message(body, properties, content_type=kind)
    with pytest.raises(BadFrame):
        Frame.from_message(message)


@given(IDS)
def test_flow_survives_its_message(frame: FrameId) -> None:
    """An answer reaches the camera as it was given."""
    flow = Flow(frame.camera, frame.run, frame.seq)
    message = flow.to_message()
    assert Flow.from_message(message) == flow
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def test_a_fresh_flow_is_known_as_such() -> None:
    """The first word of a new inference process names no camera, and none can be called `*`."""
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
def test_a_wrong_flow_is_refused(body: bytes) -> None:
    """A flow message is anybody's too."""
    with pytest.raises(BadFrame) as caught:
        Flow.from_message(Message(body, {}))
    assert caught.value.reason == "flow"


def test_a_message_does_not_print_its_body() -> None:
    """A picture has no place in a log."""
    assert "body" not in repr(FRAME.to_message())
    assert "image" not in repr(FRAME)
