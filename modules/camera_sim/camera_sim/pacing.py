"""When the next frame is due. Takes the time; waits for nothing."""

import random
from typing import Literal

Pacing = Literal["steady", "poisson"]


class Pacer:
    """Frames at a rate. A camera that was held up goes on from now: it never catches up in a burst.

    `steady` keeps the same distance between two; `poisson` draws each from an exponential distribution of the
    same mean, as what people do arrives. The same seed draws the same.
    """

    def __init__(self, seed: int = 7) -> None:
        self._slot_ns: int | None = None  # when the last frame was due
        self._chance = random.Random(seed)
        self._distance = 1.0  # from the last frame to the next, in periods

    def wait_ns(self, now_ns: int, fps: float) -> int:
        """How long until the next frame is due; 0 if it is."""
        if self._slot_ns is None:
            return 0
        return max(0, self._slot_ns + self._gap_ns(fps) - now_ns)

    def took(self, now_ns: int, fps: float, pacing: Pacing = "steady") -> None:
        """A frame was taken now."""
        due = now_ns if self._slot_ns is None else self._slot_ns + self._gap_ns(fps)
        self._slot_ns = due if abs(now_ns - due) < round(1e9 / fps) else now_ns
        self._distance = 1.0 if pacing == "steady" else self._chance.expovariate(1.0)

    def _gap_ns(self, fps: float) -> int:
        return round(self._distance * 1e9 / fps)
