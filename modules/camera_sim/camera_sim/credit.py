"""How many frames may be under way. Takes the time; sends and waits for nothing."""

# The frames route lets a message live for 10 s: what the hub has had for longer was delivered or is gone. Not
# much longer: an inference that comes back just then finds an empty queue, and the camera must not wait on.
FORGET_NS = 10_500_000_000


class Credit:
    """Frames without an answer, by seq. PUBACK means stored, not seen: without this no backlog is felt."""

    def __init__(self) -> None:
        self._under_way: dict[int, int | None] = {}  # seq → when it was stored, in order of seq

    def __len__(self) -> int:
        return len(self._under_way)

    def took(self, seq: int) -> None:
        """A frame is on its way to the hub, and stays so until stored: the outbox forgets nothing."""
        self._under_way[seq] = None

    def stored(self, seq: int, now_ns: int) -> None:
        """The hub has it; from now on it is forgotten after 10.5 s."""
        if seq in self._under_way:
            self._under_way[seq] = now_ns

    def dropped(self, seq: int) -> None:
        """It never left."""
        self._under_way.pop(seq, None)

    def settled(self, seq: int) -> None:
        """The other side has answered or dropped everything up to `seq`."""
        for each in [each for each in self._under_way if each <= seq]:
            del self._under_way[each]

    def clear(self) -> None:
        """The other side is new: it will not answer anything that was sent before."""
        self._under_way.clear()

    def allows(self, limit: int, now_ns: int) -> bool:
        """Whether one more may be sent; a limit of 0 always allows it."""
        if limit == 0:
            return True
        while self._under_way:
            seq, stored_ns = next(iter(self._under_way.items()))
            if stored_ns is None or now_ns - stored_ns <= FORGET_NS:
                break
            del self._under_way[seq]
        return len(self._under_way) < limit
