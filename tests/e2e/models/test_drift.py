"""Drift and the budget from the camera's twin to the message upstream, with real SDKs and processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inference.frames.budget import blocks
from tests.e2e.conftest import Edge
from tests.e2e.models.test_swap import patch, reported, ship
from tests.e2e.waiting import wait_until
from tests.unit.twinship.packaging import graphs
from twinship.packaging.choose import Options
from twinship.packaging.package import Request, package

pytestmark = pytest.mark.e2e


def bodies(edge: Edge, schema: str) -> list[dict[str, Any]]:
    """The messages upstream of this schema."""
    found = (json.loads(line)["Body"] for line in edge.upstream().splitlines())
    return [body for body in found if body.get("schema") == schema]


def events(edge: Edge) -> list[dict[str, Any]]:
    """The drift events upstream."""
    return [body for body in bodies(edge, "twinship.event.v1") if body["kind"] == "drift"]


@pytest.mark.long
def test_another_scene_is_found_and_said_upstream(edge: Edge, models: Path) -> None:
    """The model's own pictures raise no alarm; a camera that shows drawn digits instead does.

    With a budget: answers share messages, and the figures say how many were not sent and why.
    """
    telemetry = {"predictions": "all", "intervalSeconds": 1, "maxPerDay": 200, "blockBytes": 4096}
    patch(edge, "inference", {"telemetry": telemetry})
    edge.simulator.start_modules()
    assert ship(edge, models / "1.0.0" / "model.tflite").ok
    wait_until(lambda: bool(bodies(edge, "twinship.predictions.v1")), "answers that share a message")
    assert events(edge) == []
    patch(edge, "camera_sim", {"camera": {"source": "scene:"}})
    wait_until(lambda: bool(events(edge)), "the event")
    (event,) = events(edge)
    assert (event["state"], event["repeated"], event["model"]["version"]) == ("drift", False, "1.0.0")
    assert event["since_frame"]["camera"] == "camera"
    answers = bodies(edge, "twinship.predictions.v1")
    assert max(len(body["predictions"]) for body in answers) > 1
    assert all(blocks(len(json.dumps(body, separators=(",", ":"))), 4096) == 1 for body in answers)
    wait_until(lambda: reported(edge).get("drift", {}).get("state") == "drift", "the reported property")
    wait_until(lambda: reported(edge)["counters"]["suppressedBy"]["budget"] > 0, "frames without a message")


@pytest.mark.long
def test_a_packaged_detector_finds_another_scene(edge: Edge, models: Path, tmp_path: Path) -> None:
    """Its reference comes from pictures of the camera's folder; the dark scene is another one."""
    (tmp_path / "halves.tflite").write_bytes(graphs.ssd())
    options = Options(labels="left\nright\n", mean=(0,), std=(255,))
    frames = models / "1.0.0" / "frames"
    made = package(
        Request(tmp_path / "halves.tflite", tmp_path / "out", "halves", "1", options, drift=frames)
    )
    patch(edge, "inference", {"telemetry": {"predictions": "all", "intervalSeconds": 1}})
    edge.simulator.start_modules()
    assert ship(edge, made.out).ok
    wait_until(lambda: len(bodies(edge, "twinship.detection.v1")) >= 100, "answers to the known pictures")
    assert events(edge) == []
    patch(edge, "camera_sim", {"camera": {"source": "scene:", "scene": {"black": 0.9}}})
    wait_until(lambda: bool(events(edge)), "the event")
    assert (events(edge)[0]["state"], events(edge)[0]["model"]["name"]) == ("drift", "halves")
