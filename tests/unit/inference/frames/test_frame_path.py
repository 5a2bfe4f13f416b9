"""One frame from its message to its answer: every way it can end, and that it ends in exactly one."""

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
from inference.engine import Engine
from inference.frames.frame_path import FramePath
from inference.frames.ledger import STAGES, StageTimes
from inference.frames.settings import InferenceSection, Settings, TelemetrySection
from tests.unit.inference import tiny_model
from tests.unit.inference.doubles import (
    RUN,
    WAIT_S,
    FakeDelivery,
    FakeEngine,
    FakeHub,
    brightest_band,
    frame,
    png,
    running,
)

ALL = Settings(telemetry=TelemetrySection(predictions="all"))


class Bench:
    """A frame path between a fake hub and a fake delivery, worked by hand."""

    def __init__(self, current: Any = None, *, in_force: Settings = ALL) -> None:
        self.hub = FakeHub()
        self.delivery = FakeDelivery(current=current)
        self.observed: list[tuple[StageTimes, int | None]] = []
        self.path = FramePath(
            self.delivery.as_delivery(),
            self.hub.send,
            instance="00112233aabbccdd",
            observe=lambda done, publish: self.observed.append((done, publish)),
        )
        self.path.apply(in_force)

    def put(self, *messages: Message) -> None:
        for message in messages:
            self.path.receive(message, mono_ns())

    def work(self) -> None:
        """Answer everything that waits."""
        while (arrival := self.path.next(until=0)) is not None:
            self.path.answer(arrival)

    def ends(self) -> dict[str, int]:
        """The counters that are not 0."""
        body = self.path.counters()
        return {
            name: count for name, count in (body | body["dropped"]).items() if name != "dropped" and count
        }


