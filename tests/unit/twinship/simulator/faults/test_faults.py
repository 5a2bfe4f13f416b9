"""Fault values, the delay queue and the link shaper, with a manual clock."""

from __future__ import annotations

import pytest

from tests.unit.twinship.simulator.edge import ManualClock
from twinship.simulator.faults.faults import KNOBS, FaultRefused, Faults, fault_value
from twinship.simulator.faults.shaping import SLICE_BYTES, DelayQueue, LinkShaper


def test_the_same_traffic_meets_the_same_faults_again() -> None:
    """One seeded generator draws for each message; another seed hits other messages."""

    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.set("duplicate-delivery", 0.3)
        return [faults.strikes("duplicate-delivery") for _ in range(1000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 200 < sum(drawn(1)) < 400


def test_a_fault_that_is_off_never_strikes_and_0_switches_off() -> None:
    """on_change runs after every change."""
    faults, changes = Faults(), []
    faults.on_change.append(lambda: changes.append(dict(faults.active)))
    assert not faults.strikes("duplicate-delivery")
    faults.set("delay-puback")
    faults.set("late-twin", 2)
    faults.set("delay-puback", 0)
    faults.end()
    usual = KNOBS["delay-puback"].usual
    assert changes == [{"delay-puback": usual}, {"delay-puback": usual, "late-twin": 2}, {"late-twin": 2}, {}]


@pytest.mark.parametrize(
    ("name", "value"),
    [("none", 1), ("late-twin", -1), ("duplicate-delivery", 1.1), ("link-rate", float("nan"))],
)
def test_an_invalid_value_changes_nothing(name: str, value: float) -> None:
    """FaultRefused names the valid faults or values."""
    faults = Faults()
    with pytest.raises(FaultRefused, match=r"there are|is 0 to"):
        faults.set(name, value)
    assert faults.active == {}


def test_fault_values_are_parsed() -> None:
    """The text is a number, on, off or missing."""
    assert [fault_value(text) for text in (None, "on", "off", "0.5")] == [None, None, 0.0, 0.5]
    with pytest.raises(FaultRefused, match="not a number"):
        fault_value("much")


def test_delayed_callbacks_keep_their_order() -> None:
    """Also if the delay gets shorter; release() runs all at once, and later delays apply again."""
    clock, called = ManualClock(), []
    queue = DelayQueue(clock)
    queue.hold(0, lambda: called.append(0))
    queue.hold(5, lambda: called.append(1))
    queue.hold(1, lambda: called.append(2))
    clock.advance(4.9)
    assert called == [0]
    clock.advance(0.1)
    assert called == [0, 1, 2]
    queue.hold(3600, lambda: called.append(3))
    queue.release()
    queue.hold(1, lambda: called.append(4))
    clock.advance(1)
    assert called == [0, 1, 2, 3, 4]


def test_a_link_carries_at_its_rate_after_its_delay() -> None:
    """1,000 bytes at 100 bytes/s and 2 s arrive in order after 12 s, and not before."""
    clock, out = ManualClock(), bytearray()
    link = LinkShaper(clock, out.extend)
    link.shape(100, 2, black_hole=False)
    link.put(b"a" * 400)
    link.put(b"b" * 600)
    clock.advance(5.9)
    assert bytes(out) == b""
    clock.advance(0.2)
    assert bytes(out) == b"a" * 400
    clock.advance(5.8)
    assert len(out) == 400
    clock.advance(0.2)
    assert bytes(out) == b"a" * 400 + b"b" * 600
    assert link.waiting_bytes == 0


def test_a_long_read_is_carried_in_segments() -> None:
    """A short packet at its start does not wait for its end."""
    clock, out = ManualClock(), bytearray()
    link = LinkShaper(clock, out.extend)
    link.shape(SLICE_BYTES, 0, black_hole=False)
    link.put(bytes(10 * SLICE_BYTES))
    clock.advance(3.01)
    assert len(out) == 3 * SLICE_BYTES


def test_a_black_hole_holds_all_bytes_until_it_ends() -> None:
    """Then all bytes leave in order, and later bytes leave at once."""
    clock, out = ManualClock(), bytearray()
    link = LinkShaper(clock, out.extend)
    link.shape(0, 0, black_hole=True)
    link.put(b"1")
    clock.advance(1e6)
    link.put(b"2")
    assert (bytes(out), link.waiting_bytes) == (b"", 2)
    link.shape(0, 0, black_hole=False)
    link.put(b"3")
    assert bytes(out) == b"123"


def test_a_new_rate_applies_to_waiting_bytes() -> None:
    """From slow to fast: the waiting bytes use the new rate, and the old alarm is cancelled."""
    clock, out = ManualClock(), bytearray()
    link = LinkShaper(clock, out.extend)
    link.shape(1, 0, black_hole=False)
    link.put(b"x" * 100)
    link.shape(100, 0, black_hole=False)
    clock.advance(1.01)
    assert len(out) == 100


def test_every_byte_counts_once() -> None:
    """On a fast link, on a slow one, and when the rate changes while bytes wait."""
    clock, out = ManualClock(), bytearray()
    link = LinkShaper(clock, out.extend)
    link.put(b"x" * 7)
    link.shape(1, 0, black_hole=False)
    link.put(b"x" * 100)
    link.shape(100, 0, black_hole=False)
    clock.advance(5)
    assert link.taken_bytes == len(out) == 107
