"""Frames that a test sends in place of the camera, through the real SDK: valid and invalid ones."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekit.clock import boot_id
from edgekit.frame.message import Frame, FrameId, Message
from edgekit.hub.connection import Hub
from tests.e2e.conftest import Edge
from tests.e2e.models.test_swap import answers, patch, ship
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e

RUN = "00000000000000e2"


def frame(seq: int, image: bytes, content_type: str = "image/png") -> Message:
    """A frame message in the camera's format."""
    now = time.monotonic_ns()
    return Frame(
        FrameId("camera", RUN, seq),
        image,
        content_type,
        width=28,
        height=28,
        channels=1,
        captured=time.time_ns(),
        mono=now,
        encoded=now,
        boot=boot_id(),
    ).to_message()


@contextmanager
def camera(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A connection with the camera's identity, in this process."""
    for name, value in edge.simulator.module_environment("camera_sim").items():
        monkeypatch.setenv(name, value)
    hub = Hub(inputs={}, on_twin=lambda twin: None)
    hub.start()
    try:
        yield hub
    finally:
        hub.close(5.0)


@pytest.mark.parametrize("edge", [("camera_sim",)], indirect=True)
def test_an_invalid_frame_is_counted_and_the_next_is_answered(
    edge: Edge, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No message on an input can stop the module; each invalid frame is counted as `bad_frame`."""
    patch(
        edge,
        "inference",
        {"telemetry": {"predictions": "all", "intervalSeconds": 1}, "inference": {"overload": "all"}},
    )
    edge.simulator.start_modules()
    assert ship(edge, models / "1.0.0" / "model.tflite").ok
    image = next((models / "1.0.0" / "frames").glob("*.png")).read_bytes()
    with camera(edge, monkeypatch) as hub:
        for message in (
            frame(0, image),
            frame(1, b"not a picture"),
            frame(2, image[: len(image) // 2]),
            Message(image, {}, message_id="no-properties", content_type="image/png"),
            frame(3, b"", "application/octet-stream"),
            frame(4, image),
        ):
            assert hub.send("frames", message)
        wait_until(lambda: {a["frame"]["seq"] for a in answers(edge)} == {0, 4}, "answers to the good frames")
    wait_until(lambda: dropped(edge).get("bad_frame") == 4, "four bad frames in the counters")
    assert edge.simulator.states()["inference"].restart_count == 0


def dropped(edge: Edge) -> dict[str, Any]:
    """The drop counters of the newest latency message."""
    bodies = [json.loads(line)["Body"] for line in edge.upstream().splitlines()]
    latest = [body for body in bodies if body.get("schema") == "twinship.latency.v1"]
    return dict(latest[-1]["dropped"]) if latest else {}
