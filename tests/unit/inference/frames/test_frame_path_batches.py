"""Batches: each frame has one outcome, and one message answers all frames of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgekit.clock import mono_ns
from edgekit.frame import batch
from edgekit.frame.message import MAX_BODY_BYTES, Flow, Frame, Message
from inference.engine import Engine
from inference.frames.settings import InferenceSection, Settings
from tests.unit.inference.fixtures import tiny_model
from tests.unit.inference.fixtures.doubles import RUN, FakeEngine, brightest_band, frame, running
from tests.unit.inference.frames.test_frame_path import ALL, Bench


def batched(*frames: Frame) -> Message:
    """These frames in one message."""
    return batch.to_message(frames, [batch.encode(each) for each in frames])


def seqs(bench: Bench) -> list[list[int]]:
    """The seqs of the frames that each message answers."""
    bodies = bench.hub.of("predictions")
    return [[each["frame"]["seq"] for each in body.get("predictions", [body])] for body in bodies]


def test_a_batch_is_answered_in_one_message() -> None:
    """The message has its own schema and holds one record for each frame."""
    bench = Bench(running(Engine(tiny_model.artefact())))
    bench.put(batched(*(frame(seq, place=seq) for seq in range(3))))
    bench.work()
    (body,) = bench.hub.of("predictions")
    assert body["schema"] == "twinship.predictions.v1"
    assert [each["top"][0]["label"] for each in body["predictions"]] == ["top", "middle", "bottom"]
    assert {each["schema"] for each in body["predictions"]} == {"twinship.prediction.v1"}
    assert bench.hub.sent[0].message.message_id == f"camera-{RUN}-0+2"
    assert bench.outcomes() == {"answered": 3}
    assert bench.path.flows() == [Flow("camera", RUN, 2)]


def test_stages_add_up_for_each_frame_of_a_batch() -> None:
    """The time that a frame waits for the others counts; the batch has one publish time."""
    bench = Bench(running())
    bench.hub.stores = False
    sources = [frame(seq) for seq in range(3)]
    bench.put(batched(*sources))
    bench.work()
    (sent,) = bench.hub.sent
    assert sent.on_stored is not None
    puback = mono_ns()
    sent.on_stored(puback)
    window, (publish_time,) = bench.publisher.close_window(0)
    assert (window.frames, publish_time.frame) == (3, sources[0].id)
    for source, record in zip(sources, sent.body["predictions"], strict=True):
        total_ms = sum(record["stages_ms"].values()) + publish_time.publish_ns / 1e6
        assert total_ms == pytest.approx((puback - source.mono) / 1e6, abs=1e-9)
    assert len(bench.observed) == 3


def test_repeats_are_recognised_frame_by_frame() -> None:
    """A repeat is a frame, not a message: a camera may put it into another batch."""
    bench = Bench(running())
    bench.put(batched(frame(0), frame(1)), batched(frame(1), frame(2)), batched(frame(0), frame(2)))
    bench.work()
    assert seqs(bench) == [[0, 1], [2]]
    assert bench.outcomes() == {"answered": 3, "repeats": 3}


def test_a_bad_picture_does_not_affect_its_batch() -> None:
    """The frame is counted as bad; the others are answered."""
    bench = Bench(running())
    broken = replace(frame(1), image=b"no png", content_type="image/png")
    bench.put(batched(frame(0), broken, frame(2)))
    bench.work()
    assert seqs(bench) == [[0, 2]]
    assert bench.outcomes() == {"answered": 2, "bad_frame": 1}


def test_a_frame_on_which_the_model_fails_does_not_affect_its_batch() -> None:
    """The failure is recorded once; the others are answered."""

    def raises_at_middle(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores = brightest_band(pixels)
        if scores.argmax() == 1:
            raise RuntimeError("operator 3 failed")
        return scores

    bench = Bench(running(FakeEngine(raises_at_middle)))
    bench.put(batched(*(frame(seq, place=seq) for seq in range(3))))
    bench.work()
    assert bench.outcomes() == {"answered": 2, "engine": 1}
    assert (len(bench.reconciler.failures), len(bench.reconciler.noted)) == (1, 2)


def test_a_bad_batch_is_counted_and_the_next_answered() -> None:
    """An unreadable batch counts as one bad frame."""
    bench = Bench(running())
    cut = batched(frame(0), frame(1))
    bench.put(replace(cut, body=cut.body[:-1]), batched(frame(2), frame(3)))
    bench.work()
    assert bench.outcomes() == {"bad_frame": 1, "answered": 2}


def test_a_full_queue_drops_a_whole_batch_and_counts_its_frames() -> None:
    """The limit counts messages, the counters count frames."""
    bench = Bench(running())  # "newest": 8 messages
    bench.put(*(batched(frame(2 * number), frame(2 * number + 1)) for number in range(9)))
    assert bench.path.waiting() == 16
    bench.work()
    assert bench.outcomes() == {"answered": 16, "overload": 2}


def test_a_full_outbox_drops_every_prediction_of_a_batch() -> None:
    """The next message carries the publish times of the dropped one."""
    bench = Bench(running())
    for first, full in ((0, False), (2, True), (4, False)):
        bench.hub.full = full
        bench.put(batched(frame(first), frame(first + 1)))
        bench.work()
    assert bench.outcomes() == {"answered": 4, "outbox": 2}
    assert bench.hub.of("predictions")[1]["before"]["frame"]["seq"] == 0
    assert bench.publisher.wait_stored(0) == 0


def test_within_a_batch_only_changes_are_sent() -> None:
    """Each prediction is compared to its predecessor, also to one in an earlier message."""
    bench = Bench(running(), initial=Settings())
    bench.put(batched(*(frame(seq, place=place) for seq, place in enumerate([0, 0, 1, 1, 0]))))
    bench.put(batched(frame(5, place=0), frame(6, place=2)))
    bench.work()
    assert seqs(bench) == [[0, 2, 4], [6]]
    assert bench.hub.of("predictions")[1]["schema"] == "twinship.prediction.v1"
    assert bench.outcomes() == {"answered": 4, "suppressed": 3}


def test_predictions_too_large_for_one_message_are_split() -> None:
    """Each message stays below the limit, and each has one publish time."""
    engine = FakeEngine()
    engine.labels = ("a" * 600, "b" * 600, "c" * 600)
    bench = Bench(running(engine))
    bench.put(batched(*(frame(seq) for seq in range(batch.MAX_FRAMES))))
    bench.work()
    assert [seq for message in seqs(bench) for seq in message] == list(range(batch.MAX_FRAMES))
    assert len(bench.hub.sent) > 1
    assert all(len(sent.message.body) <= MAX_BODY_BYTES for sent in bench.hub.sent)
    assert len(bench.publisher.close_window(0)[1]) == len(bench.hub.sent)


@given(
    batches=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=30),
    worked=st.sets(st.integers(0, 30)),
    full=st.sets(st.integers(0, 30)),
    mode=st.sampled_from(["all", "changes", "uncertain", "none"]),
)
def test_every_frame_of_every_batch_has_one_outcome(
    batches: Sequence[tuple[int, int]], worked: set[int], full: set[int], mode: str
) -> None:
    """For any overlap, full outbox or mode: the counters add up, and no frame is published twice."""
    bench = Bench(running())
    telemetry = ALL.telemetry.model_copy(update={"predictions": mode})
    bench.path.apply(Settings(InferenceSection(overload="all"), telemetry))
    for step, (first, count) in enumerate(batches):
        bench.hub.full = step in full
        bench.put(batched(*(frame(first + more, place=(first + more) % 3) for more in range(count))))
        if step in worked:
            bench.work()
        finished = sum(bench.outcomes().values())
        assert finished + bench.path.waiting() == sum(frames for _, frames in batches[: step + 1])
    bench.work()
    published = [seq for message in seqs(bench) for seq in message]
    assert len(published) == len(set(published)) == bench.outcomes().get("answered", 0)
