"""The summary of a run from its send log and its messages upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twinship.demo.report import (
    Summary,
    percentile,
    read_send_log,
    read_sent,
    read_upstream,
    shortcomings,
    summarise,
)

RUN = "00000000000000aa"
STAGES_MS = {
    "encode": 1.0,
    "transit": 2.0,
    "queue": 0.5,
    "preprocess": 0.25,
    "invoke": 0.125,
    "postprocess": 0.125,
}


def sent_line(seq: int, truth: str | None = "7", run: str = RUN) -> str:
    """One line of the camera's send log."""
    return (
        json.dumps(
            {"camera": "c", "run": run, "seq": seq, "truth": truth, "captured": 1, "stored": 2, "bytes": 9}
        )
        + "\n"
    )


def before(seq: int, publish_ms: float = 1.0) -> dict[str, Any]:
    """The field of a message about an earlier frame."""
    return {"frame": {"camera": "c", "run": RUN, "seq": seq}, "publish_ms": publish_ms}


def answer_line(
    seq: int, label: str = "7", *, version: str = "1", run: str = RUN, after: dict[str, Any] | None = None
) -> str:
    """One prediction as a line of upstream.jsonl."""
    body = {
        "schema": "twinship.prediction.v1",
        "instance": "i",
        "frame": {"camera": "c", "run": run, "seq": seq},
        "model": {"name": "m", "version": version, "sha256": f"s{version}", "weights": f"w{version}"},
        "top": [{"label": label, "confidence": 0.9}],
        "stages_ms": STAGES_MS,
        "before": after,
    }
    return json.dumps({"Body": body}) + "\n"


def latency_line(
    instance: str = "i", repeats: int = 0, after: dict[str, Any] | None = None, **dropped: int
) -> str:
    """One latency message with its cumulative counters."""
    body = {
        "schema": "twinship.latency.v1",
        "instance": instance,
        "repeats": repeats,
        "dropped": dropped,
        "before": after,
    }
    return json.dumps({"Body": body}) + "\n"


def summary(sent: list[str], upstream: list[str]) -> Summary:
    """The summary of these lines."""
    return summarise("data", read_sent(sent), read_upstream(upstream))


def test_every_frame_answered_once_is_a_clean_run() -> None:
    """Nothing is lost, dropped or repeated; labels give the accuracy."""
    found = summary(
        [sent_line(0), sent_line(1)],
        [answer_line(0), answer_line(1, "1", after=before(0)), latency_line(after=before(1, 3.0))],
    )
    assert (found.frames_sent, found.frames_answered, found.frames_lost, found.frames_dropped) == (2, 2, 0, 0)
    assert (found.repeats, found.accuracy) == (0, 0.5)


def test_total_is_the_sum_of_the_stages_with_the_publish_of_the_next_message() -> None:
    """`publish` is known one message later; a frame whose publish time is unknown has no total."""
    found = summary([sent_line(0), sent_line(1)], [answer_line(0), answer_line(1, after=before(0, 2.0))])
    assert found.latency_ms["total"] == {"p50": 6.0, "p90": 6.0, "p99": 6.0}
    assert found.latency_ms["invoke"]["p50"] == 0.125


def test_late_publish_times_are_read_from_earlier() -> None:
    """`earlier` holds the publish times for which `before` has no room."""
    body = json.loads(latency_line(after=before(1, 3.0)))
    body["Body"]["earlier"] = [before(0, 2.0)]
    found = summary([sent_line(0), sent_line(1)], [answer_line(0), answer_line(1), json.dumps(body) + "\n"])
    assert found.latency_ms["publish"] == {"p50": 2.0, "p90": 3.0, "p99": 3.0}


def test_a_stored_frame_without_answer_is_lost_unless_a_counter_names_it() -> None:
    """A lost frame was acknowledged, has no answer, and is in no drop counter."""
    sent = [sent_line(0), sent_line(1), sent_line(2)]
    assert summary(sent, [answer_line(0), latency_line()]).frames_lost == 2
    counted = summary(sent, [answer_line(0), latency_line(overload=1)])
    assert (counted.frames_lost, counted.frames_dropped, counted.dropped_by_reason) == (1, 1, {"overload": 1})


def test_counters_are_cumulative_for_each_process() -> None:
    """The newest message of each process counts; the processes are added up."""
    found = summary(
        [sent_line(0)],
        [answer_line(0), latency_line(overload=1), latency_line(overload=3), latency_line("j", overload=2)],
    )
    assert found.frames_dropped == 5


