"""When a picture of a video file is shown: at the pace of its timestamps. Pure: the caller passes the time.

>>> playback = Playback()
>>> [playback.delay_s(at_s, now_s=5.0) for at_s in (0.0, 0.25, 900.0, 900.5)]
[0.0, 0.25, 0.0, 0.5]
"""

from dataclasses import dataclass

_MAX_DELAY_S = 1.0  # a larger distance is a jump of the timestamps: what follows counts from there
_UNKNOWN_S = 0.04  # without timestamps


@dataclass
class Playback:
    """The clock of one playing of a file."""

    _offset_s: float | None = None  # a picture's timestamp + this = when it is due

    def delay_s(self, at_s: float | None, now_s: float) -> float:
        """Seconds until the picture with timestamp `at_s` is due, 0 to 1."""
        if at_s is None:
            return _UNKNOWN_S
        delay_s = _MAX_DELAY_S + 1 if self._offset_s is None else at_s + self._offset_s - now_s
        if abs(delay_s) > _MAX_DELAY_S:
            self._offset_s, delay_s = now_s - at_s, 0.0
        return max(0.0, delay_s)
