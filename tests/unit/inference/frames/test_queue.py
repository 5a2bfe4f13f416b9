"""The queue in front of the worker: order, limits, repeats and flow."""

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.frame.message import Frame, FrameId
from inference.frames.queue import (
    QUEUE_MESSAGES,
    REMEMBERED_FRAMES,
    REMEMBERED_RUNS,
    Admission,
    FrameQueue,
    Overload,
    _Run,
)

RUN = "0123456789abcdef"


def frame(seq: int, camera: str = "camera", run: str = RUN) -> Frame:
    return Frame(FrameId(camera, run, seq), b"\0", "application/octet-stream", 1, 1, 1, 0, 0, 0, "boot")


def put(frame_queue: FrameQueue, *seqs: int, camera: str = "camera") -> list[Admission]:
    return [frame_queue.put([frame(seq, camera)], 0) for seq in seqs]


def take_all(frame_queue: FrameQueue) -> list[FrameId]:
    taken: list[FrameId] = []
    while (arrival := frame_queue.take()) is not None:
        taken += [each.id for each in arrival.frames]
    return taken


def test_frames_leave_in_the_order_of_seq() -> None:
    """The four handler threads of the SDK overtake each other; the frames leave by seq."""
    frame_queue = FrameQueue()
    put(frame_queue, 2, 0, 3, 1)
    assert [each.seq for each in take_all(frame_queue)] == [0, 1, 2, 3]


def test_an_arrival_keeps_its_own_time() -> None:
    """A frame that leaves in another order keeps its time of arrival."""
    frame_queue = FrameQueue()
    frame_queue.put([frame(1)], 100)
    frame_queue.put([frame(0)], 200)
    assert [(a.frames[0].id.seq, a.arrived) for a in (frame_queue.take(), frame_queue.take()) if a] == [
        (0, 200),
        (1, 100),
    ]


def test_no_camera_starves_another() -> None:
    """Each arrival gives its camera one turn, however low the seqs of another camera are."""
    frame_queue = FrameQueue()
    for seq in (0, 1, 2):
        put(frame_queue, 1_000 + seq, camera="old")
        put(frame_queue, seq, camera="young")
    assert [each.camera for each in take_all(frame_queue)] == ["old", "young"] * 3


def test_newest_drops_the_oldest() -> None:
    """A full queue of 8 drops the oldest frame for the newest."""
    frame_queue = FrameQueue("newest")
    put(frame_queue, *range(8))
    assert put(frame_queue, 8, 9) == [
        Admission(dropped=(FrameId("camera", RUN, 0),)),
        Admission(dropped=(FrameId("camera", RUN, 1),)),
    ]
    assert [each.seq for each in take_all(frame_queue)] == list(range(2, 10))


def test_newest_drops_a_late_frame_that_is_the_oldest() -> None:
    """The oldest frame is the one with the lowest seq, not the first to arrive."""
    frame_queue = FrameQueue("newest")
    put(frame_queue, *range(1, 9))
    assert put(frame_queue, 0) == [Admission(dropped=(FrameId("camera", RUN, 0),))]


def test_all_drops_only_past_256() -> None:
    """Overload "all" keeps the waiting frames and drops the new one."""
    frame_queue = FrameQueue("all")
    assert put(frame_queue, *range(256)) == [Admission()] * 256
    assert put(frame_queue, 256) == [Admission(dropped=(FrameId("camera", RUN, 256),))]
    assert len(take_all(frame_queue)) == 256


def test_a_change_to_newest_drops_the_excess() -> None:
    """A change of overload applies to the waiting frames."""
    frame_queue = FrameQueue("all")
    put(frame_queue, *range(20))
    assert [each.seq for each in frame_queue.set_overload("newest")] == list(range(12))
    assert [each.seq for each in take_all(frame_queue)] == list(range(12, 20))


def test_repeats_of_waiting_taken_and_dropped_frames_are_recognised() -> None:
    """A hub may deliver a frame again at any time; it is queued once."""
    frame_queue = FrameQueue("newest")
    put(frame_queue, *range(9))
    frame_queue.take()
    assert put(frame_queue, 0, 1, 8) == [Admission(repeats=1)] * 3


def test_the_same_seq_of_another_run_or_camera_is_not_a_repeat() -> None:
    """A restarted camera starts at seq 0 again."""
    frame_queue = FrameQueue()
    put(frame_queue, 0)
    assert frame_queue.put([frame(0, run="f" * 16)], 0) == Admission()
    assert put(frame_queue, 0, camera="other") == [Admission()]


def test_the_last_4096_of_a_run_are_remembered() -> None:
    """Memory is bounded: an older frame counts as new."""
    frame_queue = FrameQueue()
    put(frame_queue, *range(REMEMBERED_FRAMES + 1))
    assert put(frame_queue, 1, REMEMBERED_FRAMES) == [Admission(repeats=1)] * 2
    assert put(frame_queue, 0)[0].repeats == 0
    assert put(frame_queue, REMEMBERED_FRAMES)[0].repeats == 1, "an old frame displaced a newer one"


