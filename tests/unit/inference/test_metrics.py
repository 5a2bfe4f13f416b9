"""The Prometheus metrics after some frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.registry import Collector

from edgekit.frame.message import FrameId
from inference.frames.ledger import UNKNOWN, StageTimes
from inference.frames.outcomes import Outcome, Outcomes
from inference.metrics import BUCKETS, MAX_UNSORTED, DriftRatios, FrameCounters, ModelInfo, StageHistograms
from inference.models.installer import Running
from tests.unit.inference.fixtures.doubles import running


def times(*stages: int) -> StageTimes:
    a, b, c, d, e, f = stages
    return StageTimes(FrameId("camera", "0123456789abcdef", 0), (UNKNOWN, a, b, c, d, e, f), "monotonic", 0)


def exposed(*collectors: Collector) -> CollectorRegistry:
    registry = CollectorRegistry()
    for each in collectors:
        registry.register(each)
    return registry


def test_each_outcome_is_a_label() -> None:
    """One counter family holds all outcomes, from the counters that the messages carry."""
    outcomes = Outcomes()
    for outcome in (Outcome.ANSWERED, Outcome.ANSWERED, Outcome.BAD_FRAME, Outcome.BUDGET, Outcome.OFF):
        outcomes.add(outcome)
    outcomes.add_bad_clocks(2)
    registry = exposed(FrameCounters(outcomes.body, lambda: 3))
    assert registry.get_sample_value("inference_frames_total", {"outcome": "answered"}) == 2
    assert registry.get_sample_value("inference_frames_total", {"outcome": "bad_frame"}) == 1
    assert registry.get_sample_value("inference_frames_total", {"outcome": "suppressed"}) == 2
    assert registry.get_sample_value("inference_suppressed_frames_total", {"reason": "budget"}) == 1
    assert registry.get_sample_value("inference_frames_total", {"outcome": "dropped"}) is None
    assert registry.get_sample_value("inference_frames_total", {"outcome": "bad_clock"}) is None
    assert registry.get_sample_value("inference_bad_clock_frames_total") == 2
    assert registry.get_sample_value("inference_waiting_frames") == 3


def test_the_drift_of_each_camera_is_a_gauge() -> None:
    """One sample for each camera and measure; none without a reference."""
    ratios = {("door", "brightness"): 1.25}
    registry = exposed(DriftRatios(lambda: ratios))
    labels = {"camera": "door", "measure": "brightness"}
    assert registry.get_sample_value("inference_drift_ratio", labels) == 1.25
    ratios.clear()
    assert registry.get_sample_value("inference_drift_ratio", labels) is None


def test_the_serving_model_is_a_label() -> None:
    """The labels name model, runtime and delegate; without a model there is no sample."""
    now: list[Running | None] = [running(version="1.2.0")]
    registry = exposed(ModelInfo(lambda: now[0]))
    labels = {"model": "bands", "version": "1.2.0", "runtime": "fake", "delegate": ""}
    assert registry.get_sample_value("inference_model_info", labels) == 1
    now[0] = None
    assert registry.get_sample_value("inference_model_info", labels) is None


def test_a_suppressed_frame_has_no_publish_time() -> None:
    """It has one stage less than a stored frame; neither has a mailbox."""
    histograms = StageHistograms()
    histograms.observe(times(1, 2, 3, 4, 5, 6), None)
    histograms.observe(times(1, 2, 3, 4, 5, 6), 10**9)
    registry = exposed(histograms)
    counts = {
        stage: registry.get_sample_value("inference_stage_seconds_count", {"stage": stage})
        for stage in ("mailbox", "encode", "publish")
    }
    assert counts == {"mailbox": 0, "encode": 2, "publish": 1}
    assert registry.get_sample_value("inference_stage_seconds_sum", {"stage": "publish"}) == 1


@given(values=st.lists(st.integers(-(10**9), 2 * 10**10), max_size=50))
def test_buckets_are_those_of_prometheus_client(values: list[int]) -> None:
    """The counts equal those of prometheus_client's Histogram; a stage below 0 is unknown and not counted."""
    ours, theirs, registry = StageHistograms(), Histogram("h", "h", buckets=BUCKETS, registry=None), None
    for ns in values:
        ours.observe(times(ns, 0, 0, 0, 0, 0), None)
        if ns >= 0:
            theirs.observe(ns / 1e9)
    registry = exposed(ours)
    for sample in next(iter(theirs.collect())).samples:
        if sample.name != "h_created":
            name = sample.name.replace("h_", "inference_stage_seconds_", 1)
            value = registry.get_sample_value(name, {**sample.labels, "stage": "encode"})
            assert value == pytest.approx(sample.value)


def test_memory_stays_bounded_without_a_scrape() -> None:
    """After MAX_UNSORTED frames the values are sorted into buckets; no frame is lost."""
    histograms = StageHistograms()
    for _ in range(MAX_UNSORTED + 10):
        histograms.observe(times(1, 2, 3, 4, 5, 6), 7)
    assert len(histograms._unsorted) == 10
    count = exposed(histograms).get_sample_value("inference_stage_seconds_count", {"stage": "queue"})
    assert count == MAX_UNSORTED + 10
    assert b"inference_stage_seconds_bucket" in generate_latest(exposed(histograms))
