"""Batches from the camera through the hub to inference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Edge
from tests.e2e.models.test_swap import patch, ship
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

FRAMES, BATCH = 40, 8


def batches(edge: Edge) -> list[dict[str, Any]]:
    """The bodies of the messages that answer a batch."""
    bodies = [json.loads(line)["Body"] for line in edge.upstream().splitlines()]
    return [body for body in bodies if body.get("schema") == "twinship.predictions.v1"]


def test_each_frame_of_a_batch_is_answered_once(edge: Edge, models: Path) -> None:
    """The twin sets the batch size; each batch gets one message upstream, and no frame is dropped."""
    patch(edge, "inference", {"telemetry": {"predictions": "all"}, "inference": {"overload": "all"}})
    patch(edge, "camera_sim", {"camera": {"paused": True}})
    edge.simulator.start_modules()
    assert ship(edge, models / "1.0.0" / "model.tflite").ok
    patch(edge, "camera_sim", {"camera": {"paused": False, "fps": 200, "batch": BATCH, "frames": FRAMES}})
    wait_until(lambda: len(batches(edge)) >= FRAMES // BATCH, "an answer to each batch")
    edge.simulator.stop_modules()
    answered = [[each["frame"]["seq"] for each in body["predictions"]] for body in batches(edge)]
    assert answered == [list(range(first, first + BATCH)) for first in range(0, FRAMES, BATCH)]
    closing = [json.loads(line)["Body"] for line in edge.upstream().splitlines()][-1]
    assert closing["answered"] == FRAMES
    assert not any(closing["dropped"].values())
