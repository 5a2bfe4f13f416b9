"""The frame path with a budget upstream: what waits, what is sent, and that every frame is in one count."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.clock import mono_ns
from inference.frames import publisher
from inference.frames.budget import HOLD_S, Budget
from inference.frames.frame_path import FramePath
from inference.frames.in_hand import SIZE, InHand
from inference.frames.prediction import counted_bytes
from inference.frames.publisher import Publisher
from inference.frames.settings import Settings, TelemetrySection
from tests.unit.inference.fixtures.doubles import RUN, FakeEngine, FakeHub, FakeReconciler, frame, running

S = 10**9
CLOCK: Final = SimpleNamespace(now=mono_ns())  # of the publisher, ns


@pytest.fixture(autouse=True, scope="module")
def simulated_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publisher, "mono_ns", lambda: CLOCK.now)
        yield


class CountedBudget(Budget):
    """Adds up what is paid."""

    paid = 0

    def charge(self, count: int, now: int) -> None:
        self.paid += count
        super().charge(count, now)


class Bench:
    """A frame path with a budget."""

    def __init__(self, per_day: int = 8_000, block_bytes: int = 4_096, engine: Any = None) -> None:
        self.telemetry = {"predictions": "all", "maxPerDay": per_day, "blockBytes": block_bytes}
        self.hub = FakeHub(stores=False)
        self.budget = CountedBudget()
        self.memory = bytearray(SIZE)
        in_hand = InHand(self.memory, "00112233aabbccdd")
        self.publisher = Publisher(
            self.hub.send, instance="00112233aabbccdd", finish=in_hand.finish, budget=self.budget
        )
        self.path = FramePath(
            FakeReconciler(current=running(engine)).as_reconciler(), self.publisher, in_hand=in_hand
        )
        self.set()

    def set(self, **telemetry: Any) -> None:
        self.telemetry |= telemetry
        section = TelemetrySection.model_validate(self.telemetry)
        self.budget.configure(section.maxPerDay, section.blockBytes, CLOCK.now)
        self.path.apply(Settings(telemetry=section))

    def show(self, *seqs: int, camera: str = "camera", place: int = 0) -> None:
        for seq in seqs:
            self.path.receive(frame(seq, camera=camera, place=place).to_message(), mono_ns())
            self.work()

    def work(self) -> None:
        while (arrival := self.path.next(until=0)) is not None:
            self.path.answer(arrival)

    def wait(self, seconds: float) -> None:
        CLOCK.now += int(seconds * S)
        self.path.flush(CLOCK.now)

    def counts(self) -> dict[str, int]:
        body = self.path.counters()
        counted = {"answered": body["answered"]} | body["suppressedBy"] | body["dropped"]
        return {name: count for name, count in counted.items() if count}

    def seqs(self) -> list[list[int]]:
        bodies = self.hub.of("predictions")
        return [[one["frame"]["seq"] for one in body.get("predictions", [body])] for body in bodies]


def test_predictions_wait_until_their_block_is_full_or_five_seconds_have_passed() -> None:
    """A frame that waits is in hand and in no count; the message is the one of a batch."""
    bench = Bench()
    bench.show(0, 1)
    assert (bench.hub.sent, bench.counts(), bench.path.in_hand()) == ([], {}, 2)
    bench.wait(HOLD_S - 0.001)
    assert bench.hub.sent == []
    bench.wait(0.001)
    assert (bench.seqs(), bench.counts(), bench.path.in_hand()) == ([[0, 1]], {"answered": 2}, 0)
    bench.wait(3_600)  # the bucket is full: also ordinary answers are sent
    bench.show(*range(2, 22))
    full = bench.seqs()[1:]
    assert [seq for message in full for seq in message] == list(range(2, 2 + sum(map(len, full))))
    assert len(full[0]) >= 4
    assert bench.path.in_hand() == 20 - sum(map(len, full))


def test_without_a_budget_nothing_waits() -> None:
    """Also what waited when the twin took the budget away."""
    bench = Bench()
    bench.show(0)
    bench.set(maxPerDay=0)
    bench.show(1)
    assert bench.seqs() == [[0], [1]]
    assert bench.counts() == {"answered": 2}


def test_the_last_predictions_are_sent_before_the_module_ends() -> None:
    """`flush` without a time sends what waits."""
    bench = Bench()
    bench.show(0)
    bench.path.close()
    bench.path.flush()
    assert (bench.seqs(), bench.counts()) == ([[0]], {"answered": 1})


def test_a_used_up_budget_leaves_out_what_is_ordinary_first() -> None:
    """Then changes, too. Each frame that is not sent has the reason `budget`; later there is room again."""
    bench = Bench(per_day=200)
    for seq in range(200):
        bench.show(seq)
        bench.wait(HOLD_S)
    counts = bench.counts()
    assert counts["answered"] + counts["budget"] == 200
    sent = len(bench.hub.sent)
    bench.show(200, place=1)
    bench.wait(HOLD_S)
    assert len(bench.hub.sent) == sent + 1
    for seq in range(201, 240):
        bench.show(seq, place=seq % 2)
        bench.wait(HOLD_S)
    assert bench.counts()["budget"] > counts["budget"]
    bench.wait(3_600)
    before = len(bench.hub.sent)
    bench.show(300, place=2)
    bench.wait(HOLD_S)
    assert len(bench.hub.sent) == before + 1


def test_an_outbox_that_is_full_drops_what_waited() -> None:
    """All frames of the message have the outcome `outbox`, and the next answer is a change again."""
    bench = Bench()
    bench.set(predictions="changes")
    bench.show(0)
    bench.show(1, camera="other")
    bench.hub.full = True
    bench.wait(HOLD_S)
    assert bench.counts() == {"outbox": 2}
    bench.hub.full = False
    bench.show(2)
    bench.show(3, camera="other")
    bench.wait(HOLD_S)
    assert bench.counts() == {"outbox": 2, "answered": 2}


def test_frames_of_several_cameras_share_a_message() -> None:
    """The PUBACK ends each of them."""
    bench = Bench()
    bench.show(0)
    bench.show(0, camera="other")
    bench.wait(HOLD_S)
    assert len(bench.hub.sent) == 1
    bench.hub.store()
    assert InHand(bench.memory, "00000000000000bb").lost() == []


def test_a_frame_whose_prediction_waits_at_a_kill_is_lost_in_restart() -> None:
    """The next process finds its mark; the frame is not in another count."""
    bench = Bench()
    bench.show(7)
    assert bench.counts() == {}
    assert InHand(bench.memory, "00000000000000bb").lost() == [(("camera", RUN), [7])]


@pytest.mark.parametrize("block_bytes", [512, 1_024, 4_096])
@pytest.mark.parametrize("label", ["7", "x" * 128, "é" * 128])
def test_no_message_takes_more_blocks_than_are_paid_for(block_bytes: int, label: str) -> None:
    """Counted as IoT Hub does, whatever labels, publish times and properties take."""
    engine = FakeEngine()
    engine.labels = (label, label[:-1] + "a", label[:-1] + "b")
    bench = Bench(1_000_000, block_bytes, engine)
    for seq in range(40):
        bench.show(seq)
        if seq % 3 == 0:
            bench.wait(HOLD_S)
            bench.hub.store()
    bench.wait(HOLD_S)
    used = [bench.budget.blocks(counted_bytes(each.message)) for each in bench.hub.sent]
    assert 0 < sum(used) <= bench.budget.paid


moves = st.one_of(
    st.tuples(st.just("frame"), st.integers(0, 25)),
    st.tuples(st.just("place"), st.integers(0, 2)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, HOLD_S, 600.0])),
    st.tuples(st.just("full"), st.booleans()),
    st.tuples(st.just("budget"), st.sampled_from([0, 200, 8_000])),
    st.tuples(st.just("mode"), st.sampled_from(["all", "changes", "uncertain", "none"])),
    st.tuples(st.just("store"), st.none()),
)


@given(steps=st.lists(moves, max_size=60))
def test_every_frame_has_exactly_one_outcome(steps: list[tuple[str, Any]]) -> None:
    """With any order of frames, budgets, modes and a full outbox; no frame is published twice."""
    bench, place, frames = Bench(200), 0, 0
    for move, value in steps:
        match move:
            case "frame":
                bench.show(value, place=place)
                frames += 1
            case "place":
                place = value
            case "wait":
                bench.wait(value)
            case "full":
                bench.hub.full = value
            case "budget":
                bench.set(maxPerDay=value)
            case "mode":
                bench.set(predictions=value)
            case _:
                bench.hub.store()
        repeats = bench.path.counters()["repeats"]
        assert sum(bench.counts().values()) + repeats + bench.path.in_hand() == frames
    bench.path.flush()
    assert bench.path.in_hand() == 0
    published = [seq for message in bench.seqs() for seq in message]
    assert len(published) == len(set(published)) == bench.counts().get("answered", 0)
