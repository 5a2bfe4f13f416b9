"""The boot id and the conversion between clocks."""

import uuid

from edgekit import clock


def test_the_boot_id_is_constant() -> None:
    """It is a UUID and the same at each call."""
    assert clock.boot_id() == clock.boot_id()
    uuid.UUID(clock.boot_id())


def test_a_monotonic_timestamp_has_a_wall_clock_time() -> None:
    """Five seconds ago on one clock is five seconds ago on the other."""
    assert (
        abs(clock.wall_of(clock.mono_ns() - 5_000_000_000) - (clock.wall_ns() - 5_000_000_000))
        < 1_000_000_000
    )
