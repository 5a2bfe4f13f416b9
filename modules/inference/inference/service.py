"""Connects the hub, the model reconciler and the frame path, and runs the worker thread."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from edgekit.clock import mono_ns
from edgekit.events import Events
from edgekit.frame.message import Message
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from edgekit.settings import validate
from inference.benchmark import Benchmark, BenchmarkFailed, BenchmarkRequest
from inference.drift.state import NOT_AVAILABLE, Drift
from inference.frames.budget import Budget
from inference.frames.frame_path import FramePath
from inference.frames.in_hand import SIZE, InHand
from inference.frames.prediction import counted_bytes
from inference.frames.publisher import Observe, Publisher
from inference.frames.reports import Reports
from inference.frames.settings import InferenceSection, Settings, TelemetrySection
from inference.models.reconciler import Reconciler
from inference.models.status import model_event
from inference.watchdog import Watchdog

log = logging.getLogger(__name__)

STOP_SHARES: Final = (0.1, 0.5, 0.1, 0.2, 0.05)
"""Fractions of the stop time-out: stop the inputs, answer the waiting frames, finish the frame in hand, wait
for PUBACKs, stop the reconciler."""

ROLLBACK_FRAME_S: Final = 2.0
"""How long method `rollback` waits for a frame that the previous model answers."""

FIRST_TWIN_S: Final = 2.0
"""How long the first frame of a process waits for the settings in the twin."""

Report = Callable[[Mapping[str, Any]], None]


class Service:
    """The inference module: owns its parts, applies the twin and answers direct methods."""

    def __init__(
        self,
        connect: Callable[..., Hub],
        create_reconciler: Callable[[Report], Reconciler],
        *,
        observe: Observe = lambda times, publish_ns: None,
        health_file: Path | None = None,
        open_in_hand: Callable[[str], InHand] = lambda instance: InHand(bytearray(SIZE), instance),
    ) -> None:
        """`connect` is the class Hub; the reconciler reports through the argument of `create_reconciler`.

        `health_file` is touched twice a second as long as nothing is stuck. `open_in_hand` gets the id of
        this process and opens the marks of its frames.
        """
        self.instance = secrets.token_hex(8)
        self.hub = connect(
            inputs={"frames": self._on_frame},
            on_twin=self._on_twin,
            methods={
                "status": self._status,
                "rollback": self._rollback,
                "reload": self._reload,
                "benchmark": self._run_benchmark,
            },
        )
        self._budget: Final = Budget()
        self.events: Final = Events(self._send_event)
        self.reconciler = create_reconciler(self._on_model_status)
        self._benchmark = Benchmark()
        self.drift: Final = Drift(
            lambda kind, body: self.events.changed(kind, body, now_ns=mono_ns()),
            lambda status: self.hub.report({"drift": status}),
        )
        in_hand = open_in_hand(self.instance)
        self._publisher: Final = Publisher(
            self.hub.send,
            instance=self.instance,
            observe=observe,
            finish=in_hand.finish,
            budget=self._budget,
        )
        self._watchdog: Final = Watchdog(
            self.reconciler.mark,
            budget_ms=self.reconciler.latency_budget_ms,
            loading=lambda: self.reconciler.loading,
            on_stuck=self._on_stuck,
            health_file=health_file,
        )
        self.path: Final = FramePath(self.reconciler, self._publisher, self._watchdog, in_hand, self.drift)
        self.reports: Final = Reports(
            self.hub, self.path, self._publisher, self.instance, in_hand, self.events, self._budget
        )
        self._configured = threading.Event()  # the twin was read, or the module stops
        self._worker = threading.Thread(target=self._work, name="frames", daemon=True)

    def start(self) -> None:
        """Load the last good model and answer frames; for run_module, before the hub connects."""
        self._watchdog.start()
        self.reconciler.start()
        self.reports.start()
        self._worker.start()

    def stop(self, timeout_s: float) -> Mapping[str, int]:
        """Answer the waiting frames and send the last reports; for run_module.

        Returns the numbers of frames that stayed unanswered, in hand, and without a PUBACK.
        """
        inputs_s, answering_s, in_hand_s, storing_s, models_s = (share * timeout_s for share in STOP_SHARES)
        # Runs in parallel, because it may take a second; it does not change the serving model.
        stopping = threading.Thread(target=self.reconciler.stop, name="models-stop", daemon=True)
        stopping.start()
        self._configured.set()
        self.hub.stop_inputs(inputs_s)  # the closing figures would miss a frame that arrives after them
        self.path.close()
        self._worker.join(answering_s)
        unanswered = self.path.abandon()
        self._worker.join(in_hand_s)
        unstored = self._publisher.wait_stored(storing_s)
        self.reports.publish_latency(mono_ns(), closing=True)
        self.reports.report_counters()
        stopping.join(models_s)
        return {"unanswered": unanswered, "in_hand": self.path.in_hand(), "unstored": unstored}

    def _work(self) -> None:
        """The worker thread: frames first, then the reports that are due."""
        while True:
            arrival = self.path.next(self.reports.next_due())
            if arrival is not None:
                # With the default settings the first predictions of a process might not be sent.
                self._configured.wait(FIRST_TWIN_S)
                self._configured.set()
                self.path.answer(arrival)
            elif self.path.closed:
                self.path.flush()
                return
            try:
                self.reports.send_due()
            except Exception:  # a failed report must not stop the frames
                log.exception("a report could not be sent")

    def _send_event(self, output: str, message: Message) -> bool:
        """Send an event; one that is no repeat goes upstream whatever the budget has left."""
        if message.properties["repeated"] == "false":
            self._budget.charge(self._budget.blocks(counted_bytes(message)), mono_ns())
        return self.hub.send(output, message)

    def _on_stuck(self, reason: str) -> None:
        """Let run_module end the process with EXIT_STUCK; edgeAgent starts the next one."""
        log.error("stuck: %s", reason)
        self.hub.stuck_reason = reason
        self.hub.stuck.set()

    def _on_model_status(self, patch: Mapping[str, Any]) -> None:
        """On the reconciler's thread: report to the twin, and send the event `model`."""
        self.hub.report(patch)
        self.events.changed("model", model_event(patch), now_ns=mono_ns())

    # -- called by the hub's threads

    def _on_frame(self, message: Message, arrived: int) -> None:
        self.path.receive(message, arrived)

    def _on_twin(self, twin: Twin) -> None:
        version = twin.desired.get("$version", 0)
        current = self.path.settings
        patch: dict[str, Any] = {}
        inference, answer = validate(twin.desired.get("inference"), InferenceSection, current.inference)
        patch |= answer.reported("inference", version)
        telemetry, answer = validate(twin.desired.get("telemetry"), TelemetrySection, current.telemetry)
        patch |= answer.reported("telemetry", version)
        self._budget.configure(telemetry.maxPerDay, telemetry.blockBytes, mono_ns())
        interval_s = self._budget.latency_interval_s(telemetry.intervalSeconds)
        self.reports.schedule.latency.interval_s = interval_s
        self.drift.configure(inference.drift.framesBetweenFalseAlarms)
        self.reconciler.limit_latency(inference.latencyBudgetMs)
        self.path.apply(Settings(inference, telemetry))
        self._configured.set()
        # The module reads the twin at each connect; it reports only what the twin does not hold yet.
        changed = {name: section for name, section in patch.items() if twin.reported.get(name) != section}
        if (before := twin.reported.get("drift", NOT_AVAILABLE)) != self.drift.status:
            changed["drift"] = {**dict.fromkeys(before), **self.drift.status}  # of the process before
        if changed:
            self.hub.report(changed)
        self.reconciler.section(twin.desired.get("model"), version, twin.notified_ns)

    def _status(self, _payload: Any) -> MethodAnswer:
        running = self.reconciler.current
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
                "drift": self.drift.status,
            },
        )

    def _rollback(self, _payload: Any) -> MethodAnswer:
        ref = self.reconciler.rollback()
        if ref is None:
            return MethodAnswer(409, {"error": "there is no previous model to go back to"})
        received = self.path.received()
        answered = self.reconciler.wait_answered(ref, ROLLBACK_FRAME_S)
        body: dict[str, Any] = {"model": ref.reported(), "answered": answered}
        if not answered:
            body["notSeen"] = self._not_seen(self.path.received() - received)
        return MethodAnswer(200, body)

    def _not_seen(self, received: int) -> str:
        """Why no answered frame was seen after a rollback."""
        if self._watchdog.in_hand_s >= ROLLBACK_FRAME_S / 2:
            return f"a frame has been in hand for {self._watchdog.in_hand_s:.1f} s, so no other was answered"
        if received:
            return f"{received} frames came within {ROLLBACK_FRAME_S:g} s, and none was answered"
        return f"no frame came within {ROLLBACK_FRAME_S:g} s"

    def _reload(self, _payload: Any) -> MethodAnswer:
        if not self.reconciler.reload():
            return MethodAnswer(409, {"error": "the twin names no model"})
        self.drift.reset()
        return MethodAnswer(200, {"reloading": True})

    def _run_benchmark(self, payload: Any) -> MethodAnswer:
        # The service SDK sends an empty text for no payload (ref 3).
        section = {} if payload in (None, "") else payload
        request, answer = validate(section, BenchmarkRequest, BenchmarkRequest())
        if not answer.accepted:
            return MethodAnswer(400, {"error": answer.ad})
        running = self.reconciler.current
        if running is None:
            return MethodAnswer(409, {"error": "there is no model to measure"})
        file, engine = self.reconciler.file_of(running), running.engine
        try:
            result = self._benchmark.run(file, running.ref, engine.runtime, request, engine.delegate)
        except BenchmarkFailed as error:
            return MethodAnswer(409, {"error": str(error)})
        return MethodAnswer(200, result)
