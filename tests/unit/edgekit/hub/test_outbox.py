"""The outbox: order and limits."""

import threading

import pytest

from edgekit.frame.message import MAX_BODY_BYTES, Message
from edgekit.hub.outbox import Outbox, Outgoing, too_large


def outgoing(size: int = 1, name: str = "a") -> Outgoing:
    """A message of `size` bytes."""
    return Outgoing("frames", Message(bytes(size), {}, message_id=name))


def test_messages_leave_in_order_and_count_until_acknowledged() -> None:
    """A message on the wire still counts: it may have to be sent again."""
    box = Outbox(10, 1000)
    for name in "abc":
        assert box.put(outgoing(name=name))
    left: list[Outgoing] = []
    while (taken := box.take(timeout_s=0)) is not None:
        left.append(taken)
        box.on_wire(taken)
    assert [each.message.message_id for each in left] == ["a", "b", "c"]
    assert len(box) == 3
    box.acknowledged(left[1])
    assert len(box) == 2


def test_the_next_message_waits_until_the_one_before_is_on_the_wire() -> None:
    """Two threads that write at the same time could change the order."""
    box = Outbox(10, 1000)
    for name in "abc":
        box.put(outgoing(name=name))
    first = box.take(timeout_s=0)
    assert first
    assert box.take(timeout_s=0) is None
    threading.Timer(0.02, box.on_wire, [first]).start()
    second = box.take(timeout_s=5)
    assert second
    assert second.message.message_id == "b"
    box.on_wire(first)
    assert box.take(timeout_s=0) is None, "a repeated call for the first must not release the third"


def test_put_wakes_a_waiting_take() -> None:
    """A sender waits in `take` until there is a message."""
    box = Outbox(10, 1000)
    threading.Timer(0.02, box.put, [outgoing(name="late")]).start()
    taken = box.take(timeout_s=5)
    assert taken
    assert taken.message.message_id == "late"


def test_a_full_outbox_refuses_messages() -> None:
    """Number and bytes are limited; an acknowledged message makes room."""
    by_number, by_bytes = Outbox(2, 1000), Outbox(100, 10)
    assert [by_number.put(outgoing()) for _ in range(3)] == [True, True, False]
    assert [by_bytes.put(outgoing(5)) for _ in range(3)] == [True, True, False]
    taken, other = by_bytes.take(timeout_s=0), by_number.take(timeout_s=0)
    assert taken
    assert other
    assert not by_bytes.put(outgoing(5)), "a message in flight takes room, too"
    assert not by_number.put(outgoing())
    by_bytes.acknowledged(taken)
    by_number.acknowledged(other)
    assert by_bytes.put(outgoing(5))
    assert by_number.put(outgoing())


def test_an_empty_outbox_accepts_a_message_over_the_byte_limit() -> None:
    """A limit smaller than one message must not block that message for ever."""
    assert Outbox(10, 4).put(outgoing(5))


def test_wait_empty_returns_when_the_last_message_is_acknowledged() -> None:
    """A message on the wire is not enough."""
    box = Outbox(10, 1000)
    box.put(outgoing())
    taken = box.take(timeout_s=0)
    assert taken
    assert box.wait_empty(timeout_s=0.01) == 1
    threading.Timer(0.02, box.acknowledged, [taken]).start()
    assert box.wait_empty(timeout_s=5) == 0


def test_close_wakes_waiting_threads() -> None:
    """`take` returns None and `put` returns False once closed."""
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
        (Message(bytes(MAX_BODY_BYTES), {"a": "x" * 1_030}), "properties"),
        (Message(bytes(MAX_BODY_BYTES), {"a": "ü" * 600}), "properties"),
        (Message(b"", {"a": "x" * 19_990}), None),
        (Message(b"", {"a": "x" * 20_000}), "properties"),
    ],
)
def test_too_large_names_the_reason(message: Message, why: str | None) -> None:
    """Body and percent-encoded properties together must stay under edgeHub's packet limit."""
    reason = too_large(message)
    assert (reason is None) if why is None else (reason or "").startswith(why)
