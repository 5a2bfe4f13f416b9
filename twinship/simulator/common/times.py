"""Times as IoT Hub and IoT Edge write them: ISO 8601 in UTC.

>>> iso_time(1.5), iso_time(1.5, "milliseconds"), iso_time(None)
('1970-01-01T00:00:01.500000Z', '1970-01-01T00:00:01.500Z', '0001-01-01T00:00:00Z')
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NEVER: Final = "0001-01-01T00:00:00Z"  # IoT Hub's time of an event that has not happened yet (ref 5.3)


def iso_time(seconds: float | None, timespec: str = "microseconds") -> str:
    """The text for a number of seconds since the epoch; NEVER for None."""
    if seconds is None:
        return NEVER
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
