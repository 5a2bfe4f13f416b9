"""The state of drift: looks at one frame a second of each camera, and sends an event when the state changes.

The worker thread observes; the hub's threads configure, reset and read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.frame.message import Frame
from inference.drift.detector import Chart, Charts
from inference.drift.measures import of_frame
from inference.models.installer import Running

SAMPLE_NS: Final = 1_000_000_000
"""Consecutive frames are alike: of a fast camera one frame a second is looked at (docs/drift.md)."""

MAX_CAMERAS: Final = 64
FRAMES: Final = (
    100_000  # between false alarms, at least: 28 hours of a camera with one frame a second or more
)

NOT_AVAILABLE: Final = {"state": "not available"}  # no model, or one without a reference
OFF: Final = {"state": "off"}

OnEvent = Callable[[str, Mapping[str, Any]], None]


class Camera:
    """The sums of one run of a camera, and the chart that has alarmed."""

    def __init__(self, run: str, charts: Charts) -> None:
        self.run = run
        self.looked_at: int | None = None  # CLOCK_MONOTONIC ns
        self.sums: NDArray[np.float64] = np.zeros(len(charts.thresholds))
        # Of the first frame of each sum: seq, and when it was taken, ns since the epoch.
        self.seqs: NDArray[np.int64] = np.zeros(len(self.sums), np.int64)
        self.captured = self.seqs.copy()
        self.alarm: int | None = None  # the number of a chart
        self._charts = charts

    def observe(self, frame: Frame, found: Sequence[float]) -> bool:
        """Add the measures of a frame; return whether drift begins or ends with it."""
        begins = self.sums == 0
        np.copyto(self.seqs, frame.id.seq, where=begins)
        np.copyto(self.captured, frame.captured, where=begins)
        self.sums = self._charts.advance(self.sums, self._charts.gains(found))
        before = self.alarm
        if before is None:
            worst = int(self.sums.argmax())
            self.alarm = worst if self.sums[worst] >= 1 else None
        elif self.sums[before] == 0:  # as in the reference again
            self.alarm = None
        return self.alarm != before

    def body(self, frame: Frame) -> dict[str, Any]:
        """Return the state, as the event, the twin and the method `status` have it."""
        if self.alarm is None:
            return {"state": "none", "camera": frame.id.camera}
        chart: Chart = self._charts.charts[self.alarm]
        threshold = float(self._charts.thresholds[self.alarm])
        return {
            "state": "drift",
            "camera": frame.id.camera,
            "detector": "cusum",
            "measure": chart.measure,
            "direction": chart.direction,
            "value": round(float(self.sums[self.alarm]) * threshold, 3),
            "threshold": round(threshold, 3),
            "since_frame": {"camera": frame.id.camera, "run": self.run, "seq": int(self.seqs[self.alarm])},
            # A twin refuses integers of more than 52 bits.
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.captured[self.alarm] // 10**9)),
        }


class Drift:
    """Watches the frames of all cameras for the model that serves."""

    def __init__(
        self,
        on_event: OnEvent = lambda kind, body: None,
        on_status: Callable[[Mapping[str, Any]], None] = lambda status: None,
    ) -> None:
        """`on_event` gets "drift" and the state when drift begins or ends, `on_status` each state."""
        self._on_event = on_event
        self._on_status = on_status
        self._frames = FRAMES
        self._charts: Charts | None = None
        self._model: Running | None = None
        self._cameras: dict[str, Camera] = {}
        self._begin_anew = True
        self.status: Mapping[str, Any] = NOT_AVAILABLE

    def configure(self, frames: int) -> None:
        """Set the mean number of frames to a false alarm, 0 for no detection; another one begins anew."""
        if frames != self._frames:
            self._frames = frames
            self.reset()

    def reset(self) -> None:
        """Begin anew with the next frame."""
        self._begin_anew = True

    def observe(
        self, frame: Frame, running: Running, pixels: NDArray[np.uint8], answer: NDArray[np.float32], now: int
    ) -> None:
        """Look at an answered frame; `now` is CLOCK_MONOTONIC ns."""
        if self._begin_anew or running is not self._model:
            self._begin(running)
        if self._charts is None:
            return
        camera = self._cameras.get(frame.id.camera)
        if camera is None or camera.run != frame.id.run:
            camera = self._add(frame, self._charts)
        if camera is None or (camera.looked_at is not None and now - camera.looked_at < SAMPLE_NS):
            return
        camera.looked_at = now
        if camera.observe(frame, of_frame(running.manifest.task, pixels, answer)):
            self._change(camera.body(frame))

    def ratios(self) -> dict[tuple[str, str], float]:
        """Camera and measure → the largest sum of its charts, in thresholds; from 1 on there is drift."""
        charts, found = self._charts, dict[tuple[str, str], float]()
        if charts is None:
            return found
        for name, camera in list(self._cameras.items()):
            for chart, ratio in zip(charts.charts, camera.sums, strict=True):
                found[name, chart.measure] = max(found.get((name, chart.measure), 0.0), float(ratio))
        return found

    def _begin(self, running: Running) -> None:
        self._begin_anew, self._model, self._cameras, self._charts = False, running, {}, None
        manifest = running.manifest
        if manifest.reference is None:
            self._change(NOT_AVAILABLE)
        elif not self._frames:
            self._change(OFF)
        else:
            self._charts = Charts(manifest.task, manifest.reference, running.engine.labels, self._frames)
            self._change({"state": "none"})

    def _add(self, frame: Frame, charts: Charts) -> Camera | None:
        before = self._cameras.get(frame.id.camera)
        if before is None and len(self._cameras) >= MAX_CAMERAS:
            return None
        camera = self._cameras[frame.id.camera] = Camera(frame.id.run, charts)
        if before is not None and before.alarm is not None:
            self._change(camera.body(frame))
        return camera

    def _change(self, state: Mapping[str, Any]) -> None:
        before, model = self.status, self._model.ref if self._model else None
        if model is not None and state not in (NOT_AVAILABLE, OFF):
            named = {"name": model.name, "version": model.version, "sha256": model.sha256}
            state = {**state, "model": named}
        self.status = state
        if state != before:
            self._on_status({**dict.fromkeys(before), **state})  # null removes a field from the twin
        if "drift" in (before["state"], state["state"]):
            self._on_event("drift", state)
