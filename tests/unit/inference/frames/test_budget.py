"""The budget upstream: in simulated time, no day takes more than it allows."""

from collections.abc import Callable, Iterator
from itertools import accumulate, chain, repeat

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inference.frames import budget as budgets
from inference.frames.budget import (
    DAY_S,
    HOLD_S,
    MAX_LATENCY_BYTES,
    OVERHEAD_BYTES,
    Budget,
    Packer,
    Use,
    blocks,
)

S = 10**9
DAY = DAY_S * S
LATENCY = 1_600  # bytes
EVENT = 400


class Sender:
    """Sends as inference does, and notes the blocks of each message with its time."""

    def __init__(self, per_day: int, block_bytes: int) -> None:
        self.budget = Budget()
        self.budget.configure(per_day, block_bytes, 0)
        self.packer = Packer[int](self.budget)
        self.sent: list[tuple[int, int]] = []  # time, blocks
        self.waits: list[int] = []

    def prediction(self, size: int, use: Use, now: int) -> None:
        self.flush(now)
        began = now
        full = self.packer.offer(size, size, use, now) if not self.packer.hopeless(use, now) else None
        self._send(full or [], began)

    def flush(self, now: int) -> None:
        if self.packer.due is not None and now >= self.packer.due:
            self._send(self.packer.take(), self.packer.due or now)

    def latency(self, now: int) -> None:
        if self.budget.affords(Use.LATENCY, self.budget.blocks(MAX_LATENCY_BYTES), now):
            self.charge(LATENCY, now)

    def charge(self, size: int, now: int) -> None:
        count = self.budget.blocks(size)
        self.budget.charge(count, now)
        self.sent.append((now, count))

    def _send(self, sizes: list[int], now: int) -> None:
        if sizes:
            self.sent.append(
                (now, blocks(OVERHEAD_BYTES + sum(sizes) + len(sizes) - 1, self.budget.block_bytes))
            )

    def most_in_a_day(self) -> int:
        """The most blocks of any 24 hours."""
        most = first = total = 0
        for now, count in self.sent:
            total += count
            while self.sent[first][0] <= now - DAY:
                total -= self.sent[first][1]
                first += 1
            most = max(most, total)
        return most


def steady(period_s: float) -> Callable[[], Iterator[float]]:
    return lambda: repeat(period_s)


#: Pauses between frames, s, of several ways in which they arrive.
ARRIVALS: dict[str, Callable[[], Iterator[float]]] = {
    "steady": steady(10.0),
    "rare": steady(701.0),
    "bursts after quiet hours": lambda: chain.from_iterable(
        chain(repeat(0.05, 1_000), repeat(7_000.0, 1)) for _ in range(100)
    ),
    "a quiet day, then without a pause": lambda: chain([float(DAY_S)], repeat(6.0)),
}


def run(sender: Sender, pauses: Iterator[float], sizes: list[int], uses: list[Use], events: int) -> None:
    """Two simulated days. Each event is a drift or a refusal."""
    interval = int(sender.budget.latency_interval_s(10) * S)
    next_latency, left = interval, events
    for number, now_s in enumerate(accumulate(pauses)):
        now = int(now_s * S)
        if now >= 2 * DAY:
            break
        if now >= next_latency:
            sender.latency(now)
            next_latency = now + interval
        if left and number % 97 == 96:
            sender.charge(EVENT, now)
            left -= 1
        sender.prediction(sizes[number % len(sizes)], uses[number % len(uses)], now)


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize(("per_day", "block_bytes"), [(200, 4_096), (8_000, 512), (8_000, 4_096)])
@settings(max_examples=10)
@given(
    sizes=st.lists(st.integers(200, 6_000), min_size=1, max_size=5),
    uses=st.lists(st.sampled_from([Use.CHANGE, Use.ORDINARY]), min_size=1, max_size=4),
)
@example(sizes=[560], uses=[Use.ORDINARY])
@example(sizes=[560], uses=[Use.CHANGE])
def test_no_day_takes_more_than_the_budget(
    per_day: int, block_bytes: int, arrival: str, sizes: list[int], uses: list[Use]
) -> None:
    """In any 24 hours, with predictions of any use, latency messages and a few events."""
    sender = Sender(per_day, block_bytes)
    run(sender, ARRIVALS[arrival](), sizes, uses, events=3)
    assert 0 < sender.most_in_a_day() <= per_day


