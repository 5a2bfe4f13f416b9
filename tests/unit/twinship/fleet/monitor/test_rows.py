"""What `twinship monitor` prints of messages: filters, rows, the rate."""

from __future__ import annotations

import json
from typing import Any

import pytest

from twinship.fleet.monitor import Batch, Event, Latency, Other, Prediction, Source, parse_body
from twinship.fleet.monitor.messages import BadLine
from twinship.fleet.monitor.rows import CSV_COLUMNS, HEADER, Filter, Rate, row, table_line

SOURCE = Source("porch", "inference", "2026-11-28T06:30:00.000Z")
BODY = {
    "schema": "twinship.prediction.v1",
    "frame": {"camera": "camera", "run": "ab" * 8, "seq": 7},
    "captured": 1_700_000_000_000_000_000,
    "model": {"name": "digits", "version": "1.0.0"},
    "top": [{"label": "7", "confidence": 0.9}],
    "stages_ms": {"encode": 0.5, "invoke": 0.25, "publish": None},
}
LATENCY = Latency(
    SOURCE, 10.0, 100, {"total": {"p50": 2.5, "p99": 8.0}}, {"overload": 2, "outbox": 0}, 1, False
)


def prediction(source: Source = SOURCE, **changed: object) -> Prediction:
    """A prediction of porch: 7, with confidence 0.9."""
    found = parse_body(source, json.dumps({**BODY, **changed}).encode())
    assert isinstance(found, Prediction)
    return found


def test_a_row_of_a_prediction_has_every_column() -> None:
    """The total is the sum of the stages that the frame has."""
    found = row(prediction())
    assert found == {
        "kind": "prediction",
        "enqueued": "2026-11-28T06:30:00.000Z",
        "device": "porch",
        "module": "inference",
        "camera": "camera",
        "run": "ab" * 8,
        "seq": 7,
        "label": "7",
        "confidence": 0.9,
        "uncertain": False,
        "model": "digits:1.0.0",
        "captured": 1_700_000_000_000_000_000,
        "total_ms": 0.75,
        "stages_ms": {"encode": 0.5, "invoke": 0.25},
    }
    assert set(CSV_COLUMNS) == found.keys() - {"kind", "stages_ms"}


def test_a_detector_has_its_objects_in_a_row() -> None:
    """A filter by label finds each of them; the table counts them, and says when there is none."""
    box = {"l": 0.1, "t": 0.2, "w": 0.3, "h": 0.4}
    found = [{"label": name, "confidence": 0.5, "box": box} for name in ("car", "car", "van")]
    seen = prediction(schema="twinship.detection.v1", detections=found)
    assert row(seen)["detections"][2] == {"label": "van", "confidence": 0.5, "box": box}
    assert "2 car, 1 van" in table_line(seen)
    assert Filter(labels=("van",)).passes(seen)
    assert not Filter(labels=("2 car, 1 van",)).passes(seen)
    assert "nothing" in table_line(prediction(schema="twinship.detection.v1", detections=[]))


def test_rows_of_other_messages_are_named() -> None:
    """Latency and unknown schemas have a kind of their own."""
    assert (row(LATENCY)["kind"], row(LATENCY)["dropped"]) == ("latency", {"overload": 2, "outbox": 0})
    assert row(Other(SOURCE, {"x": 1}))["body"] == {"x": 1}


def test_lines_of_the_table_stand_under_their_headings() -> None:
    """An uncertain label has a question mark."""
    line = table_line(prediction(uncertain=True))
    for heading, text in (("label", "7?"), ("model", "digits:1.0.0"), ("camera", "camera")):
        assert line[HEADER.index(heading) :].startswith(text)
    assert line.split()[-3:] == ["90.0%", "digits:1.0.0", "0.8"]
    assert "100 frames in 10 s: total p50 2.5 ms, p99 8.0 ms, dropped: 2 overload" in table_line(LATENCY)
    assert "8 characters of an unknown schema" in table_line(Other(SOURCE, {"x": 1}))


@pytest.mark.parametrize(
    ("chosen", "passes"),
    [
        (Filter(), True),
        (Filter(devices=("garden", "porch")), True),
        (Filter(devices=("garden",)), False),
        (Filter(labels=("7",)), True),
        (Filter(labels=("8",)), False),
        (Filter(min_confidence=0.9), True),
        (Filter(min_confidence=0.91), False),
        (Filter(max_confidence=0.9), True),
        (Filter(max_confidence=0.89), False),
    ],
)
def test_a_filter_chooses_predictions(chosen: Filter, passes: bool) -> None:
    """Limits of the confidence are inclusive; all parts of a filter must hold."""
    assert chosen.passes(prediction()) is passes


def test_a_filter_of_predictions_hides_other_messages() -> None:
    """A filter of devices does not."""
    assert Filter(devices=("porch",)).passes(LATENCY)
    assert not Filter(devices=("garden",)).passes(LATENCY)
    assert not Filter(labels=("7",)).passes(LATENCY)
    assert not Filter(max_confidence=0.5).passes(Other(SOURCE, 1))


def test_a_confidence_that_is_no_number_passes_no_limit() -> None:
    """But is shown without one."""
    found = prediction(top=[{"label": "7", "confidence": float("nan")}])
    assert Filter().passes(found)
    assert not Filter(max_confidence=0.99).passes(found)


def test_the_rate_is_of_the_time_since_the_last_line() -> None:
    """Percentiles by nearest rank; no line without predictions; infinite latencies are left out."""
    rate = Rate()
    assert rate.line(10.0) is None
    for ms in range(1, 101):
        rate.add(float(ms))
    rate.add(float("inf"))
    assert rate.line(10.0) == (
        "10.0 predictions/s in 10 s, 101 in all; capture to answer p50 50.0 ms, p99 99.0 ms"
    )
    assert rate.line(10.0) is None
    rate.add(4.0)
    assert str(rate.line(2.0)).startswith(
        "0.5 predictions/s in 2 s, 102 in all; capture to answer p50 4.0 ms"
    )


def test_a_batch_has_the_predictions_of_its_frames() -> None:
    """One message, several predictions."""
    body = {"schema": "twinship.predictions.v1", "predictions": [BODY, {**BODY, "captured": 2}]}
    found = parse_body(SOURCE, json.dumps(body).encode())
    assert isinstance(found, Batch)
    assert [each.captured for each in found.predictions] == [BODY["captured"], 2]


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe\x00", b"{", b'{"schema": "twinship.prediction.v1"}', b"[" * 100_000]
)
def test_a_broken_body_is_refused(body: bytes) -> None:
    """With BadLine, which the command prints as one line."""
    with pytest.raises(BadLine):
        parse_body(SOURCE, body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {
                "kind": "model",
                "state": "refused",
                "name": "m",
                "version": "2",
                "reason": {"code": "hangs-runtime", "message": "no answer"},
            },
            "model m:2: refused (hangs-runtime: no answer)",
        ),
        ({"kind": "camera", "state": "lost", "camera": "door", "reason": "cut"}, "camera door: lost (cut)"),
        ({"kind": "drift", "state": "drift"}, "drift: drift"),
    ],
)
def test_an_event_is_one_readable_line(body: dict[str, Any], text: str) -> None:
    """What changed, of what, and why."""
    message = parse_body(SOURCE, json.dumps({"schema": "twinship.event.v1", **body}).encode())
    assert isinstance(message, Event)
    assert table_line(message).endswith(text)
    assert row(message)["kind"] == "event"
    assert not Filter(labels=("7",)).passes(message)
