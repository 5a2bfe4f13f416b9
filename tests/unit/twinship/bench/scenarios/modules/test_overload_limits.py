"""The limits of an overload, and the hub's page of metrics."""

import pytest

from twinship.bench.rig.watching import connects, expired, queued
from twinship.bench.scenarios.modules.overload import CREDIT, shortcomings

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
    "frames": {"lost": 0, "counted_twice": 0},
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
        ({"frames": {"lost": 1, "counted_twice": 0}}, "are in no count"),
        ({"frames": {"lost": 0, "counted_twice": 1}}, "are counted twice"),
    ],
)
def test_each_exceeded_limit_of_an_overload_is_named(changed: dict[str, object], named: str) -> None:
    """There is one line for each."""
    (line,) = shortcomings(FIGURES | changed)
    assert named in line
