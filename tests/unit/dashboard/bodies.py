"""Message bodies as inference sends them."""

from __future__ import annotations

import json
from typing import Any

STAGES = {
    "encode": 0.1,
    "transit": 5.0,
    "queue": 0.2,
    "preprocess": 0.3,
    "invoke": 1.0,
    "postprocess": 0.1,
}


def prediction(seq: int = 0, label: str = "cat", *, version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    """The answer of a classifier; `more` replaces or adds fields."""
    return {
        "schema": "twinship.prediction.v1",
        "instance": "a",
        "frame": {"camera": "door", "run": "0123456789abcdef", "seq": seq},
        "captured": 1_700_000_000_000_000_000,
        "model": {"name": "pets", "version": version, "sha256": version * 8, "weights": "w"},
        "top": [{"label": label, "confidence": 0.9}, {"label": "dog", "confidence": 0.1}],
        "stages_ms": STAGES,
        "clock": "monotonic",
        "before": None,
        **more,
    }


def detection(seq: int = 0) -> dict[str, Any]:
    """The answer of a detector that found two objects."""
    body = prediction(seq) | {"schema": "twinship.detection.v1"}
    del body["top"]
    box = {"l": 0.1, "t": 0.2, "w": 0.3, "h": 0.4}
    found = [{"label": "cat", "confidence": 0.8, "box": box}, {"label": "cat", "confidence": 0.7, "box": box}]
    return body | {"detections": found}


def latency(**more: Any) -> dict[str, Any]:
    """A latency message of a window with 100 frames."""
    stages = {name: {"count": 100, "p50": ms, "p90": ms, "p95": ms, "p99": 9 * ms, "max": 10 * ms}
              for name, ms in (STAGES | {"publish": 3.0, "total": 9.7}).items()}  # fmt: skip
    return {
        "schema": "twinship.latency.v1",
        "instance": "a",
        "window_s": 10.0,
        "frames": 100,
        "stages_ms": stages,
        "answered": 100,
        "suppressed": 0,
        "suppressedBy": {"off": 0, "unchanged": 0, "certain": 0, "budget": 0},
        "repeats": 0,
        "bad_clock": 0,
        "dropped": dict.fromkeys(("overload", "bad_frame", "no_model", "outbox", "engine", "stopped"), 0),
        "before": None,
        "closing": False,
        **more,
    }


def body(message: dict[str, Any]) -> bytes:
    """The message on the wire."""
    return json.dumps(message).encode()


JPEG = b"\xff\xd8\xff" + bytes(100)


def event(kind: str, state: str, at_s: int = 0, **more: Any) -> dict[str, Any]:
    """An event as `edgekit.events` sends it."""
    head = {"schema": "twinship.event.v1", "kind": kind, "repeated": False}
    return {**head, "at_ns": 1_700_000_000_000_000_000 + at_s * 10**9, "state": state, **more}


def model_event(state: str, at_s: int = 0, version: str = "1.0.0", **more: Any) -> dict[str, Any]:
    """The event `model` of inference."""
    named = {"name": "pets", "version": version, "sha256": version * 8}
    body = event("model", state, at_s, **named, reason=None, active=None, previous=None)
    return body | more


def camera_event(state: str, at_s: int = 0, **more: Any) -> dict[str, Any]:
    """The event `camera` of camera_sim."""
    facts = {"camera": "door", "run": "0123456789abcdef", "reason": None, "source": "scene 7", "lost": 0}
    return event("camera", state, at_s, **facts, since="2026-11-28T10:12:05Z") | more


def preview_properties(seq: int = 0, **more: str) -> dict[str, str]:
    """The properties of a preview of the frame that `prediction(seq)` answers."""
    return {"camera": "door", "run": "0123456789abcdef", "seq": str(seq), **more}
