"""Stage times that add up to the nanosecond, exact percentiles, and publish times reported once."""

from dataclasses import replace
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.frame.message import Frame, FrameId
from inference.frames.ledger import (
    MAX_PENDING,
    MAX_PUBLISH_TIMES,
    MAX_STAGE_NS,
    MAX_WINDOW_FRAMES,
    STAGES,
    UNKNOWN,
    ClockReference,
    Ledger,
    PublishTime,
    StageTimes,
    Timestamps,
    publish_times_body,
    stage_times,
    summary,
)

EPOCH = 1_700_000_000_000_000_000
HERE = ClockReference("this boot", EPOCH)
FRAME = Frame(
    id=FrameId("camera", "0123456789abcdef", 7),
    image=b"\0",
    content_type="application/octet-stream",
    width=1,
    height=1,
    channels=1,
    captured=EPOCH + 1_000,
    mono=1_000,
    encoded=1_400,
    boot="this boot",
)
STAMPS = Timestamps(arrived=2_500, taken=2_550, prepared=2_750, inferred=2_850, answered=2_900)


def times(seq: int = 0, answered: int = 100) -> StageTimes:
    return StageTimes(
        FrameId("camera", "0123456789abcdef", seq), (UNKNOWN, 1, 2, 3, 4, 5, 6), "monotonic", answered
    )


def test_stages_are_the_differences_of_neighbouring_timestamps() -> None:
    """Each stage has its name and is in ms."""
    done = stage_times(FRAME, STAMPS, HERE)
    assert done.clock == "monotonic"
    assert done.stages_ms() == {
        "encode": 0.0004,
        "transit": 0.0011,
        "queue": 0.00005,
        "preprocess": 0.0002,
        "invoke": 0.0001,
        "postprocess": 0.00005,
    }


@given(steps=st.lists(st.integers(0, 10**12), min_size=8, max_size=8))
def test_a_frames_stages_add_up_to_its_total(steps: list[int]) -> None:
    """total = captured → PUBACK to the nanosecond, for any timestamps."""
    at = [sum(steps[: place + 1]) for place in range(8)]
    done = stage_times(replace(FRAME, mono=at[0], encoded=at[1]), Timestamps(*at[2:7]), HERE)
    ledger = Ledger(0)
    ledger.add_stored([done], at[7])
    total = ledger.close_window(0).stages_ms()["total"]
    assert total["max"] == (at[7] - at[0]) / 1e6


@given(
    encode=st.integers(-(10**19), 10**19),
    captured=st.one_of(st.integers(0, 10**19), st.integers(EPOCH - 2 * MAX_STAGE_NS, EPOCH + MAX_STAGE_NS)),
    mono=st.integers(0, 10**19),
    boot=st.sampled_from(["this boot", "another"]),
)
def test_timestamps_of_another_machine_never_break_the_ledger(
    encode: int, captured: int, mono: int, boot: str
) -> None:
    """Whatever timestamps a message has, each stage is in 0 to MAX_STAGE_NS, or unknown."""
    done = stage_times(
        replace(FRAME, mono=mono, encoded=mono + encode, captured=captured, boot=boot), STAMPS, HERE
    )
    ledger = Ledger(0)
    ledger.add_stored([done], STAMPS.answered)
    window = ledger.close_window(0)
    assert window.frames == 1
    stages = window.stages_ms()
    if done.clock == "bad":
        assert done.stages[:3] == (UNKNOWN, UNKNOWN, UNKNOWN)
        assert set(stages) == {"queue", "preprocess", "invoke", "postprocess", "publish"}
        assert set(done.stages_ms()) == {"queue", "preprocess", "invoke", "postprocess"}
    else:
        assert 0 <= stages["encode"]["max"] <= MAX_STAGE_NS / 1e6
        assert 0 <= stages["transit"]["max"] <= MAX_STAGE_NS / 1e6
        if done.clock == "wall":
            assert done.stages[1] + done.stages[2] == EPOCH + STAMPS.arrived - captured


@pytest.mark.parametrize(
    "stamps",
    [
        {"boot": "another", "captured": 0},
        {"boot": "another", "captured": EPOCH + 10**10},
        {"boot": "another", "captured": EPOCH - 2 * MAX_STAGE_NS},
        {"mono": 10**18, "encoded": 10**18, "captured": 10**18},
        {"mono": 0, "encoded": 0, "captured": 0},
    ],
    ids=["from 1970", "from the future", "hours old", "monotonic from the future", "since the boot"],
)
def test_a_timestamp_that_is_not_plausible_is_in_no_percentile(stamps: dict[str, Any]) -> None:
    """One frame with `captured: 0` gave a transit of 1.8e12 ms in the percentiles of all cameras."""
    late = 2 * MAX_STAGE_NS  # an inference module that has run for hours
    here = Timestamps(*(late + each for each in (2_500, 2_550, 2_750, 2_850, 2_900)))
    good = replace(FRAME, mono=late + 1_000, encoded=late + 1_400)
    ledger = Ledger(0)
    for each in (good, replace(good, **stamps)):
        ledger.add_stored([stage_times(each, here, HERE)], here.answered + 100)
    stages = ledger.close_window(0).stages_ms()
    assert {name: int(each["count"]) for name, each in stages.items()} == {
        **dict.fromkeys(("encode", "transit", "total"), 1),
        **dict.fromkeys(("queue", "preprocess", "invoke", "postprocess", "publish"), 2),
    }
    assert (stages["transit"]["max"], stages["total"]["max"]) == (1_100 / 1e6, 2_000 / 1e6)


