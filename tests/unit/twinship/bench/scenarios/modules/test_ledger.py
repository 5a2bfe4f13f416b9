"""Comparison of the stage times with the hub's time stamps."""

import json
from dataclasses import replace
from typing import Any

import pytest

from twinship.bench.scenarios.modules.ledger import compare, shortcomings

CAPTURED_MS = 1_767_225_600_000  # 2026-01-01
STAGES = ("encode", "transit", "queue", "preprocess", "invoke", "postprocess")


def message(body: dict[str, Any], stored_ms: int = 0) -> str:
    """A line of upstream.jsonl, with a stamp in whole ms."""
    stamp = f"2026-01-01T00:00:00.{stored_ms:03}Z"
    return json.dumps({"EnqueuedTimeUtc": stamp, "Body": {"instance": "i", **body}}) + "\n"


def prediction(seq: int, *, stored_ms: int = 7, clock: str = "monotonic", before: int | None = None) -> str:
    """A frame whose stages take 6 ms up to its answer; the publish time of frame `before` is 1.5 ms."""
    frame = {"camera": "camera", "run": "aa", "seq": seq}
    body = {
        "schema": "twinship.prediction.v1",
        "frame": frame,
        "captured": CAPTURED_MS * 10**6,
        "model": {"version": "1", "sha256": "a", "weights": "b"},
        "top": [{"label": "7"}],
        "stages_ms": dict.fromkeys(STAGES, 1.0),
        "clock": clock,
        "before": None if before is None else {"frame": {**frame, "seq": before}, "publish_ms": 1.5},
    }
    return message(body, stored_ms)


def latency(count: int, before: int) -> str:
    """A latency message with so many totals in its window."""
    frame = {"camera": "camera", "run": "aa", "seq": before}
    body = {
        "schema": "twinship.latency.v1",
        "stages_ms": {"total": {"count": count}},
        "dropped": {},
        "repeats": 0,
        "before": {"frame": frame, "publish_ms": 1.5},
    }
    return message(body)


GOOD = [prediction(0), prediction(1, before=0), latency(2, before=1)]


def test_both_times_of_the_same_frames_agree() -> None:
    """The ledger has 7.5 ms; the hub has 7 ms, plus the half that its stamp cuts off on average."""
    found = compare(GOOD)
    assert (found.frames, found.windowed, found.without_publish, found.wall, found.outside) == (2, 2, 0, 0, 0)
    assert found.witness_ms == pytest.approx(7.5)
    assert found.ledger_ms == pytest.approx(7.5)
    assert shortcomings(found) == []
    assert found.to_json()["difference_ms"] == 0


@pytest.mark.parametrize(
    ("upstream", "named"),
    [
        ([prediction(0), prediction(1), latency(2, before=1)], "no message has the publish time"),
        ([*GOOD[:2], latency(3, before=1)], "the windows count 3"),
        ([prediction(0), prediction(1, before=0, clock="wall"), latency(2, before=1)], "wall clocks"),
        ([prediction(0, stored_ms=9), prediction(1, before=0, stored_ms=9), GOOD[2]], "after its PUBACK"),
        ([prediction(0, stored_ms=4), prediction(1, before=0, stored_ms=4), GOOD[2]], "before their answer"),
    ],
)
def test_each_disagreement_is_named(upstream: list[str], named: str) -> None:
    """Each planted error has its own line."""
    assert named in "; ".join(shortcomings(compare(upstream)))


def test_medians_that_differ_too_much_are_named() -> None:
    """The limit is half a millisecond in either direction."""
    found = compare(GOOD)
    for ledger_ms in (6.9, 8.1):
        assert "differs from the hub's" in shortcomings(replace(found, ledger_ms=ledger_ms))[0]
