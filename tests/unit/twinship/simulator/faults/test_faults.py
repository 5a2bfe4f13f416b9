"""Faults as knobs, and what a slow edge and a slow link are made of: by a clock turned by hand."""

from __future__ import annotations

import pytest

from tests.unit.twinship.simulator.edge import ManualClock
from twinship.simulator.faults.faults import KNOBS, FaultRefused, Faults, fault_value
from twinship.simulator.faults.shaping import SLICE_BYTES, DelayQueue, LinkShaper


def test_the_same_traffic_meets_the_same_faults_again() -> None:
    """A share is drawn from one seeded generator; another seed strikes elsewhere."""

    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.set("duplicate-delivery", 0.3)
        return [faults.strikes("duplicate-delivery") for _ in range(1000)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 200 < sum(drawn(1)) < 400


def test_what_is_off_never_strikes_and_0_switches_off() -> None:
    """And every change is told."""
    faults, told = Faults(), []
    faults.on_change.append(lambda: told.append(dict(faults.active)))
    assert not faults.strikes("duplicate-delivery")
    faults.set("delay-puback")
    faults.set("late-twin", 2)
    faults.set("delay-puback", 0)
    faults.end()
    usual = KNOBS["delay-puback"].usual
    assert told == [{"delay-puback": usual}, {"delay-puback": usual, "late-twin": 2}, {"late-twin": 2}, {}]


@pytest.mark.parametrize(
    ("name", "value"),
    [("none", 1), ("late-twin", -1), ("duplicate-delivery", 1.1), ("link-rate", float("nan"))],
)
def test_what_cannot_be_set_changes_nothing(name: str, value: float) -> None:
    """FaultRefused names what there is."""
    faults = Faults()
    with pytest.raises(FaultRefused, match=r"there are|is 0 to"):
        faults.set(name, value)
    assert faults.active == {}


def test_values_are_read_as_people_write_them() -> None:
    """A number, on, off or nothing."""
    assert [fault_value(text) for text in (None, "on", "off", "0.5")] == [None, None, 0.0, 0.5]
    with pytest.raises(FaultRefused, match="not a number"):
        fault_value("much")


def test_what_is_held_back_keeps_its_order() -> None:
    """Also when the delay gets shorter; release() lets all go at once, and the next delay counts again."""
    clock, said = ManualClock(), []
    line = DelayQueue(clock)
    line.hold(0, lambda: said.append(0))
    line.hold(5, lambda: said.append(1))
    line.hold(1, lambda: said.append(2))
    clock.advance(4.9)
    assert said == [0]
    clock.advance(0.1)
    assert said == [0, 1, 2]
    line.hold(3600, lambda: said.append(3))
    line.release()
    line.hold(1, lambda: said.append(4))
    clock.advance(1)
    assert said == [0, 1, 2, 3, 4]


def test_a_line_carries_at_its_rate_after_its_delay() -> None:
    """1,000 bytes at 100 bytes/s and 2 s: the whole is there after 12 s, in order, and not before."""
    clock, out = ManualClock(), bytearray()
    line = LinkShaper(clock, out.extend)
    line.shape(100, 2, black_hole=False)
    line.put(b"a" * 400)
    line.put(b"b" * 600)
    clock.advance(5.9)
    assert bytes(out) == b""
    clock.advance(0.2)
    assert bytes(out) == b"a" * 400
    clock.advance(5.8)
    assert len(out) == 400
    clock.advance(0.2)
    assert bytes(out) == b"a" * 400 + b"b" * 600
    assert line.waiting_bytes == 0


def test_a_long_read_is_carried_in_segments() -> None:
    """A short packet at its front need not wait for its end."""
    clock, out = ManualClock(), bytearray()
    line = LinkShaper(clock, out.extend)
    line.shape(SLICE_BYTES, 0, black_hole=False)
    line.put(bytes(10 * SLICE_BYTES))
    clock.advance(3.01)
    assert len(out) == 3 * SLICE_BYTES


def test_a_black_hole_keeps_all_and_its_end_lets_it_through() -> None:
    """Nothing for any time; then everything, in order, and later bytes at once."""
    clock, out = ManualClock(), bytearray()
    line = LinkShaper(clock, out.extend)
    line.shape(0, 0, black_hole=True)
    line.put(b"1")
    clock.advance(1e6)
    line.put(b"2")
    assert (bytes(out), line.waiting_bytes) == (b"", 2)
    line.shape(0, 0, black_hole=False)
    line.put(b"3")
    assert bytes(out) == b"123"


def test_another_shape_counts_for_what_waits() -> None:
    """From slow to fast: what waits goes at the new rate, and the old alarm rings for nobody."""
    clock, out = ManualClock(), bytearray()
    line = LinkShaper(clock, out.extend)
    line.shape(1, 0, black_hole=False)
    line.put(b"x" * 100)
    line.shape(100, 0, black_hole=False)
    clock.advance(1.01)
    assert len(out) == 100


def test_every_byte_that_is_put_in_counts_once() -> None:
    """On a free line, on a slow one, and when its shape changes while some wait."""
    clock, out = ManualClock(), bytearray()
    line = LinkShaper(clock, out.extend)
    line.put(b"x" * 7)
    line.shape(1, 0, black_hole=False)
    line.put(b"x" * 100)
    line.shape(100, 0, black_hole=False)
    clock.advance(5)
    assert line.taken_bytes == len(out) == 107
