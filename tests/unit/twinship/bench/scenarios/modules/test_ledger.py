"""The ledger beside the hub's stamps: which accounts agree, and what is said when they do not."""

import json
from dataclasses import replace
from typing import Any

import pytest

from twinship.bench.scenarios.modules.ledger import compare, shortcomings

CAPTURED_MS = 1_767_225_600_000  # 2026-01-01
STAGES = ("encode", "transit", "queue", "preprocess", "invoke", "postprocess")


def told(body: dict[str, Any], stored_ms: int = 0) -> str:
    """A line of upstream.jsonl, stamped in whole ms."""
    stamp = f"2026-01-01T00:00:00.{stored_ms:03}Z"
    return json.dumps({"EnqueuedTimeUtc": stamp, "Body": {"instance": "i", **body}}) + "\n"


def prediction(seq: int, *, stored_ms: int = 7, clock: str = "monotonic", before: int | None = None) -> str:
    """A frame whose stages up to its answer take 6 ms; it tells that the one before took 1.5 ms more."""
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
    return told(body, stored_ms)


def latency(count: int, before: int) -> str:
    """A window with so many totals."""
    frame = {"camera": "camera", "run": "aa", "seq": before}
    body = {
        "schema": "twinship.latency.v1",
        "stages_ms": {"total": {"count": count}},
        "dropped": {},
        "repeats": 0,
        "before": {"frame": frame, "publish_ms": 1.5},
    }
    return told(body)


GOOD = [prediction(0), prediction(1, before=0), latency(2, before=1)]


def test_two_accounts_of_the_same_frames_agree() -> None:
    """7.5 ms by the ledger; 7 and the half that a stamp in whole ms lacks by the hub."""
    found = compare(GOOD)
    assert (found.frames, found.windowed, found.untold, found.wall, found.outside) == (2, 2, 0, 0, 0)
    assert found.witness_ms == pytest.approx(7.5)
    assert found.ledger_ms == pytest.approx(7.5)
    assert shortcomings(found) == []
    assert found.to_json()["difference_ms"] == 0


@pytest.mark.parametrize(
    ("upstream", "named"),
    [
        ([prediction(0), prediction(1), latency(2, before=1)], "no message told"),
        ([*GOOD[:2], latency(3, before=1)], "the windows count 3"),
        ([prediction(0), prediction(1, before=0, clock="wall"), latency(2, before=1)], "wall clocks"),
        ([prediction(0, stored_ms=9), prediction(1, before=0, stored_ms=9), GOOD[2]], "after its PUBACK"),
        ([prediction(0, stored_ms=4), prediction(1, before=0, stored_ms=4), GOOD[2]], "before their answer"),
    ],
)
def test_each_disagreement_is_named(upstream: list[str], named: str) -> None:
    """One flaw, planted; the sum of what is said names it."""
    assert named in "; ".join(shortcomings(compare(upstream)))


def test_medians_too_far_apart_are_named() -> None:
    """More than half a millisecond, in either direction."""
    found = compare(GOOD)
    for ledger_ms in (6.9, 8.1):
        assert "off the hub's" in shortcomings(replace(found, ledger_ms=ledger_ms))[0]
