"""The account of stored frames: each is in exactly one count."""

import json

import pytest

from twinship.bench.rig.watching import connects, expired, queued
from twinship.bench.scenarios.modules.account import account
from twinship.bench.scenarios.modules.overload import CREDIT, shortcomings

RUN = "00000000000000aa"
METRICS = """# HELP edgehub_queue_length Messages that wait
# TYPE edgehub_queue_length gauge
edgehub_queue_length{iothub="h",endpoint="twinship/inference",priority="0"} 2
edgehub_queue_length{iothub="h",endpoint="twinship/inference",priority="1"} 5
edgehub_queue_length{iothub="h",endpoint="twinship/camera_sim",priority="0"} 9
# HELP edgehub_messages_dropped_total Messages dropped, by reason
# TYPE edgehub_messages_dropped_total counter
edgehub_messages_dropped_total{iothub="h",reason="ttl_expiry"} 32
edgehub_messages_dropped_total{iothub="h",reason="no_route"} 1
# HELP edgehub_client_connect_success_total Clients let in
# TYPE edgehub_client_connect_success_total counter
edgehub_client_connect_success_total{iothub="h",id="twinship/inference"} 3
"""


def sent(*seqs: int) -> list[str]:
    """The camera's send log."""
    frame = {"camera": "camera", "run": RUN, "truth": None, "captured": 1, "stored": 2, "bytes": 3}
    return [json.dumps({**frame, "seq": seq}) + "\n" for seq in seqs]


def upstream(*answered: int, **dropped: int) -> list[str]:
    """Predictions, and the counters of the process that made them."""
    model = {"version": "1", "sha256": "a", "weights": "b"}
    bodies: list[object] = [
        {
            "schema": "twinship.prediction.v1",
            "instance": "i",
            "frame": {"camera": "camera", "run": RUN, "seq": seq},
            "model": model,
            "top": [{"label": "7"}],
            "stages_ms": {},
        }
        for seq in answered
    ]
    bodies.append({"schema": "twinship.latency.v1", "instance": "i", "dropped": dropped, "repeats": 0})
    return [json.dumps({"Body": body}) + "\n" for body in bodies]


def test_every_frame_is_answered_dropped_or_expired() -> None:
    """Then no frame is uncounted."""
    found = account(sent(*range(6)), upstream(0, 1, overload=2), expired=1, waiting=1)
    assert (found.stored, found.answered, found.expired, found.waiting, found.uncounted) == (6, 2, 1, 1, 0)
    assert found.dropped == {"overload": 2}


def test_a_frame_in_no_count_is_uncounted() -> None:
    """It was stored, but not answered, dropped, expired or waiting."""
    assert account(sent(0, 1, 2), upstream(0), expired=1, waiting=0).uncounted == 1


def test_a_frame_in_two_counts_is_detected() -> None:
    """A frame that is counted twice must not hide a lost one."""
    assert account(sent(0), upstream(0, overload=1), expired=0, waiting=0).uncounted == -1


def test_a_frame_that_was_never_stored_is_not_in_the_account() -> None:
    """A gap in the camera's sequence does not count as dropped."""
    assert account(sent(0, 2), upstream(0, 2), expired=0, waiting=0).dropped == {}


def test_the_hubs_page_is_read_by_module_and_reason() -> None:
    """Priorities are added up, other modules and reasons are ignored, an absent metric is 0."""
    assert queued(METRICS, "inference") == 7
    assert expired(METRICS) == 32
    assert connects(METRICS, "inference") == 3
    assert (queued("", "inference"), expired(""), connects("", "inference")) == (0, 0, 0)


FIGURES = {
    "credit": CREDIT,
    "slower": 2.4,
    "queue_max": CREDIT,
    "memory_mb": {"before": {"inference": 90.0}, "peak": {"inference": 110.0}},
    "back_after_s": {"stopped": 0.2, "ended": 1.0},
    "frames": {"uncounted": 0},
}


def test_an_overload_within_all_limits_has_no_shortcomings() -> None:
    """Answers are slower by less than three times, the queue is short, every frame is counted."""
    assert shortcomings(FIGURES) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"slower": 3.1}, "p50 under load"),
        ({"queue_max": CREDIT + 1}, "waited in edgeHub"),
        ({"back_after_s": {"stopped": 2.1, "ended": 1.0}}, "after inference was stopped"),
        ({"memory_mb": {"before": {"inference": 90.0}, "peak": {"inference": 190.0}}}, "inference grew"),
        ({"frames": {"uncounted": 1}}, "are not counted"),
    ],
)
def test_each_exceeded_limit_of_an_overload_is_named(changed: dict[str, object], named: str) -> None:
    """There is one line for each."""
    (line,) = shortcomings(FIGURES | changed)
    assert named in line
