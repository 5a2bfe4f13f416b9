"""Limits the frames in flight: taken by the camera, but not acknowledged by a flow message.

A PUBACK says that the hub has stored a frame, not that inference has seen it. Without this limit the camera
would not notice a backlog. The caller passes the time in.

>>> credit = Credit()
>>> for seq in (0, 1, 2):
...     credit.taken(seq)
>>> credit.allows(limit=3, now_ns=0)
False
>>> credit.acknowledged(1)
>>> credit.allows(limit=3, now_ns=0)
True
"""

# The frames route keeps a message for 10 s: an older frame was delivered or has expired.
# The margin is small, because an inference module that comes back then waits for frames.
FORGET_NS = 10_500_000_000


class Credit:
    """The frames in flight, by seq."""

    def __init__(self) -> None:
        self._in_flight: dict[int, int | None] = {}  # seq → when the hub stored it, ascending by seq

    def taken(self, seq: int) -> None:
        """The camera has taken a frame. It stays in flight for any time until the hub stores it."""
        self._in_flight[seq] = None

    def stored(self, seq: int, now_ns: int) -> None:
        """The hub has stored the frame, so it expires 10.5 s from now."""
        if seq in self._in_flight:
            self._in_flight[seq] = now_ns

    def dropped(self, seq: int) -> None:
        """The outbox refused the frame."""
        self._in_flight.pop(seq, None)

    def acknowledged(self, seq: int) -> None:
        """A flow message acknowledged every frame up to `seq`."""
        for each in [each for each in self._in_flight if each <= seq]:
            del self._in_flight[each]

    def clear(self) -> None:
        """A new inference process has started: it will not acknowledge frames that were sent before."""
        self._in_flight.clear()

    def allows(self, limit: int, now_ns: int) -> bool:
        """Whether the camera may take one more frame; always with a limit of 0."""
        if limit == 0:
            return True
        while self._in_flight:
            seq, stored_ns = next(iter(self._in_flight.items()))
            if stored_ns is None or now_ns - stored_ns <= FORGET_NS:
                break
            del self._in_flight[seq]
        return len(self._in_flight) < limit
