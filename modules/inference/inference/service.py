"""The module put together: hub, delivery and frame path, the one worker, and when it tells what.

How a frame is answered is `frame_path`'s, which model answers is `delivery`'s.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from edgekit.clock import mono_ns
from edgekit.frame.message import Flow, Message
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from edgekit.settings import validate
from inference.benchmark import Benchmark, BenchmarkFailed, BenchmarkRequest
from inference.frames.frame_path import FramePath, Observe
from inference.frames.ledger import Published, Window, before_body
from inference.frames.prediction import json_message
from inference.frames.schedule import Schedule
from inference.frames.settings import InferenceSection, Settings, TelemetrySection
from inference.models.delivery import Delivery

log = logging.getLogger(__name__)

LATENCY_SCHEMA: Final = "twinship.latency.v1"
FLOW_INTERVAL_S: Final = 0.5
COUNTERS_INTERVAL_S: Final = 5.0
STOP_SHARES: Final = (0.1, 0.5, 0.1, 0.2, 0.05)
"""Of the time to stop: end the inputs, answer what waits, end the frame in hand, learn of the last PUBACKs,
end delivery."""

Report = Callable[[Mapping[str, Any]], None]


class Service:
    """The running module."""

    def __init__(
        self,
        connect: Callable[..., Hub],
        deliver: Callable[[Report], Delivery],
        *,
        observe: Observe = lambda done, publish: None,
    ) -> None:
        """`connect` as the class Hub; `deliver` makes the delivery that reports through it."""
        self.instance = secrets.token_hex(8)
        self.hub = connect(
            inputs={"frames": self._on_frame},
            on_twin=self._on_twin,
            methods={
                "status": self._status,
                "rollback": self._rollback,
                "reload": self._reload,
                "benchmark": self._measure,
            },
        )
        self.delivery = deliver(self.hub.report)
        self._benchmark = Benchmark()
        self.path: Final = FramePath(self.delivery, self.hub.send, instance=self.instance, observe=observe)
        self._worker = threading.Thread(target=self._work, name="frames", daemon=True)
        self._schedule = Schedule(flow_s=FLOW_INTERVAL_S, counters_s=COUNTERS_INTERVAL_S)
        self._reported: dict[str, Any] = {}  # counters, as the twin was last told
        self._latest = self.path.counters()  # as the last latency message told

    def start(self) -> None:
        """Load the last good model and answer frames; for run_module, before the hub connects."""
        self.delivery.start()
        self.hub.send("flow", Flow.fresh().to_message())
        self._schedule.start(mono_ns())
        self._worker.start()

    def stop(self, timeout_s: float) -> Mapping[str, int]:
        """Answer what waits, tell the last figures; returns what was left, by name. For run_module."""
        inputs_s, answering_s, in_hand_s, storing_s, delivery_s = (share * timeout_s for share in STOP_SHARES)
        delivery = threading.Thread(target=self.delivery.stop, name="delivery-stop", daemon=True)
        delivery.start()  # beside the rest: it may take a second, and who answers stays who answers
        self.hub.stop_inputs(inputs_s)  # a frame that comes after the last figures would be in no count
        self.path.close()
        self._worker.join(answering_s)
        unanswered = self.path.abandon()
        self._worker.join(in_hand_s)
        unstored = self.path.wait_stored(storing_s)
        self._tell_latency(mono_ns(), closing=True)
        self._tell_counters()
        delivery.join(delivery_s)
        return {"unanswered": unanswered, "in_hand": self.path.in_hand(), "unstored": unstored}

    # -- the worker: frames first, then whatever is due

    def _work(self) -> None:
        while True:
            arrival = self.path.next(self._schedule.next_due(self.path.has_flow))
            if arrival is not None:
                self.path.answer(arrival)
            elif self.path.closed:
                return
            try:
                self._tell_what_is_due()
            except Exception:  # figures are no reason for frames to go unanswered
                log.exception("figures could not be told")

    def _tell_what_is_due(self) -> None:
        now, due = mono_ns(), self._schedule
        if self.path.has_flow and (due.flow.take(now) or self.path.flow_presses):
            for flow in self.path.flows():
                self.hub.send("flow", flow.to_message())
        if due.latency.take(now) or self.path.window_full:
            self._tell_latency(now, closing=False)
        if due.counters.take(now):
            self._tell_counters()

    def _tell_latency(self, now: int, *, closing: bool) -> None:
        window, counters, told = self.path.cut(now)
        if not (closing or window.frames or told or counters != self._latest):
            return  # a free hub takes 8,000 messages a day: a camera that is away says nothing
        body = self._latency(window, counters, told, now) | {"closing": closing}
        if self.hub.send("latency", json_message(body)):
            self._latest = counters
        else:
            self.path.untell(told)

    def _latency(
        self, window: Window, counters: Mapping[str, Any], told: tuple[Published, ...], now: int
    ) -> dict[str, Any]:
        return {
            "schema": LATENCY_SCHEMA,
            "instance": self.instance,
            "window_s": (now - window.opened) / 1e9,
            "frames": window.frames,
            "stages_ms": window.stages_ms(),
            **counters,
            **before_body(told),
        }

    def _tell_counters(self) -> None:
        counters = self.path.counters()
        if counters != self._reported:
            self.hub.report({"counters": counters})
            self._reported = counters

    # -- the hub's threads

    def _on_frame(self, message: Message, arrived: int) -> None:
        self.path.receive(message, arrived)

    def _on_twin(self, twin: Twin) -> None:
        version = twin.desired.get("$version", 0)
        now = self.path.settings
        patch: dict[str, Any] = {}
        inference, answer = validate(twin.desired.get("inference"), InferenceSection, now.inference)
        patch |= answer.reported("inference", version)
        telemetry, answer = validate(twin.desired.get("telemetry"), TelemetrySection, now.telemetry)
        patch |= answer.reported("telemetry", version)
        self._schedule.latency.interval_s = telemetry.intervalSeconds
        self.delivery.limit_latency(inference.latencyBudgetMs)
        self.path.apply(Settings(inference, telemetry))
        # The twin is read at each connect, and says what it knows already.
        news = {name: section for name, section in patch.items() if twin.reported.get(name) != section}
        if news:
            self.hub.report(news)
        self.delivery.section(twin.desired.get("model"), version, twin.rung)

    def _status(self, _payload: Any) -> MethodAnswer:
        running = self.delivery.current
        model = {**running.ref.reported(), **running.engine.reported()} if running else None
        return MethodAnswer(
            200,
            {
                "state": "answering" if running else "no_model",
                "instance": self.instance,
                "model": model,
                "counters": self.path.counters(),
                "waiting": self.path.waiting(),
                "unsent": self.hub.unsent,
            },
        )

    def _rollback(self, _payload: Any) -> MethodAnswer:
        ref = self.delivery.rollback()
        if ref is None:
            return MethodAnswer(409, {"error": "there is no previous model to go back to"})
        return MethodAnswer(200, {"model": ref.reported()})

    def _reload(self, _payload: Any) -> MethodAnswer:
        if not self.delivery.reload():
            return MethodAnswer(409, {"error": "the twin names no model"})
        return MethodAnswer(200, {"reloading": True})

    def _measure(self, payload: Any) -> MethodAnswer:
        # The service SDK sends an empty text for no payload (ref 3).
        section = {} if payload in (None, "") else payload
        request, answer = validate(section, BenchmarkRequest, BenchmarkRequest())
        if not answer.accepted:
            return MethodAnswer(400, {"error": answer.ad})
        running = self.delivery.current
        if running is None:
            return MethodAnswer(409, {"error": "there is no model to measure"})
        file, engine = self.delivery.file_of(running), running.engine
        try:
            found = self._benchmark.run(file, running.ref, engine.runtime, request, engine.delegate)
        except BenchmarkFailed as error:
            return MethodAnswer(409, {"error": str(error)})
        return MethodAnswer(200, found)