def test_a_gap_in_the_camera_s_sequence_is_a_drop() -> None:
    """A frame that was captured and never stored counts as dropped by the camera."""
    found = summary([sent_line(0), sent_line(2)], [answer_line(0), answer_line(2)])
    assert found.dropped_by_reason == {"camera": 1}


def test_frames_of_another_run_are_ignored_and_counted() -> None:
    """A frame of an earlier run does not change the figures of this one."""
    found = summary([sent_line(0)], [answer_line(0), answer_line(0, "9", run="00000000000000bb")])
    assert (found.foreign_frames, found.frames_answered, found.accuracy) == (1, 1, 1.0)


def test_repeats_count_both_what_came_in_and_what_went_out_again() -> None:
    """At-least-once delivery can repeat messages at both ends of the inference module."""
    found = summary([sent_line(0)], [answer_line(0), answer_line(0), latency_line(repeats=2)])
    assert (found.repeats, found.frames_answered) == (3, 1)


def test_each_version_has_its_own_frames_and_accuracy() -> None:
    """An average over both models would hide a difference."""
    found = summary([sent_line(0), sent_line(1)], [answer_line(0), answer_line(1, "1", version="2")])
    assert (found.by_version["1"].accuracy, found.by_version["2"].accuracy) == (1.0, 0.0)
    assert found.by_version["2"].sha256 == "s2"


def test_own_pictures_without_truth_have_no_accuracy() -> None:
    """An unknown label does not count as a wrong answer."""
    assert summary([sent_line(0, None)], [answer_line(0)]).accuracy is None


def test_an_incomplete_last_line_is_ignored() -> None:
    """A killed camera leaves one in its send log."""
    assert len(read_sent([sent_line(0), sent_line(1)[:20]])) == 1


def test_a_line_that_a_full_disk_cut_is_counted_and_skipped() -> None:
    """The lines before and after it still count, in both files."""
    torn = (sent_line(1)[:20] + "\n", sent_line(1)[:20] + sent_line(2), "[]\n", "\ufffd\n")
    log = read_send_log([sent_line(0), *torn, sent_line(3)])
    assert ([frame.key[2] for frame in log.frames], log.unreadable_lines) == ([0, 3], 4)
    arrived = read_upstream([answer_line(0), answer_line(1)[:90] + "\n", answer_line(3)])
    added = summarise("data", log.frames, arrived, unreadable_sent=log.unreadable_lines)
    assert (added.frames_answered, added.unreadable_lines) == (2, 5)


def test_an_unreadable_upstream_line_is_counted_and_skipped() -> None:
    """The other lines still count."""
    found = read_upstream(
        ["{", json.dumps({"Body": {"schema": "twinship.prediction.v1"}}), '{"Body": "AAAA"}', answer_line(0)]
    )
    assert (found.unreadable_lines, len(found.answers)) == (2, 1)


@pytest.mark.parametrize(("percent", "expected"), [(50, 2.0), (90, 4.0), (99, 4.0), (1, 1.0)])
def test_percentiles_are_observed_values(percent: float, expected: float) -> None:
    """Nearest rank: the smallest value that at least so many percent do not exceed."""
    assert percentile([4.0, 2.0, 1.0, 3.0], percent) == expected


def test_each_shortcoming_is_named() -> None:
    """A clean run has none."""
    clean = summary([sent_line(0), sent_line(1)], [answer_line(0), answer_line(1, version="2")])
    assert shortcomings(clean, expected_frames=2, expected_versions=["1", "2"], minimum_accuracy=0.9) == []
    poor = summary([sent_line(0)], [])
    lines = " / ".join(shortcomings(poor, expected_frames=2, expected_versions=["1"], minimum_accuracy=0.9))
    for text in ("1 of 2 frames", "lost", "version 1 answered nothing", "accuracy None"):
        assert text in lines


def test_two_versions_with_the_same_weights_are_no_swap() -> None:
    """A second version with the same weights is the same model."""
    same = [answer_line(0), answer_line(1, version="2").replace('"w2"', '"w1"')]
    found = summary([sent_line(0), sent_line(1)], same)
    assert "two versions have the same weights" in shortcomings(
        found, expected_frames=2, expected_versions=["1", "2"], minimum_accuracy=None
    )


def test_summary_json_holds_the_named_keys() -> None:
    """Scripts depend on these names."""
    plain = summary([sent_line(0)], [answer_line(0)]).to_json()
    assert json.loads(json.dumps(plain))["by_version"]["1"]["frames"] == 1
    assert {"dataset", "frames_sent", "frames_lost", "latency_ms", "accuracy"} <= plain.keys()


