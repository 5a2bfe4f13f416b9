"""Sends what the module reports beside predictions: flow, the latency message, the counters in the twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from edgekit.clock import mono_ns
from edgekit.frame.message import Flow
from edgekit.hub.connection import Hub
from inference.frames.frame_path import FramePath
from inference.frames.ledger import PublishTime, Window, publish_times_body
from inference.frames.prediction import json_message
from inference.frames.publisher import Publisher
from inference.frames.schedule import Schedule

LATENCY_SCHEMA: Final = "twinship.latency.v1"
FLOW_INTERVAL_S: Final = 0.5
COUNTERS_INTERVAL_S: Final = 5.0


class Reports:
    """Sends each report when it is due. The worker thread calls it between two messages."""

    def __init__(self, hub: Hub, path: FramePath, publisher: Publisher, instance: str) -> None:
        self.schedule: Final = Schedule(flow_s=FLOW_INTERVAL_S, counters_s=COUNTERS_INTERVAL_S)
        self._hub = hub
        self._path = path
        self._publisher = publisher
        self._instance = instance
        self._reported: dict[str, Any] = {}  # the counters in the twin
        self._published = path.counters()  # the counters in the last latency message

    def start(self) -> None:
        """Tell every camera that no earlier frame is under way, and start the intervals."""
        self._hub.send("flow", Flow.fresh().to_message())
        self.schedule.start(mono_ns())

    def next_due(self) -> int:
        """Return the time of the next report, CLOCK_MONOTONIC ns."""
        return self.schedule.next_due(self._path.has_flow)

    def send_due(self) -> None:
        """Send the reports that are due now."""
        now, schedule = mono_ns(), self.schedule
        if self._path.has_flow and (schedule.flow.take(now) or self._path.flow_is_due_early):
            for flow in self._path.flows():
                self._hub.send("flow", flow.to_message())
        if schedule.latency.take(now) or self._publisher.window_full:
            self.publish_latency(now, closing=False)
        if schedule.counters.take(now):
            self.report_counters()

    def publish_latency(self, now: int, *, closing: bool) -> None:
        """Send the latency message; without news since the last one only the closing message is sent.

        A free IoT Hub accepts 8,000 messages a day, so an idle module sends none.
        """
        window, publish_times = self._publisher.close_window(now)
        counters = self._path.counters()
        if not (closing or window.frames or publish_times or counters != self._published):
            return
        body = self._latency(window, counters, publish_times, now) | {"closing": closing}
        if self._hub.send("latency", json_message(body)):
            self._published = counters
        else:
            self._publisher.requeue(publish_times)

    def report_counters(self) -> None:
        """Report the counters to the twin if they changed."""
        counters = self._path.counters()
        if counters != self._reported:
            self._hub.report({"counters": counters})
            self._reported = counters

    def _latency(
        self, window: Window, counters: Mapping[str, Any], publish_times: tuple[PublishTime, ...], now: int
    ) -> dict[str, Any]:
        return {
            "schema": LATENCY_SCHEMA,
            "instance": self._instance,
            "window_s": (now - window.opened) / 1e9,
            "frames": window.frames,
            "stages_ms": window.stages_ms(),
            **counters,
            **publish_times_body(publish_times),
        }
