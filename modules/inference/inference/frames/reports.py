"""Sends what the module reports beside predictions: flow, latency, repeated events, counters in the twin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from edgekit.clock import mono_ns
from edgekit.events import Events
from edgekit.frame.message import Flow
from edgekit.hub.connection import Hub
from inference.frames.budget import MAX_LATENCY_BYTES, Budget, Use
from inference.frames.frame_path import FramePath
from inference.frames.in_hand import LOST_AFTER_S, InHand, Stream
from inference.frames.ledger import MAX_PUBLISH_TIMES, PublishTime, Window, publish_times_body
from inference.frames.outcomes import counters_body
from inference.frames.prediction import counted_bytes, json_message
from inference.frames.publisher import Publisher
from inference.frames.schedule import Schedule

LATENCY_SCHEMA: Final = "twinship.latency.v1"
FLOW_INTERVAL_S: Final = 0.5
COUNTERS_INTERVAL_S: Final = 5.0
MAX_RANGES: Final = 4_096  # of lost frames in one message: at most 200 KB


class Reports:
    """Sends each report when it is due. The worker thread calls it between two messages."""

    def __init__(
        self,
        hub: Hub,
        path: FramePath,
        publisher: Publisher,
        instance: str,
        in_hand: InHand,
        events: Events,
        budget: Budget | None = None,
    ) -> None:
        self.schedule: Final = Schedule(flow_s=FLOW_INTERVAL_S, counters_s=COUNTERS_INTERVAL_S)
        self._hub = hub
        self._path = path
        self._publisher = publisher
        self._instance = instance
        self._reported: dict[str, Any] = {}  # the counters in the twin
        self._published = path.counters()  # the counters in the last latency message
        self._in_hand = in_hand
        self._events = events
        self._budget = budget or Budget()
        self._lost_due = 0  # when the frames that are not delivered again are lost, CLOCK_MONOTONIC ns
        self._lost: list[tuple[Stream, tuple[int, int]]] = []  # first and last seq; not in a message yet

    def start(self) -> None:
        """Tell every camera that no earlier frame is under way, and start the intervals.

        An ended process that sent no closing message gets it now, with its last counters.
        """
        self._hub.send("flow", Flow.fresh().to_message())
        for instance, counters in self._in_hand.ended():
            self._send_last_counters(instance, counters_body(counters))
        self.schedule.start(mono_ns())
        self._lost_due = mono_ns() + int(LOST_AFTER_S * 1e9)

    def next_due(self) -> int:
        """Return the time of the next report, CLOCK_MONOTONIC ns."""
        due, waiting = self.schedule.next_due(self._path.has_flow), self._publisher.flush_due
        return due if waiting is None else min(due, waiting)

    def send_due(self) -> None:
        """Send what is due now."""
        now, schedule = mono_ns(), self.schedule
        self._path.flush(now)
        if self._path.has_flow and (schedule.flow.take(now) or self._path.flow_is_due_early):
            for flow in self._path.flows():
                self._hub.send("flow", flow.to_message())
        if self._lost_due and now >= self._lost_due:
            self._lost_due = 0
            for stream, seqs in self._path.count_lost():
                self._lost += [(stream, each) for each in ranges(seqs)]
        if schedule.latency.take(now) or self._publisher.window_full:
            self.publish_latency(now, closing=False)
        if schedule.counters.take(now):
            self.report_counters()
        self._events.repeat(now_ns=now)

    def publish_latency(self, now: int, *, closing: bool) -> None:
        """Send the latency message; without news since the last one only the closing message is sent.

        A free IoT Hub accepts 8,000 messages a day, so an idle module sends none. With a budget, it is
        left out if there is no room for it, and carries less; its figures then come with the next one.
        """
        few = self._budget.limited and not closing
        blocks = self._budget.blocks(MAX_LATENCY_BYTES)
        if not (closing or self._budget.affords(Use.LATENCY, blocks, now)):
            if self._publisher.window_full:  # its figures are in no message; the counters go on
                self._publisher.requeue(self._publisher.close_window(now)[1])
            return
        window, publish_times = self._publisher.close_window(now, 4 if few else MAX_PUBLISH_TIMES)
        counters = self._path.counters()
        lost = self._lost[: 8 if few else MAX_RANGES]
        if not (closing or window.frames or publish_times or lost or counters != self._published):
            return
        body = self._latency(window, counters, publish_times, now) | {"closing": closing}
        if lost:
            body["lost_frames"] = [
                {"camera": camera, "run": run, "first": first, "last": last}
                for (camera, run), (first, last) in lost
            ]
        on_stored = (lambda _puback: self._in_hand.sent(self._instance)) if closing else None
        if self._send_latency(body, now, on_stored):
            self._published = counters
            del self._lost[: len(lost)]
        else:
            self._publisher.requeue(publish_times)

    def report_counters(self) -> None:
        """Report the counters to the twin if they changed."""
        counters = self._path.counters()
        if counters != self._reported:
            self._hub.report({"counters": counters})
            self._reported = counters

    def _send_last_counters(self, instance: str, counters: Mapping[str, Any]) -> None:
        body = {
            "schema": LATENCY_SCHEMA,
            "instance": instance,
            "window_s": 0.0,
            "frames": 0,
            "stages_ms": {},
            **counters,
            "before": None,
            "closing": True,
        }
        self._send_latency(body, mono_ns(), lambda _puback: self._in_hand.sent(instance))

    def _send_latency(self, body: dict[str, Any], now: int, on_stored: Callable[[int], None] | None) -> bool:
        message = json_message(body)
        self._budget.charge(self._budget.blocks(counted_bytes(message)), now)
        return self._hub.send("latency", message, on_stored)

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


def ranges(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as first and last of each range without a gap.

    >>> ranges([3, 4, 5, 9])
    [(3, 5), (9, 9)]
    """
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and seq == found[-1][1] + 1:
            found[-1] = found[-1][0], seq
        else:
            found.append((seq, seq))
    return found
