"""The clocks for the timestamps of a frame's stages: monotonic, wall, and the boot id."""

import functools
import time
import uuid
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def boot_id() -> str:
    """Id of the current boot. Two `mono_ns` timestamps are comparable only if their boot ids are equal."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(uuid.uuid4())  # no such file: an id that no other process has, so wall clocks are used


def mono_ns() -> int:
    """CLOCK_MONOTONIC in nanoseconds; all processes of one boot share it."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """This machine's wall clock in nanoseconds since the epoch."""
    return time.time_ns()


def wall_of(mono: int) -> int:
    """Convert a CLOCK_MONOTONIC timestamp of this boot to wall-clock time, both in nanoseconds."""
    return wall_ns() - (mono_ns() - mono)
