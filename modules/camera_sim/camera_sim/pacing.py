"""Computes when the next frame is due. The caller passes the time in."""

import random
from typing import Literal

Pacing = Literal["steady", "poisson"]


class Pacer:
    """Paces frames at a rate. After a delay it continues from now: it never catches up in a burst.

    `steady` keeps equal intervals. `poisson` draws each interval from an exponential distribution with the
    same mean, like independent arrivals; the same seed draws the same intervals. With a `burst` of n, n
    frames are due at once, and then none for n intervals.
    """

    def __init__(self, seed: int = 7) -> None:
        self._due_ns: int | None = None  # when the last frame was due
        self._random = random.Random(seed)
        self._periods = 1.0  # from the last frame to the next
        self._in_burst = 0  # frames of this burst that were taken

    def wait_ns(self, now_ns: int, fps: float) -> int:
        """The time until the next frame is due; 0 if it is due."""
        if self._due_ns is None:
            return 0
        return max(0, self._due_ns + self._interval_ns(fps) - now_ns)

    def taken(self, now_ns: int, fps: float, pacing: Pacing = "steady", burst: int = 1) -> None:
        """A frame was taken now."""
        due = now_ns if self._due_ns is None else self._due_ns + self._interval_ns(fps)
        self._due_ns = due if abs(now_ns - due) < round(1e9 / fps) else now_ns
        self._in_burst = (self._in_burst + 1) % burst
        if self._in_burst:
            self._periods = 0.0
        else:
            self._periods = burst * (1.0 if pacing == "steady" else self._random.expovariate(1.0))

    def _interval_ns(self, fps: float) -> int:
        return round(self._periods * 1e9 / fps)