def batch_line(*seqs: int, after: dict[str, Any] | None = None) -> str:
    """The answers to a batch as a line of upstream.jsonl."""
    records = [json.loads(answer_line(seq))["Body"] for seq in seqs]
    return (
        json.dumps({"Body": {"schema": "twinship.predictions.v1", "predictions": records, "before": after}})
        + "\n"
    )


def test_the_answers_to_a_batch_count_frame_by_frame() -> None:
    """All have the publish time that is reported for the first of them."""
    found = summary(
        [sent_line(seq) for seq in range(4)],
        [batch_line(0, 1, 2), answer_line(3, after=before(0, 2.0)), latency_line(after=before(3, 2.0))],
    )
    assert (found.frames_answered, found.frames_lost, found.repeats) == (4, 0, 0)
    assert found.latency_ms["publish"] == {"p50": 2.0, "p90": 2.0, "p99": 2.0}
    assert found.latency_ms["total"]["p50"] == sum(STAGES_MS.values()) + 2.0


def test_a_frame_lost_in_a_restart_is_a_drop_and_one_that_was_answered_is_not() -> None:
    """The killed process had both in hand; the hub had stored the answer to one of them."""
    body = json.loads(latency_line("second", lost_in_restart=2))
    body["Body"]["lost_frames"] = [{"camera": "c", "run": RUN, "first": 1, "last": 2}]
    sent = [sent_line(seq) for seq in range(4)]
    found = summary(sent, [answer_line(0), answer_line(1), answer_line(3), json.dumps(body) + "\n"])
    assert (found.frames_answered, found.frames_lost) == (3, 0)
    assert found.dropped_by_reason == {"lost_in_restart": 1}
    # Without the names, the frame would be in two counts.
    del body["Body"]["lost_frames"]
    found = summary(sent, [answer_line(0), answer_line(1), answer_line(3), json.dumps(body) + "\n"])
    assert found.dropped_by_reason == {"lost_in_restart": 2}


def test_a_frame_with_a_bad_clock_has_no_total() -> None:
    """Its stages in inference count."""
    line = json.loads(answer_line(0))
    for stage in ("encode", "transit"):
        del line["Body"]["stages_ms"][stage]
    found = summary([sent_line(0)], [json.dumps(line) + "\n", latency_line(after=before(0))])
    assert set(found.latency_ms) == {"queue", "preprocess", "invoke", "postprocess", "publish"}


def boxed(label: str, left: float) -> dict[str, Any]:
    """A box, as truth and detections have it."""
    return {"label": label, "box": {"l": left, "t": 0.1, "w": 0.2, "h": 0.2}}


def detection_line(seq: int, *found: dict[str, Any]) -> str:
    """The detections of one frame as a line of upstream.jsonl."""
    body = json.loads(answer_line(seq))["Body"]
    del body["top"]
    body |= {
        "schema": "twinship.detection.v1",
        "detections": [{**each, "confidence": 0.9} for each in found],
    }
    return json.dumps({"Body": body}) + "\n"


def test_detections_are_judged_by_the_boxes_of_the_camera() -> None:
    """One box of two is found and one detection of two is right; of a classifier there is no such figure."""
    truth = json.dumps([boxed("cat", 0.1), boxed("cat", 0.6)])
    found = summary([sent_line(0, truth)], [detection_line(0, boxed("cat", 0.1), boxed("dog", 0.6))])
    assert found.frames_answered == 1
    assert found.accuracy is None
    assert found.detection is not None
    assert (found.detection.precision, found.detection.recall) == (0.5, 0.5)
    assert found.detection.map50 == pytest.approx(0.5, abs=0.01)
    assert found.to_json()["by_version"]["1"]["detection"] == found.to_json()["detection"]
    assert summary([sent_line(0)], [answer_line(0)]).detection is None


def test_a_frame_without_objects_and_without_detections_is_judged_right() -> None:
    """A detection in an empty picture is wrong."""
    sent = [sent_line(0, json.dumps([boxed("cat", 0.1)])), sent_line(1, "[]")]
    right = summary(sent, [detection_line(0, boxed("cat", 0.1)), detection_line(1)]).detection
    wrong = summary(
        sent, [detection_line(0, boxed("cat", 0.1)), detection_line(1, boxed("cat", 0.1))]
    ).detection
    assert right is not None
    assert wrong is not None
    assert (right.precision, wrong.precision) == (1.0, 0.5)
