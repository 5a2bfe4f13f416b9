"""The clocks of a frame."""

import uuid

from edgekit import clock


def test_the_boot_id_is_one_and_stays() -> None:
    """Two processes of one boot must find the same."""
    assert clock.boot_id() == clock.boot_id()
    uuid.UUID(clock.boot_id())


def test_a_monotonic_stamp_has_a_time_of_day() -> None:
    """A PUBACK is stamped on the monotonic clock and recorded on the wall clock."""
    assert (
        abs(clock.wall_of(clock.mono_ns() - 5_000_000_000) - (clock.wall_ns() - 5_000_000_000))
        < 1_000_000_000
    )