def test_a_bucket_that_refills_with_the_whole_day_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter-proof: a full bucket besides a whole day's refill is more than the day allows."""

    def refill(self: Budget, now: int) -> None:
        passed, self._at = max(0, now - self._at), max(now, self._at)
        self._tokens = min(self._capacity, self._tokens + self._per_day * passed / DAY)

    monkeypatch.setattr(Budget, "_refill", refill)
    sender = Sender(8_000, 512)
    run(sender, ARRIVALS["a quiet day, then without a pause"](), [560], [Use.CHANGE], events=0)
    assert sender.most_in_a_day() > 8_000


def test_a_budget_is_used_and_not_only_kept() -> None:
    """Frames that come all day get nine tenths of it."""
    sender = Sender(8_000, 512)
    run(sender, ARRIVALS["steady"](), [560], [Use.CHANGE], events=0)
    assert sender.most_in_a_day() > 7_200


def test_what_matters_less_leaves_tokens_for_what_matters_more() -> None:
    """After ordinary predictions a change is sent, after changes a latency message, then events."""
    budget = Budget()
    budget.configure(24_000, 4_096, 0)
    hour = 3_600 * S
    while budget.take(Use.ORDINARY, 1, hour):
        pass
    left = []
    for use in (Use.CHANGE, Use.LATENCY):
        left.append(0)
        while budget.take(use, 1, hour):
            left[-1] += 1
    assert left == [250, 125]
    assert not budget.affords(Use.LATENCY, 1, hour)
    for _ in range(125):  # the reserve of events
        budget.charge(1, hour)
    assert budget._tokens >= 0


def test_events_are_paid_for_in_any_case() -> None:
    """A debt is worked off before a prediction is sent."""
    budget = Budget()
    budget.configure(24_000, 4_096, 0)
    budget.charge(1_500, 0)  # the bucket began with 500
    hour_ns = 3_600 * S
    assert not budget.take(Use.LATENCY, 1, hour_ns)
    assert budget.take(Use.LATENCY, 1, 2 * hour_ns)


def test_without_a_limit_everything_is_sent() -> None:
    """The default: no budget, and the interval of the twin."""
    budget = Budget()
    assert budget.take(Use.ORDINARY, 10**9, 0)
    assert budget.latency_interval_s(10) == 10


def test_a_twin_that_is_read_again_refills_nothing() -> None:
    """A module reads its twin at each connect."""
    budget = Budget()
    budget.configure(8_000, 512, 0)
    while budget.take(Use.CHANGE, 1, 0):
        pass
    budget.configure(8_000, 512, 0)
    assert not budget.take(Use.CHANGE, 1, 0)


@pytest.mark.parametrize(
    ("per_day", "block_bytes", "interval_s"),
    [(8_000, 512, 172.8), (8_000, 4_096, 43.2), (400_000, 4_096, 10)],
)
def test_the_latency_message_takes_a_quarter_of_the_budget(
    per_day: int, block_bytes: int, interval_s: float
) -> None:
    """Its interval is stretched to that, and never shortened."""
    budget = Budget()
    budget.configure(per_day, block_bytes, 0)
    assert budget.latency_interval_s(10) == pytest.approx(interval_s)
    assert budget.latency_interval_s(3_600) == 3_600


def test_records_share_the_blocks_of_the_first() -> None:
    """Seven records of 500 bytes fill a block of 4 KB: one message, paid for once."""
    sender = Sender(8_000, 4_096)
    for number in range(14):
        sender.prediction(500, Use.CHANGE, number)
    assert sender.sent == [(7, 1)]
    sender.flush(7 + int(HOLD_S * S) - 1)
    assert len(sender.sent) == 1
    sender.flush(7 + int(HOLD_S * S))
    assert [count for _, count in sender.sent] == [1, 1]


def test_an_ordinary_record_fills_a_block_that_is_paid_for() -> None:
    """It costs nothing there, although the budget has none left for such."""
    budget = Budget()
    budget.configure(8_000, 4_096, 0)
    packer = Packer[str](budget)
    assert packer.hopeless(Use.ORDINARY, 0)
    assert packer.offer("o", 500, Use.ORDINARY, 0) is None
    assert packer.offer("c", 500, Use.CHANGE, 0) == []
    assert not packer.hopeless(Use.ORDINARY, 0)
    assert packer.offer("o", 500, Use.ORDINARY, 0) == []
    assert packer.take() == ["c", "o"]


def test_the_sizes_of_iot_hub() -> None:
    """A message counts once for each started block."""
    assert [blocks(size, 4_096) for size in (0, 1, 4_096, 4_097)] == [1, 1, 1, 2]
    assert budgets.LATENCY_BYTES <= MAX_LATENCY_BYTES
