"""The queue in front of the worker: order, bounds, repeats, and what a camera is told is settled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.frame.message import Frame, FrameId
from inference.frames.queue import (
    QUEUE_MESSAGES,
    REMEMBERED_FRAMES,
    REMEMBERED_RUNS,
    FrameQueue,
    Overload,
    Put,
)

RUN = "0123456789abcdef"


def frame(seq: int, camera: str = "camera", run: str = RUN) -> Frame:
    return Frame(FrameId(camera, run, seq), b"\0", "application/octet-stream", 1, 1, 1, 0, 0, 0, "boot")


def put(frame_queue: FrameQueue, *seqs: int, camera: str = "camera") -> list[Put]:
    return [frame_queue.put([frame(seq, camera)], 0) for seq in seqs]


def take_all(frame_queue: FrameQueue) -> list[FrameId]:
    taken: list[FrameId] = []
    while (arrival := frame_queue.take()) is not None:
        taken += [each.id for each in arrival.frames]
    return taken


def test_frames_leave_in_the_order_of_seq() -> None:
    """The SDK's four handler threads overtake each other; the answers do not."""
    frame_queue = FrameQueue()
    put(frame_queue, 2, 0, 3, 1)
    assert [each.seq for each in take_all(frame_queue)] == [0, 1, 2, 3]


def test_an_arrival_keeps_its_own_stamp() -> None:
    """Leaving in another order than coming, a frame still knows when it came."""
    frame_queue = FrameQueue()
    frame_queue.put([frame(1)], 100)
    frame_queue.put([frame(0)], 200)
    assert [(a.frames[0].id.seq, a.arrived) for a in (frame_queue.take(), frame_queue.take()) if a] == [
        (0, 200),
        (1, 100),
    ]


def test_no_camera_starves_another() -> None:
    """Each arrival is one turn for its camera, however low another camera's seqs are."""
    frame_queue = FrameQueue()
    for seq in (0, 1, 2):
        put(frame_queue, 1_000 + seq, camera="old")
        put(frame_queue, seq, camera="young")
    assert [each.camera for each in take_all(frame_queue)] == ["old", "young"] * 3


def test_newest_drops_the_oldest() -> None:
    """A full queue of 8 makes room for the newest frame."""
    frame_queue = FrameQueue("newest")
    put(frame_queue, *range(8))
    assert put(frame_queue, 8, 9) == [
        Put(dropped=(FrameId("camera", RUN, 0),)),
        Put(dropped=(FrameId("camera", RUN, 1),)),
    ]
    assert [each.seq for each in take_all(frame_queue)] == list(range(2, 10))


def test_newest_drops_a_latecomer_that_is_the_oldest() -> None:
    """Oldest means by seq: a frame that was overtaken by a whole queue is the one to go."""
    frame_queue = FrameQueue("newest")
    put(frame_queue, *range(1, 9))
    assert put(frame_queue, 0) == [Put(dropped=(FrameId("camera", RUN, 0),))]


def test_all_drops_only_past_256() -> None:
    """Overload "all" keeps what waits and drops what comes."""
    frame_queue = FrameQueue("all")
    assert put(frame_queue, *range(256)) == [Put()] * 256
    assert put(frame_queue, 256) == [Put(dropped=(FrameId("camera", RUN, 256),))]
    assert len(take_all(frame_queue)) == 256


def test_preferring_the_newest_gives_up_the_rest() -> None:
    """A change of overload applies to the frames that wait."""
    frame_queue = FrameQueue("all")
    put(frame_queue, *range(20))
    assert [each.seq for each in frame_queue.prefer("newest")] == list(range(12))
    assert [each.seq for each in take_all(frame_queue)] == list(range(12, 20))


def test_a_repeat_is_recognised_waiting_answered_or_dropped() -> None:
    """A hub may deliver a frame again at any time; it is answered once."""
    frame_queue = FrameQueue("newest")
    put(frame_queue, *range(9))
    frame_queue.take()
    assert put(frame_queue, 0, 1, 8) == [Put(repeats=1)] * 3


def test_the_same_seq_of_another_run_or_camera_is_no_repeat() -> None:
    """A restarted camera begins at seq 0 again."""
    frame_queue = FrameQueue()
    put(frame_queue, 0)
    assert frame_queue.put([frame(0, run="f" * 16)], 0) == Put()
    assert put(frame_queue, 0, camera="other") == [Put()]


