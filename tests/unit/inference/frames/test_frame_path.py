"""One frame from its message to its prediction: every outcome, and that each frame has exactly one."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.clock import mono_ns
from edgekit.frame.message import Flow, Message
from inference.drift.state import Drift
from inference.engine import Engine
from inference.frames.frame_path import FramePath
from inference.frames.ledger import STAGES, UNKNOWN, StageTimes
from inference.frames.publisher import Publisher
from inference.frames.settings import InferenceSection, Settings, TelemetrySection
from tests.models import RUNTIMES
from tests.unit.inference.fixtures import tiny_model
from tests.unit.inference.fixtures.doubles import (
    RUN,
    WAIT_S,
    FakeEngine,
    FakeHub,
    FakeReconciler,
    brightest_band,
    frame,
    png,
    running,
)

ALL = Settings(telemetry=TelemetrySection(predictions="all"))


class Bench:
    """A frame path between a fake hub and a fake reconciler; the test is its worker."""

    def __init__(self, current: Any = None, *, initial: Settings = ALL) -> None:
        self.hub = FakeHub()
        self.reconciler = FakeReconciler(current=current)
        self.observed: list[tuple[StageTimes, int | None]] = []
        self.publisher = Publisher(
            self.hub.send,
            instance="00112233aabbccdd",
            observe=lambda times, publish_ns: self.observed.append((times, publish_ns)),
        )
        self.path = FramePath(self.reconciler.as_reconciler(), self.publisher)
        self.path.apply(initial)

    def put(self, *messages: Message) -> None:
        for message in messages:
            self.path.receive(message, mono_ns())

    def work(self) -> None:
        """Answer all waiting frames."""
        while (arrival := self.path.next(until=0)) is not None:
            self.path.answer(arrival)

    def outcomes(self) -> dict[str, int]:
        """The counters that are not 0."""
        body = self.path.counters()
        return {
            name: count
            for name, count in (body | body["dropped"]).items()
            if name not in ("dropped", "suppressedBy", "bad_clock") and count
        }


def raises(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise RuntimeError("operator 3 failed")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_frames_are_answered_in_order_by_the_real_engine(runtime: str) -> None:
    """Each prediction has the label, identity and stages of its frame, in the order of seq."""
    bench = Bench(running(Engine(tiny_model.artefact(), runtime=runtime)))
    bench.put(*(frame(seq, place=seq).to_message() for seq in (1, 0, 2)))
    bench.work()
    bodies = bench.hub.of("predictions")
    assert [body["frame"]["seq"] for body in bodies] == [0, 1, 2]
    assert [body["top"][0]["label"] for body in bodies] == ["top", "middle", "bottom"]
    assert all(list(body["stages_ms"]) == list(STAGES[1:-1]) for body in bodies)
    assert all(body["clock"] == "monotonic" for body in bodies)
    assert bench.outcomes() == {"answered": 3}


def test_each_prediction_carries_the_publish_time_of_the_one_before() -> None:
    """The publish time of a frame is known one message later; `before` names its frame."""
    bench = Bench(running())
    for seq in range(3):
        bench.put(frame(seq).to_message())
        bench.work()
    before = [body["before"] for body in bench.hub.of("predictions")]
    assert before[0] is None
    assert [each["frame"]["seq"] for each in before[1:]] == [0, 1]
    assert all(each["publish_ms"] >= 0 for each in before[1:])


def test_stages_and_publish_add_up_to_captured_until_puback() -> None:
    """The reported stages of a frame cover its time without a gap."""
    bench = Bench(running())
    bench.hub.stores = False
    source = frame()
    bench.put(source.to_message())
    bench.work()
    (sent,) = bench.hub.sent
    assert sent.on_stored is not None
    puback = mono_ns()
    sent.on_stored(puback)
    (publish_time,) = bench.publisher.close_window(0)[1]
    total_ms = sum(sent.body["stages_ms"].values()) + publish_time.publish_ns / 1e6
    assert total_ms == pytest.approx((puback - source.mono) / 1e6, abs=1e-9)
    assert bench.observed == [(bench.observed[0][0], publish_time.publish_ns)]


@pytest.mark.parametrize(("stepped_s", "clock"), [(1_800, "wall"), (-1_800, "bad"), (7_200, "bad")])
def test_a_step_of_the_wall_clock_changes_no_stage(
    monkeypatch: pytest.MonkeyPatch, stepped_s: int, clock: str
) -> None:
    """Frames of the same boot use the monotonic clock; the others name the wall clock, or a bad one."""
    bench = Bench(running(FakeEngine()))
    monkeypatch.setattr("inference.frames.publisher.wall_ns", lambda: time.time_ns() + stepped_s * 10**9)
    bench.put(frame(0).to_message(), replace(frame(1), boot="another").to_message())
    bench.work()
    same, another = bench.hub.of("predictions")
    assert (same["clock"], another["clock"]) == ("monotonic", clock)
    assert 0 <= sum(same["stages_ms"].values()) < 60_000
    assert another["stages_ms"].get("transit") == (
        pytest.approx(stepped_s * 1e3, abs=60_000) if clock == "wall" else None
    )
    assert bench.path.counters()["bad_clock"] == (clock == "bad")
    for (times, publish_ns), body in zip(bench.observed, (same, another), strict=True):
        assert publish_ns is not None
        known = [ns for ns in times.stages if ns != UNKNOWN]
        assert sum(known) / 1e6 == pytest.approx(sum(body["stages_ms"].values()))


def test_without_a_model_frames_are_counted() -> None:
    """Without a model a frame has the outcome no_model; a later model answers later frames."""
    bench = Bench(None)
    bench.put(frame(0).to_message())
    bench.work()
    bench.reconciler.current = running()
    bench.put(frame(1).to_message())
    bench.work()
    assert bench.outcomes() == {"no_model": 1, "answered": 1}


def test_an_invalid_message_is_counted_and_the_next_frame_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """50 messages without valid properties cause one line in the log."""
    bench = Bench(running())
    nonsense = Message(b"\0", {"camera": "no such thing"})
    with caplog.at_level(logging.WARNING):
        bench.put(*[nonsense] * 50, frame().to_message())
        bench.work()
    assert bench.outcomes() == {"bad_frame": 50, "answered": 1}
    assert len(caplog.records) == 1


def test_an_unreadable_picture_does_not_count_against_the_model() -> None:
    """The frame is counted as bad; the model records neither a failure nor a latency for it."""
    bench = Bench(running())
    broken = replace(frame(0), image=b"no picture at all", content_type="image/png")
    bench.put(broken.to_message(), frame(1).to_message())
    bench.work()
    assert bench.outcomes() == {"bad_frame": 1, "answered": 1}
    assert (len(bench.reconciler.failures), len(bench.reconciler.noted)) == (0, 1)


def test_a_failure_of_the_model_is_recorded_and_the_frame_dropped() -> None:
    """Without a previous model the outcome of the frame is `engine`."""
    bench = Bench(running(FakeEngine(raises)))
    bench.put(frame().to_message())
    bench.work()
    assert bench.outcomes() == {"engine": 1}
    (failure,) = bench.reconciler.failures
    assert str(failure[1]) == "operator 3 failed"
    assert bench.reconciler.noted == []


def test_the_previous_model_answers_the_frame_on_which_a_new_one_fails() -> None:
    """A bad model loses no frame; the message and the recorded latency name the model that answered."""
    old, new = running(version="1.0.0"), running(FakeEngine(raises), version="2.0.0")
    bench = Bench(new)
    bench.reconciler.instead = old
    bench.put(frame(place=1).to_message())
    bench.work()
    (body,) = bench.hub.of("predictions")
    assert (body["model"]["version"], body["top"][0]["label"]) == ("1.0.0", "middle")
    assert bench.reconciler.noted[0][0] is old
    assert bench.outcomes() == {"answered": 1}


def test_a_frame_on_which_both_models_fail_is_dropped() -> None:
    """Each model is tried once."""
    bench = Bench(running(FakeEngine(raises)))
    bench.reconciler.instead = running(FakeEngine(raises))
    bench.put(frame().to_message())
    bench.work()
    assert bench.outcomes() == {"engine": 1}
    assert len(bench.reconciler.failures) == 2


def test_a_frame_is_answered_by_the_model_that_started_it() -> None:
    """A new model that becomes active during a frame answers the next frame."""
    bench = Bench()
    new = running(version="2.0.0")

    def swapped_meanwhile(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        bench.reconciler.current = new
        return brightest_band(pixels)

    bench.reconciler.current = running(FakeEngine(swapped_meanwhile))
    bench.put(frame(0).to_message(), frame(1).to_message())
    bench.work()
    assert [body["model"]["version"] for body in bench.hub.of("predictions")] == ["1.0.0", "2.0.0"]


def test_an_error_while_the_latency_is_recorded_loses_no_frame() -> None:
    """The prediction is sent already."""
    bench = Bench(running())
    bench.reconciler.noted = None  # type: ignore[assignment]
    bench.put(frame().to_message())
    bench.work()
    assert bench.outcomes() == {"answered": 1}


def test_drift_sees_what_the_model_saw_and_its_errors_lose_no_frame() -> None:
    """The prepared picture, the confidences and the model that answered."""
    seen: list[Any] = []

    class Watching(Drift):
        def observe(self, *done: Any) -> None:
            seen.append(done)
            raise RuntimeError("a fault of the detection")

    bench = Bench(running())
    bench.path = FramePath(bench.reconciler.as_reconciler(), bench.publisher, drift=Watching())
    bench.path.apply(ALL)
    bench.put(frame(7, place=1).to_message())
    bench.work()
    ((answered, model, pixels, scores, _),) = seen
    assert (answered.id.seq, model) == (7, bench.reconciler.current)
    assert np.array_equal(pixels, tiny_model.band(1))
    assert scores.argmax() == 1
    assert bench.outcomes() == {"answered": 1}


def test_a_full_outbox_drops_the_frame_and_keeps_the_publish_times() -> None:
    """The outcome is `outbox`, and the next message carries the publish times of the dropped one."""
    bench = Bench(running())
    for seq, full in enumerate((False, True, False)):
        bench.hub.full = full
        bench.put(frame(seq).to_message())
        bench.work()
    assert bench.outcomes() == {"answered": 2, "outbox": 1}
    assert bench.hub.of("predictions")[1]["before"]["frame"]["seq"] == 0


def test_unchanged_predictions_are_suppressed() -> None:
    """Mode "changes" sends the first label and each new one; a refused change is sent later."""
    bench = Bench(running(), initial=Settings())
    for seq, (place, full) in enumerate([(0, False), (0, False), (1, True), (1, False), (1, False)]):
        bench.hub.full = full
        bench.put(frame(seq, place=place).to_message())
        bench.work()
    assert [body["frame"]["seq"] for body in bench.hub.of("predictions")] == [0, 3]
    assert bench.outcomes() == {"answered": 2, "suppressed": 2, "outbox": 1}
    assert bench.publisher.close_window(0)[0].frames == 4


def test_a_prediction_below_the_threshold_is_uncertain() -> None:
    """It is sent with an empty label property, so that no route matches it."""
    bench = Bench(running(FakeEngine(lambda pixels: np.array([0.5, 0.3, 0.2], np.float32))))
    bench.put(frame().to_message())
    bench.work()
    (sent,) = bench.hub.sent
    assert (sent.message.properties["label"], sent.body["uncertain"]) == ("", True)


def test_top_k_follows_the_twin() -> None:
    """New settings apply to the next frame."""
    bench = Bench(running())
    bench.path.apply(replace(ALL, inference=InferenceSection(topK=1)))
    bench.put(frame().to_message())
    bench.work()
    assert len(bench.hub.of("predictions")[0]["top"]) == 1


def test_a_picture_of_another_size_is_resized() -> None:
    """The camera does not need to know the input size of the model."""
    bench = Bench(running())
    large = np.repeat(np.repeat(tiny_model.band(2), 10, axis=0), 10, axis=1)
    source = replace(frame(), image=png(large), content_type="image/png", width=40, height=60)
    bench.put(source.to_message())
    bench.work()
    assert bench.hub.of("predictions")[0]["top"][0]["label"] == "bottom"


def test_flow_names_the_last_finished_frame() -> None:
    """It is reported once, after the frames have an outcome."""
    bench = Bench(running())
    bench.put(frame(0).to_message(), frame(1).to_message())
    assert not bench.path.has_flow
    bench.work()
    assert bench.path.flows() == [Flow("camera", RUN, 1)]
    assert not bench.path.has_flow


def test_after_close_waiting_frames_can_be_answered_and_new_ones_are_counted() -> None:
    """Frames that arrive after `close` or are abandoned have the outcome `stopped`."""
    bench = Bench(running())
    bench.put(*(frame(seq).to_message() for seq in range(3)))
    bench.path.close()
    bench.put(frame(3).to_message())
    arrival = bench.path.next(until=0)
    assert arrival is not None
    bench.path.answer(arrival)
    assert bench.path.abandon() == 2
    assert bench.outcomes() == {"answered": 1, "stopped": 3}
    assert bench.path.next(until=mono_ns() + 10**12) is None


def test_frames_dropped_by_a_change_of_overload_are_counted() -> None:
    """Of 20 waiting messages `newest` keeps the last 8; the other 12 count as dropped by overload."""
    bench = Bench(running(), initial=replace(ALL, inference=InferenceSection(overload="all")))
    bench.put(*[frame(seq).to_message() for seq in range(20)])
    bench.path.apply(replace(ALL, inference=InferenceSection(overload="newest")))
    bench.work()
    assert bench.outcomes() == {"answered": 8, "overload": 12}
    assert [body["frame"]["seq"] for body in bench.hub.of("predictions")] == list(range(12, 20))


def test_the_worker_wakes_for_a_frame_and_for_close() -> None:
    """`next` waits for an event; it does not poll."""
    bench = Bench(running())
    taken: SimpleQueue[object] = SimpleQueue()

    def wait_twice() -> None:
        for _ in range(2):
            taken.put(bench.path.next(until=mono_ns() + 10**12))

    threading.Thread(target=wait_twice, daemon=True).start()
    time.sleep(0.02)  # usually enough for the thread to wait; the test is valid if it is not
    bench.put(frame().to_message())
    assert taken.get(timeout=WAIT_S) is not None
    bench.path.close()
    assert taken.get(timeout=WAIT_S) is None


def test_in_hand_counts_the_frame_that_the_worker_answers() -> None:
    """One while the model runs, else none."""
    bench = Bench()
    in_hand: list[int] = []

    def record(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        in_hand.append(bench.path.in_hand())
        return brightest_band(pixels)

    bench.reconciler.current = running(FakeEngine(record))
    bench.put(frame(0).to_message(), frame(1).to_message())
    bench.work()
    assert (in_hand, bench.path.in_hand()) == ([1, 1], 0)


def _bad_properties(seq: int) -> Message:
    return replace(frame(seq).to_message(), properties={})


def _bad_picture(seq: int) -> Message:
    return replace(frame(seq), image=b"no picture", content_type="image/jpeg").to_message()


def _good(seq: int) -> Message:
    return frame(seq, place=seq % 3).to_message()


MESSAGES: dict[str, Callable[[int], Message]] = {
    "good": _good,
    "bad properties": _bad_properties,
    "bad picture": _bad_picture,
}
MODELS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "good": running,
    "raises": lambda: running(FakeEngine(raises)),
}

moves = st.one_of(
    st.tuples(st.sampled_from(list(MESSAGES)), st.integers(0, 25)),
    st.tuples(st.just("answer"), st.integers(1, 4)),
    st.tuples(st.just("model"), st.sampled_from(list(MODELS))),
    st.tuples(st.just("instead"), st.sampled_from(list(MODELS))),
    st.tuples(st.just("outbox full"), st.booleans()),
    st.tuples(st.just("predictions"), st.sampled_from(["all", "changes", "uncertain", "none"])),
    st.tuples(st.just("overload"), st.sampled_from(["newest", "all"])),
    st.tuples(st.just("store"), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(moves, max_size=80), end_by=st.sampled_from(["working", "abandoning"]))
def test_every_received_frame_has_exactly_one_outcome(steps: list[tuple[str, Any]], end_by: str) -> None:
    """For any order of messages and failures: received = answered + suppressed + repeats + dropped."""
    bench, received = Bench(running()), Counter[str]()
    bench.hub.stores = False
    for move, value in steps:
        _step(bench, move, value)
        received[move] += move in MESSAGES
        assert sum(bench.outcomes().values()) + bench.path.waiting() == received.total()
    bench.path.close()
    if end_by == "working":
        bench.work()
    else:
        assert bench.path.abandon() == bench.outcomes().get("stopped", 0)
    outcomes = bench.outcomes()
    assert sum(outcomes.values()) == received.total()
    assert outcomes.get("answered", 0) == len(bench.hub.sent)
    ids = [sent.message.message_id for sent in bench.hub.sent]
    assert len(ids) == len(set(ids))
    assert outcomes.get("bad_frame", 0) >= received["bad properties"]
    _check_ledger(bench, outcomes)


def _step(bench: Bench, move: str, value: Any) -> None:
    match move:
        case "answer":
            for _ in range(value):
                if (arrival := bench.path.next(until=0)) is not None:
                    bench.path.answer(arrival)
        case "model":
            bench.reconciler.current = MODELS[value]()
        case "instead":
            bench.reconciler.instead = MODELS[value]()
        case "outbox full":
            bench.hub.full = value
        case "predictions":
            bench.path.apply(replace(bench.path.settings, telemetry=TelemetrySection(predictions=value)))
        case "overload":
            bench.path.apply(replace(bench.path.settings, inference=InferenceSection(overload=value)))
        case "store":
            bench.hub.store()
        case _:
            bench.put(MESSAGES[move](value))


def _check_ledger(bench: Bench, outcomes: dict[str, int]) -> None:
    """Each answered frame is in the window and has one publish time; suppressed frames have none."""
    bench.hub.store()
    assert bench.publisher.wait_stored(0) == 0
    window, pending = bench.publisher.close_window(0)
    assert window.frames == outcomes.get("answered", 0) + outcomes.get("suppressed", 0)
    seqs = [each.frame.seq for each in pending]
    for body in bench.hub.of("predictions"):
        seqs += [each["frame"]["seq"] for each in [body["before"], *body.get("earlier", [])] if each]
    assert sorted(seqs) == sorted(body["frame"]["seq"] for body in bench.hub.of("predictions"))