def test_the_largest_seq_of_a_message_is_remembered() -> None:
    """19 digits do not fit into a signed number of 64 bits."""
    assert put(FrameQueue(), 0, 10**19 - 1, 10**19 - 1) == [Admission(), Admission(), Admission(repeats=1)]


def test_remembered_frames_take_one_block_of_fixed_size() -> None:
    """32 KB a run, however many frames come and go: a set was allocated anew, 0.5 MB, every few minutes."""
    run, frames = _Run(), iter(range(5 * REMEMBERED_FRAMES))
    run.first_time(next(frames))
    tracemalloc.start()
    try:
        assert all(run.first_time(seq) for seq in frames)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000, "it allocates while frames arrive"
    assert run.seen.itemsize * len(run.seen) == 32_768


def test_the_number_of_runs_is_bounded() -> None:
    """A sender that invents runs removes the least recent run, not an active one."""
    frame_queue = FrameQueue()
    frame_queue.put([frame(0)], 0)
    for number in range(REMEMBERED_RUNS):
        frame_queue.put([frame(0, run=f"{number:016x}")], 0)
        frame_queue.put([frame(1)], 0)
    assert frame_queue.put([frame(0)], 0) == Admission(repeats=1)
    assert frame_queue.put([frame(0, run=f"{0:016x}")], 0).repeats == 0


def test_two_frames_of_one_id_may_wait_after_their_run_is_forgotten() -> None:
    """Both are queued, and the heap does not compare the pictures."""
    frame_queue = FrameQueue("all")
    put(frame_queue, 0)
    for number in range(REMEMBERED_RUNS):
        frame_queue.put([frame(0, run=f"{number:016x}")], 0)
    put(frame_queue, 0)
    assert take_all(frame_queue).count(FrameId("camera", RUN, 0)) == 2


def test_flow_holds_the_highest_finished_seq_once() -> None:
    """Flow names the highest finished frame of each run, only if it rose."""
    frame_queue = FrameQueue()
    put(frame_queue, 0, 1, 2)
    assert not frame_queue.has_flow
    for seq in (2, 0):
        frame_queue.finish([frame(seq)])
    assert frame_queue.has_flow
    assert frame_queue.take_flow() == [FrameId("camera", RUN, 2)]
    frame_queue.finish([frame(1)])
    assert frame_queue.take_flow() == []
    frame_queue.finish([frame(3), frame(4)])
    assert frame_queue.take_flow() == [FrameId("camera", RUN, 4)]


def test_finished_frames_are_counted_until_flow_is_taken() -> None:
    """Their number decides whether flow is due early, because each one uses a camera's credit."""
    frame_queue = FrameQueue()
    put(frame_queue, 0, 1, 2)
    frame_queue.finish([frame(0), frame(1)])  # a batch
    frame_queue.finish([frame(2)])
    assert frame_queue.finished == 3
    frame_queue.take_flow()
    assert frame_queue.finished == 0


@pytest.mark.parametrize("overload", ["newest", "all"])
def test_a_dropped_frame_is_finished(overload: Overload) -> None:
    """Otherwise its camera would wait for it forever."""
    frame_queue = FrameQueue(overload)
    (*_, last) = put(frame_queue, *range(QUEUE_MESSAGES[overload] + 1))
    assert last.dropped
    assert frame_queue.take_flow() == list(last.dropped)


@given(
    overloads=st.lists(st.sampled_from(["newest", "all"]), min_size=1, max_size=4),
    moves=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 30), st.integers(1, 5)),
            st.sampled_from(["take", "overload"]),
        ),
        max_size=120,
    ),
)
def test_every_frame_is_taken_dropped_repeated_or_waiting(
    overloads: list[Overload], moves: list[tuple[str, int, int] | str]
) -> None:
    """For any order of single frames and batches, no frame is lost or duplicated."""
    frame_queue, repeats, received = FrameQueue(overloads[0]), 0, 0
    first_time: set[FrameId] = set()
    ended: list[FrameId] = []
    for step, move in enumerate(moves):
        if move == "take":
            arrival = frame_queue.take()
            ended += [each.id for each in arrival.frames] if arrival else []
        elif move == "overload":
            ended += frame_queue.set_overload(overloads[step % len(overloads)])
        else:
            batch = [frame(int(move[1]) + more, camera=str(move[0])) for more in range(int(move[2]))]
            result = frame_queue.put(batch, step)
            new = {each.id for each in batch} - first_time
            assert result.repeats == len(batch) - len(new)
            first_time |= new
            received += len(batch)
            repeats += result.repeats
            ended += result.dropped
        assert len(frame_queue) == len(first_time) - len(ended)
    waiting = take_all(frame_queue)
    assert Counter(ended + waiting) == Counter(first_time)
    assert received == repeats + len(first_time)