def test_the_last_4096_of_a_run_are_remembered() -> None:
    """Memory is bounded: the frame before those counts as new."""
    frame_queue = FrameQueue()
    put(frame_queue, *range(REMEMBERED_FRAMES + 1))
    assert put(frame_queue, 1, REMEMBERED_FRAMES) == [Put(repeats=1)] * 2
    assert put(frame_queue, 0)[0].repeats == 0


def test_the_number_of_runs_is_bounded() -> None:
    """A sender that invents runs pushes out the longest silent one, not one that is heard from."""
    frame_queue = FrameQueue()
    frame_queue.put([frame(0)], 0)
    for number in range(REMEMBERED_RUNS):
        frame_queue.put([frame(0, run=f"{number:016x}")], 0)
        frame_queue.put([frame(1)], 0)
    assert frame_queue.put([frame(0)], 0) == Put(repeats=1)
    assert frame_queue.put([frame(0, run=f"{0:016x}")], 0).repeats == 0


def test_a_forgotten_run_may_bring_an_equal_seq_while_it_waits() -> None:
    """Two frames of one name in the queue are two frames, and neither picture is compared."""
    frame_queue = FrameQueue("all")
    put(frame_queue, 0)
    for number in range(REMEMBERED_RUNS):
        frame_queue.put([frame(0, run=f"{number:016x}")], 0)
    put(frame_queue, 0)
    assert take_all(frame_queue).count(FrameId("camera", RUN, 0)) == 2


def test_a_camera_is_told_its_highest_settled_seq_once() -> None:
    """Flow names the highest settled frame of each run, and nothing while nothing rises."""
    frame_queue = FrameQueue()
    put(frame_queue, 0, 1, 2)
    assert not frame_queue.untold
    for seq in (2, 0):
        frame_queue.settle([frame(seq)])
    assert frame_queue.untold
    assert frame_queue.newly_settled() == [FrameId("camera", RUN, 2)]
    frame_queue.settle([frame(1)])
    assert frame_queue.newly_settled() == []
    frame_queue.settle([frame(3), frame(4)])
    assert frame_queue.newly_settled() == [FrameId("camera", RUN, 4)]


def test_settled_frames_are_counted_until_they_are_told() -> None:
    """A camera's credit runs out by their number, so their number says when it is time to tell."""
    frame_queue = FrameQueue()
    put(frame_queue, 0, 1, 2)
    frame_queue.settle([frame(0), frame(1)])  # as a batch
    frame_queue.settle([frame(2)])
    assert frame_queue.settled == 3
    frame_queue.newly_settled()
    assert frame_queue.settled == 0


@pytest.mark.parametrize("overload", ["newest", "all"])
def test_a_dropped_frame_is_settled(overload: Overload) -> None:
    """Or its camera would wait for an answer that never comes."""
    frame_queue = FrameQueue(overload)
    (*_, last) = put(frame_queue, *range(QUEUE_MESSAGES[overload] + 1))
    assert last.dropped
    assert frame_queue.newly_settled() == list(last.dropped)


@given(
    overloads=st.lists(st.sampled_from(["newest", "all"]), min_size=1, max_size=4),
    moves=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 30), st.integers(1, 5)),
            st.sampled_from(["take", "prefer"]),
        ),
        max_size=120,
    ),
)
def test_every_frame_is_taken_dropped_repeated_or_waiting(
    overloads: list[Overload], moves: list[tuple[str, int, int] | str]
) -> None:
    """Whatever comes in which order, alone or in batches, nothing is lost and nothing is doubled."""
    frame_queue, repeats, came = FrameQueue(overloads[0]), 0, 0
    first_time: set[FrameId] = set()
    ended: list[FrameId] = []
    for step, move in enumerate(moves):
        if move == "take":
            arrival = frame_queue.take()
            ended += [each.id for each in arrival.frames] if arrival else []
        elif move == "prefer":
            ended += frame_queue.prefer(overloads[step % len(overloads)])
        else:
            batch = [frame(int(move[1]) + more, camera=str(move[0])) for more in range(int(move[2]))]
            result = frame_queue.put(batch, step)
            new = {each.id for each in batch} - first_time
            assert result.repeats == len(batch) - len(new)
            first_time |= new
            came += len(batch)
            repeats += result.repeats
            ended += result.dropped
        assert len(frame_queue) == len(first_time) - len(ended)
    waiting = take_all(frame_queue)
    assert sorted(ended + waiting) == sorted(first_time)
    assert came == repeats + len(first_time)