def throws(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise RuntimeError("operator 3 failed")


@pytest.mark.parametrize("runtime", ["litert", "tflite_runtime"])
def test_frames_are_answered_in_order_by_the_real_engine(runtime: str) -> None:
    """Frames in, predictions out, each with its own label, identity, stages and model."""
    bench = Bench(running(Engine(tiny_model.artefact(), runtime=runtime)))
    bench.put(*(frame(seq, place=seq).to_message() for seq in (1, 0, 2)))
    bench.work()
    bodies = bench.hub.of("predictions")
    assert [body["frame"]["seq"] for body in bodies] == [0, 1, 2]
    assert [body["top"][0]["label"] for body in bodies] == ["top", "middle", "bottom"]
    assert all(list(body["stages_ms"]) == list(STAGES[:-1]) for body in bodies)
    assert all(body["clock"] == "monotonic" for body in bodies)
    assert bench.ends() == {"answered": 3}


def test_each_prediction_tells_of_the_one_before() -> None:
    """publish is known one message later, and belongs to the frame that it names."""
    bench = Bench(running())
    for seq in range(3):
        bench.put(frame(seq).to_message())
        bench.work()
    before = [body["before"] for body in bench.hub.of("predictions")]
    assert before[0] is None
    assert [each["frame"]["seq"] for each in before[1:]] == [0, 1]
    assert all(each["publish_ms"] >= 0 for each in before[1:])


def test_stages_and_publish_add_up_to_captured_until_puback() -> None:
    """What the messages say of a frame is all of its time."""
    bench = Bench(running())
    bench.hub.stores = False
    source = frame()
    bench.put(source.to_message())
    bench.work()
    (sent,) = bench.hub.sent
    assert sent.on_stored is not None
    puback = mono_ns()
    sent.on_stored(puback)
    (published,) = bench.path.cut(0)[2]
    total_ms = sum(sent.body["stages_ms"].values()) + published.publish_ns / 1e6
    assert total_ms == pytest.approx((puback - source.mono) / 1e6, abs=1e-9)
    assert bench.observed == [(bench.observed[0][0], published.publish_ns)]


@pytest.mark.parametrize("stepped_s", [-3_600, 3_600])
def test_a_step_of_the_wall_clock_moves_no_stage(monkeypatch: pytest.MonkeyPatch, stepped_s: int) -> None:
    """Of one boot every stage is monotonic; of another boot the record says that the wall clock was used."""
    bench = Bench(running(FakeEngine()))
    monkeypatch.setattr("inference.frames.frame_path.wall_ns", lambda: time.time_ns() + stepped_s * 10**9)
    bench.put(frame(0).to_message(), replace(frame(1), boot="another").to_message())
    bench.work()
    same, another = bench.hub.of("predictions")
    assert (same["clock"], another["clock"]) == ("monotonic", "wall")
    assert 0 <= sum(same["stages_ms"].values()) < 60_000
    assert another["stages_ms"]["transit"] == pytest.approx(stepped_s * 1e3, abs=60_000)
    for (done, publish_ns), body in zip(bench.observed, (same, another), strict=True):
        assert publish_ns is not None
        assert sum(done.stages) / 1e6 == pytest.approx(sum(body["stages_ms"].values()))


def test_without_a_model_frames_are_counted() -> None:
    """Nothing crashes, and the next model answers the next frame."""
    bench = Bench(None)
    bench.put(frame(0).to_message())
    bench.work()
    bench.delivery.current = running()
    bench.put(frame(1).to_message())
    bench.work()
    assert bench.ends() == {"no_model": 1, "answered": 1}


def test_a_message_that_is_no_frame_is_counted_and_the_next_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Properties from anybody; one line in the log for a flood of them."""
    bench = Bench(running())
    nonsense = Message(b"\0", {"camera": "no such thing"})
    with caplog.at_level(logging.WARNING):
        bench.put(*[nonsense] * 50, frame().to_message())
        bench.work()
    assert bench.ends() == {"bad_frame": 50, "answered": 1}
    assert len(caplog.records) == 1


def test_a_frame_that_is_no_picture_never_counts_against_the_model() -> None:
    """Garbage that calls itself PNG: counted, settled, and the model is not told."""
    bench = Bench(running())
    broken = replace(frame(0), image=b"no picture at all", content_type="image/png")
    bench.put(broken.to_message(), frame(1).to_message())
    bench.work()
    assert bench.ends() == {"bad_frame": 1, "answered": 1}
    assert (len(bench.delivery.failures), len(bench.delivery.noted)) == (0, 1)


def test_a_model_that_throws_is_reported_and_the_frame_dropped() -> None:
    """Without a previous model the drop is called `engine`."""
    bench = Bench(running(FakeEngine(throws)))
    bench.put(frame().to_message())
    bench.work()
    assert bench.ends() == {"engine": 1}
    (failure,) = bench.delivery.failures
    assert str(failure[1]) == "operator 3 failed"
    assert bench.delivery.noted == []


def test_the_previous_model_answers_the_frame_on_which_a_new_one_throws() -> None:
    """No frame is lost to a bad model: the message names the one that answered, and it is the one noted."""
    old, new = running(version="1.0.0"), running(FakeEngine(throws), version="2.0.0")
    bench = Bench(new)
    bench.delivery.instead = old
    bench.put(frame(place=1).to_message())
    bench.work()
    (body,) = bench.hub.of("predictions")
    assert (body["model"]["version"], body["top"][0]["label"]) == ("1.0.0", "middle")
    assert bench.delivery.noted[0][0] is old
    assert bench.ends() == {"answered": 1}


def test_a_frame_on_which_both_throw_is_dropped() -> None:
    """Two models are tried, not the same ones for ever."""
    bench = Bench(running(FakeEngine(throws)))
    bench.delivery.instead = running(FakeEngine(throws))
    bench.put(frame().to_message())
    bench.work()
    assert bench.ends() == {"engine": 1}
    assert len(bench.delivery.failures) == 2


def test_the_model_that_began_a_frame_ends_it() -> None:
    """A promotion in the middle of a frame applies to the next one."""
    bench = Bench()
    new = running(version="2.0.0")

    def swapped_meanwhile(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        bench.delivery.current = new
        return brightest_band(pixels)

    bench.delivery.current = running(FakeEngine(swapped_meanwhile))
    bench.put(frame(0).to_message(), frame(1).to_message())
    bench.work()
    assert [body["model"]["version"] for body in bench.hub.of("predictions")] == ["1.0.0", "2.0.0"]


def test_a_delivery_that_throws_loses_no_frame() -> None:
    """The answer is on its way; what comes of the model is another matter."""
    bench = Bench(running())
    bench.delivery.noted = None  # type: ignore[assignment]
    bench.put(frame().to_message())
    bench.work()
    assert bench.ends() == {"answered": 1}


def test_a_full_outbox_drops_by_name_and_the_publish_times_stay() -> None:
    """The hub is away: counted, and the next message tells what this one would have."""
    bench = Bench(running())
    for seq, full in enumerate((False, True, False)):
        bench.hub.full = full
        bench.put(frame(seq).to_message())
        bench.work()
    assert bench.ends() == {"answered": 2, "outbox": 1}
    assert bench.hub.of("predictions")[1]["before"]["frame"]["seq"] == 0


def test_unchanged_answers_are_suppressed_but_answered() -> None:
    """ "changes" tells the first, and then only another label; a change that had no room is told later."""
    bench = Bench(running(), in_force=Settings())
    for seq, (place, full) in enumerate([(0, False), (0, False), (1, True), (1, False), (1, False)]):
        bench.hub.full = full
        bench.put(frame(seq, place=place).to_message())
        bench.work()
    assert [body["frame"]["seq"] for body in bench.hub.of("predictions")] == [0, 3]
    assert bench.ends() == {"answered": 2, "suppressed": 2, "outbox": 1}
    assert bench.path.cut(0)[0].frames == 4


def test_an_answer_below_the_threshold_is_uncertain() -> None:
    """Still answered, but without a label that a route could take for one."""
    bench = Bench(running(FakeEngine(lambda pixels: np.array([0.5, 0.3, 0.2], np.float32))))
    bench.put(frame().to_message())
    bench.work()
    (sent,) = bench.hub.sent
    assert (sent.message.properties["label"], sent.body["uncertain"]) == ("", True)


def test_top_k_follows_the_twin() -> None:
    """The next frame is answered by the settings in force."""
    bench = Bench(running())
    bench.path.apply(replace(ALL, inference=InferenceSection(topK=1)))
    bench.put(frame().to_message())
    bench.work()
    assert len(bench.hub.of("predictions")[0]["top"]) == 1


def test_a_picture_of_another_size_is_resized() -> None:
    """The camera need not know the model's input."""
    bench = Bench(running())
    large = np.repeat(np.repeat(tiny_model.band(2), 10, axis=0), 10, axis=1)
    source = replace(frame(), image=png(large), content_type="image/png", width=40, height=60)
    bench.put(source.to_message())
    bench.work()
    assert bench.hub.of("predictions")[0]["top"][0]["label"] == "bottom"


def test_settled_frames_are_told_to_their_camera() -> None:
    """Answered, suppressed or dropped: the camera need not wait for them."""
    bench = Bench(running())
    bench.put(frame(0).to_message(), frame(1).to_message())
    assert not bench.path.has_flow
    bench.work()
    assert bench.path.flows() == [Flow("camera", RUN, 1)]
    assert not bench.path.has_flow


def test_after_close_what_waits_is_answered_and_what_comes_is_counted() -> None:
    """Stopping loses no frame without a counter."""
    bench = Bench(running())
    bench.put(*(frame(seq).to_message() for seq in range(3)))
    bench.path.close()
    bench.put(frame(3).to_message())
    arrival = bench.path.next(until=0)
    assert arrival is not None
    bench.path.answer(arrival)
    assert bench.path.abandon() == 2
    assert bench.ends() == {"answered": 1, "stopped": 3}
    assert bench.path.next(until=mono_ns() + 10**12) is None


def test_the_worker_wakes_for_a_frame_and_for_the_end() -> None:
    """It sleeps on a condition, and polls nothing."""
    bench = Bench(running())
    taken: SimpleQueue[object] = SimpleQueue()

    def wait_twice() -> None:
        for _ in range(2):
            taken.put(bench.path.next(until=mono_ns() + 10**12))

    threading.Thread(target=wait_twice, daemon=True).start()
    time.sleep(0.02)  # long enough for it to sleep; if not, the test still holds
    bench.put(frame().to_message())
    assert taken.get(timeout=WAIT_S) is not None
    bench.path.close()
    assert taken.get(timeout=WAIT_S) is None


def test_in_hand_is_the_frame_that_is_being_answered() -> None:
    """One between its turn and its end, else none."""
    bench = Bench()
    seen: list[int] = []

    def look(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(bench.path.in_hand())
        return brightest_band(pixels)

    bench.delivery.current = running(FakeEngine(look))
    bench.put(frame(0).to_message(), frame(1).to_message())
    bench.work()
    assert (seen, bench.path.in_hand()) == ([1, 1], 0)


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
    "throws": lambda: running(FakeEngine(throws)),
}

moves = st.one_of(
    st.tuples(st.sampled_from(list(MESSAGES)), st.integers(0, 25)),
    st.tuples(st.just("answer"), st.integers(1, 4)),
    st.tuples(st.just("model"), st.sampled_from(list(MODELS))),
    st.tuples(st.just("instead"), st.sampled_from(list(MODELS))),
    st.tuples(st.just("outbox full"), st.booleans()),
    st.tuples(st.just("predictions"), st.sampled_from(["all", "changes", "none"])),
    st.tuples(st.just("overload"), st.sampled_from(["newest", "all"])),
    st.tuples(st.just("store"), st.none()),
)


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(moves, max_size=80), ends_by=st.sampled_from(["working", "abandoning"]))
def test_every_received_frame_ends_in_exactly_one_counter(steps: list[tuple[str, Any]], ends_by: str) -> None:
    """Whatever comes, whatever fails: received = answered + suppressed + repeats + drops, none twice."""
    bench, came = Bench(running()), Counter[str]()
    bench.hub.stores = False
    for move, value in steps:
        _step(bench, move, value)
        came[move] += move in MESSAGES
        received = sum(came[kind] for kind in MESSAGES)
        assert sum(bench.ends().values()) + bench.path.waiting() == received
    bench.path.close()
    if ends_by == "working":
        bench.work()
    else:
        assert bench.path.abandon() == bench.ends().get("stopped", 0)
    ends = bench.ends()
    assert sum(ends.values()) == sum(came[kind] for kind in MESSAGES)
    assert ends.get("answered", 0) == len(bench.hub.sent)
    ids = [sent.message.message_id for sent in bench.hub.sent]
    assert len(ids) == len(set(ids))
    assert ends.get("bad_frame", 0) >= came["bad properties"]
    _check_ledger(bench, ends)


def _step(bench: Bench, move: str, value: Any) -> None:
    match move:
        case "answer":
            for _ in range(value):
                if (arrival := bench.path.next(until=0)) is not None:
                    bench.path.answer(arrival)
        case "model":
            bench.delivery.current = MODELS[value]()
        case "instead":
            bench.delivery.instead = MODELS[value]()
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


def _check_ledger(bench: Bench, ends: dict[str, int]) -> None:
    """Each answered frame is in the window and its publish time is told once; suppressed ones have none."""
    bench.hub.store()
    assert bench.path.wait_stored(0) == 0
    window, _, told = bench.path.cut(0)
    assert window.frames == ends.get("answered", 0) + ends.get("suppressed", 0)
    names = [each.frame.seq for each in told]
    for body in bench.hub.of("predictions"):
        names += [each["frame"]["seq"] for each in [body["before"], *body.get("earlier", [])] if each]
    assert sorted(names) == sorted(body["frame"]["seq"] for body in bench.hub.of("predictions"))
