"""When the next frame is due. Takes the time; waits for nothing."""


class Pacer:
    """Frames at a steady rate. A camera that was held up goes on from now: it never catches up in a burst."""

    def __init__(self) -> None:
        self._slot_ns: int | None = None  # when the last frame was due

    def wait_ns(self, now_ns: int, fps: float) -> int:
        """How long until the next frame is due; 0 if it is."""
        if self._slot_ns is None:
            return 0
        return max(0, self._slot_ns + _period_ns(fps) - now_ns)

    def took(self, now_ns: int, fps: float) -> None:
        """A frame was taken now."""
        period = _period_ns(fps)
        due = now_ns if self._slot_ns is None else self._slot_ns + period
        self._slot_ns = due if abs(now_ns - due) < period else now_ns


def _period_ns(fps: float) -> int:
    return round(1e9 / fps)