def test_another_boot_falls_back_to_the_wall_clock() -> None:
    """Monotonic clocks of two boots are not comparable: the stages use the wall clock and say so."""
    done = stage_times(replace(FRAME, boot="another", mono=5_000_000, encoded=5_000_400), STAMPS, HERE)
    assert (done.clock, done.stages[1:3]) == ("wall", (400, 1_100))


def test_timestamps_out_of_order_fall_back_to_the_wall_clock() -> None:
    """A camera cannot finish encoding after the frame has arrived."""
    done = stage_times(replace(FRAME, encoded=9_000), STAMPS, HERE)
    assert (done.clock, sum(done.stages[1:3])) == ("wall", 1_500)


@pytest.mark.parametrize(
    ("changed", "clock", "stages"),
    [
        ({}, "monotonic", (300, 100, 1_100)),
        ({"boot": "another"}, "wall", (300, 100, 1_100)),
        ({"taken": 500}, "wall", (0, 0, 1_500)),  # before it was captured
        ({"taken": 9_000}, "wall", (0, 0, 1_500)),  # after it was encoded
        ({"taken": 1_000}, "monotonic", (0, 400, 1_100)),
    ],
)
def test_a_picture_of_a_video_waits_in_the_mailbox(
    changed: dict[str, Any], clock: str, stages: tuple[int, int, int]
) -> None:
    """The wait is a stage of its own, and not part of `encode`; the total does not change."""
    done = stage_times(replace(FRAME, **{"taken": 1_300, **changed}), STAMPS, HERE)
    assert (done.clock, done.stages[:3]) == (clock, stages)
    assert list(done.stages_ms()) == list(STAGES[:-1])
    ledger = Ledger(0)
    ledger.add_stored([done], STAMPS.answered + 100)
    summed = ledger.close_window(0).stages_ms()
    assert (summed["mailbox"]["max"], summed["total"]["max"]) == (stages[0] / 1e6, 2_000 / 1e6)


@given(values=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=300))
def test_percentiles_are_exact_by_nearest_rank(values: list[int]) -> None:
    """A percentile is the smallest measured value with at least p % of all values at or below it."""
    summed = summary(values)
    for percent in (50, 90, 95, 99):
        expected = sorted(values)[ceil(percent * len(values) / 100) - 1]
        assert summed[f"p{percent}"] == expected / 1e6
        assert sum(value <= expected for value in values) * 100 >= percent * len(values)
    assert (summed["count"], summed["max"]) == (len(values), max(values) / 1e6)


def test_a_window_holds_stored_and_suppressed_frames() -> None:
    """A suppressed frame has neither a publish stage nor a total."""
    ledger = Ledger(10)
    ledger.add_suppressed(times(0))
    ledger.add_stored([times(1)], 107)
    window = ledger.close_window(20)
    stages = window.stages_ms()
    assert (window.opened, window.frames) == (10, 2)
    assert {name: int(stages[name]["count"]) for name in stages} == {
        **dict.fromkeys(STAGES[1:-1], 2),
        "publish": 1,
        "total": 1,
    }
    assert stages["total"]["max"] == (1 + 2 + 3 + 4 + 5 + 6 + 7) / 1e6


def test_closing_a_window_opens_an_empty_one() -> None:
    """Each frame is in exactly one window."""
    ledger = Ledger(0)
    ledger.add_suppressed(times())
    ledger.close_window(50)
    again = ledger.close_window(60)
    assert (again.opened, again.frames, again.stages_ms()) == (50, 0, {})


def test_a_full_window_is_recognised() -> None:
    """At 1,000 frames a second and an interval of an hour the memory stays bounded."""
    ledger = Ledger(0)
    for _ in range(MAX_WINDOW_FRAMES):
        assert not ledger.full
        ledger.add_suppressed(times())
    assert ledger.full


def test_each_publish_time_is_reported_once_and_in_order() -> None:
    """`before` is the latest; `earlier` holds the others since the last message."""
    ledger = Ledger(0)
    assert publish_times_body(ledger.take_publish_times()) == {"before": None}
    for seq in range(3):
        ledger.add_stored([times(seq, answered=100)], 200 + seq)
    body = publish_times_body(ledger.take_publish_times())
    assert body["before"] == {
        "frame": {"camera": "camera", "run": "0123456789abcdef", "seq": 2},
        "publish_ms": 102 / 1e6,
    }
    assert [each["frame"]["seq"] for each in body["earlier"]] == [0, 1]
    assert ledger.take_publish_times() == ()


def test_the_publish_times_of_an_unsent_message_are_in_the_next_one() -> None:
    """A full outbox loses no publish time, and their order stays."""
    ledger = Ledger(0)
    for seq in (0, 1):
        ledger.add_stored([times(seq)], 150)
    taken = ledger.take_publish_times()
    ledger.add_stored([times(2)], 160)
    ledger.requeue(taken)
    assert [each.frame.seq for each in ledger.take_publish_times()] == [0, 1, 2]


def test_pending_publish_times_are_bounded() -> None:
    """A message carries at most 65, the ledger keeps the last 1,024."""
    ledger = Ledger(0)
    for seq in range(MAX_PENDING + 5):
        ledger.add_stored([times(seq)], 150)
    taken = ledger.take_publish_times()
    assert [each.frame.seq for each in taken] == list(range(5, 5 + MAX_PUBLISH_TIMES))


def test_a_publish_time_is_in_ms() -> None:
    """The messages carry ms, the ledger ns."""
    body = PublishTime(FRAME.id, 1_500_000).body()
    assert body["publish_ms"] == pytest.approx(1.5)
