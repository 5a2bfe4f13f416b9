"""The outbox: order and bounds."""

import threading

import pytest

from edgekit.frame.message import MAX_BODY_BYTES, Message
from edgekit.hub.outbox import Outbox, Outgoing, too_large


def outgoing(size: int = 1, name: str = "a") -> Outgoing:
    """A message of `size` bytes."""
    return Outgoing("frames", Message(bytes(size), {}, message_id=name))


def test_messages_leave_in_order_and_count_until_they_are_settled() -> None:
    """What is under way is not sent: it may have to be sent again."""
    box = Outbox(10, 1000)
    for name in "abc":
        assert box.put(outgoing(name=name))
    left: list[Outgoing] = []
    while (taken := box.take(timeout_s=0)) is not None:
        left.append(taken)
        box.begun(taken)
    assert [each.message.message_id for each in left] == ["a", "b", "c"]
    assert len(box) == 3
    box.settled(left[1])
    assert len(box) == 2


def test_the_next_is_given_out_when_the_one_before_has_begun() -> None:
    """Whoever takes it: two threads that put one on the wire at a time could change their order."""
    box = Outbox(10, 1000)
    for name in "abc":
        box.put(outgoing(name=name))
    first = box.take(timeout_s=0)
    assert first
    assert box.take(timeout_s=0) is None
    threading.Timer(0.02, box.begun, [first]).start()
    second = box.take(timeout_s=5)
    assert second
    assert second.message.message_id == "b"
    box.begun(first)
    assert box.take(timeout_s=0) is None, "the first has begun already, the second has not"


def test_a_message_wakes_a_sender_that_waits() -> None:
    """Nothing else would."""
    box = Outbox(10, 1000)
    threading.Timer(0.02, box.put, [outgoing(name="late")]).start()
    taken = box.take(timeout_s=5)
    assert taken
    assert taken.message.message_id == "late"


def test_a_full_outbox_takes_no_more() -> None:
    """Bounded by number and by bytes; what is removed makes room."""
    by_number, by_bytes = Outbox(2, 1000), Outbox(100, 10)
    assert [by_number.put(outgoing()) for _ in range(3)] == [True, True, False]
    assert [by_bytes.put(outgoing(5)) for _ in range(3)] == [True, True, False]
    taken, other = by_bytes.take(timeout_s=0), by_number.take(timeout_s=0)
    assert taken
    assert other
    assert not by_bytes.put(outgoing(5)), "what is under way takes room, too"
    assert not by_number.put(outgoing())
    by_bytes.settled(taken)
    by_number.settled(other)
    assert by_bytes.put(outgoing(5))
    assert by_number.put(outgoing())


def test_a_single_message_is_never_too_much() -> None:
    """A bound of bytes smaller than one message must not stop it for ever."""
    assert Outbox(10, 4).put(outgoing(5))


def test_waiting_ends_when_the_last_message_is_gone() -> None:
    """Draining waits for the acknowledgement, not for the send."""
    box = Outbox(10, 1000)
    box.put(outgoing())
    taken = box.take(timeout_s=0)
    assert taken
    assert box.wait_empty(timeout_s=0.01) == 1
    threading.Timer(0.02, box.settled, [taken]).start()
    assert box.wait_empty(timeout_s=5) == 0


def test_a_closed_outbox_wakes_everybody() -> None:
    """Neither the sender nor a drain may outlive the module."""
    box = Outbox(10, 1000)
    threading.Timer(0.02, box.close).start()
    assert box.take(timeout_s=5) is None
    assert not box.put(outgoing())


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (Message(bytes(MAX_BODY_BYTES), {}), None),
        (Message(bytes(MAX_BODY_BYTES + 1), {}), "body"),
        (Message(b"", {"a": "x" * 1_000}), None),
        (Message(b"", {"a": "x" * 1_030}), "properties"),
        (Message(b"", {"a": "ü" * 600}), "properties"),
    ],
)
def test_what_no_hub_would_take_is_named(message: Message, why: str | None) -> None:
    """Body and percent-encoded properties together must stay clear of edgeHub's packet limit."""
    reason = too_large(message)
    assert (reason is None) if why is None else (reason or "").startswith(why)
