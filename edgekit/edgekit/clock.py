"""The three clocks of a frame's ledger; decides nothing about which of them to trust."""

import functools
import time
import uuid
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@functools.cache
def boot_id() -> str:
    """This boot of this machine. Two stamps of `mono_ns` compare only if their boot ids are equal."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return str(
            uuid.uuid4()
        )  # no such file here: an id that equals nobody else's, so wall clocks are used


def mono_ns() -> int:
    """CLOCK_MONOTONIC, which all processes of one boot share, in nanoseconds."""
    return time.monotonic_ns()


def wall_ns() -> int:
    """Nanoseconds since the epoch, as this machine believes."""
    return time.time_ns()


def wall_of(mono: int) -> int:
    """The wall-clock time of a CLOCK_MONOTONIC stamp of this boot, both in nanoseconds."""
    return wall_ns() - (mono_ns() - mono)
