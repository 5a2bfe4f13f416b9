"""The whole module with its threads: start, twin, reports, direct methods, stop."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.clock import mono_ns
from edgekit.frame.message import Flow, Message
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from inference.frames import reports
from inference.frames.frame_path import FLOW_FRAMES
from inference.frames.outcomes import DROPS
from inference.frames.reports import FLOW_INTERVAL_S
from inference.model_section import ModelState
from inference.models.reconciler import Reconciler
from inference.models.status import State
from inference.service import Report, Service
from tests.unit.inference.fixtures.doubles import (
    RUN,
    WAIT_S,
    FakeEngine,
    FakeHub,
    FakeReconciler,
    brightest_band,
    frame,
    running,
)

SEND_ALL = {"telemetry": {"intervalSeconds": 1, "predictions": "all"}, "inference": {"overload": "all"}}


class Module:
    """A service between a fake hub and a fake reconciler."""

    def __init__(self) -> None:
        self.hub = FakeHub()
        self.reconciler = FakeReconciler(current=running())
        self.service = Service(self._connect, self._create_reconciler)

    def _connect(
        self,
        *,
        inputs: Mapping[str, Callable[[Message, int], None]],
        on_twin: Callable[[Twin], None],
        methods: Mapping[str, Callable[[Any], MethodAnswer]],
    ) -> Hub:
        self.hub.inputs, self.hub.on_twin, self.hub.methods = inputs, on_twin, methods
        return self.hub.as_hub()

    def _create_reconciler(self, report: Report) -> Reconciler:
        self.report = report
        return self.reconciler.as_reconciler()

    def twin(
        self, desired: Mapping[str, Any], *, version: int = 1, reported: Mapping[str, Any] | None = None
    ) -> None:
        self.hub.on_twin(Twin({**desired, "$version": version}, reported or {}))

    def send(self, *seqs: int) -> None:
        for seq in seqs:
            self.hub.inputs["frames"](frame(seq, place=seq % 3).to_message(), mono_ns())

    def wait_answered(self, count: int) -> None:
        self.hub.wait_for(lambda: len(self.hub.of("predictions")) >= count)

    def reported(self, section: str) -> list[Any]:
        return [patch[section] for patch in self.hub.reports if section in patch]


@pytest.fixture
def module() -> Iterator[Module]:
    made = Module()
    yield made
    made.service.path.close()
    made.service.path.abandon()


@pytest.fixture
def started(module: Module) -> Module:
    module.twin(SEND_ALL)
    module.service.start()
    return module


def test_the_first_message_after_start_is_flow_for_every_camera(started: Module) -> None:
    """It says that no frame sent to the previous process is under way."""
    first = started.hub.sent[0]
    assert first.output == "flow"
    assert Flow.from_message(first.message).is_fresh
    assert started.reconciler.started


def test_the_worker_thread_answers_the_frames(started: Module) -> None:
    """The handler threads of the SDK only queue frames."""
    threads: list[str] = []

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        threads.append(threading.current_thread().name)
        return brightest_band(pixels)

    started.reconciler.current = running(FakeEngine(infer))
    started.send(0, 1, 2)
    started.wait_answered(3)
    assert [body["frame"]["seq"] for body in started.hub.of("predictions")] == [0, 1, 2]
    assert set(threads) == {"frames"}
    assert {body["instance"] for body in started.hub.of("predictions")} == {started.service.instance}


def test_the_first_frames_wait_for_the_twin(module: Module) -> None:
    """With the default settings their predictions might not be sent, although the twin asks for them."""
    settings: list[str] = []

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        settings.append(module.service.path.settings.telemetry.predictions)
        return brightest_band(pixels)

    module.reconciler.current = running(FakeEngine(infer))
    module.service.start()
    module.send(0)
    while module.service.path.waiting():  # until the worker has it
        time.sleep(0.001)
    module.twin(SEND_ALL)
    module.send(1)
    module.wait_answered(2)
    assert settings == ["all", "all"]


def test_frames_are_answered_if_the_twin_does_not_come(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After FIRST_TWIN_S the default settings apply."""
    monkeypatch.setattr("inference.service.FIRST_TWIN_S", 0.01)
    module.service.start()
    module.send(0, 1)
    module.hub.wait_for(lambda: module.service.path.counters()["answered"] == 2)


def test_flow_reports_finished_frames(started: Module) -> None:
    """Flow is sent twice a second and after FLOW_FRAMES frames; the last frame needs no successor."""
    start = mono_ns()
    started.send(*range(20))
    started.wait_answered(20)
    started.hub.wait_for(lambda: {"camera": "camera", "run": RUN, "seq": 19} in started.hub.of("flow"))
    most = (
        2 + 20 // FLOW_FRAMES + (mono_ns() - start) / (FLOW_INTERVAL_S * 1e9)
    )  # 1 of them is the first after the start
    assert len(started.hub.of("flow")) <= most


def test_the_latency_message_is_sent_each_interval(started: Module) -> None:
    """It holds the window, the percentiles of the stages and the counters."""
    started.send(0, 1, 2)
    started.hub.wait_for(lambda: sum(body["frames"] for body in started.hub.of("latency")) == 3)
    body = started.hub.of("latency")[-1]
    assert body["schema"] == "twinship.latency.v1"
    assert body["closing"] is False
    assert (body["answered"], body["suppressed"], body["repeats"]) == (3, 0, 0)
    assert list(body["dropped"]) == list(DROPS)
    assert set(body["stages_ms"]["total"]) == {"count", "p50", "p90", "p95", "p99", "max"}
    assert 0.5 < body["window_s"] < 5


def test_a_window_without_frames_is_not_sent(started: Module) -> None:
    """A free IoT Hub accepts 8,000 messages a day: without frames there is no message."""
    started.service.reports.publish_latency(mono_ns(), closing=False)
    assert started.hub.of("latency") == []


def test_counters_are_reported_if_they_changed(started: Module) -> None:
    """The twin gets the same counters as the messages, and the same values only once."""
    started.send(0)
    started.wait_answered(1)
    started.service.reports.report_counters()
    started.service.reports.report_counters()
    assert [each["answered"] for each in started.reported("counters")] == [1]


def test_the_twin_is_applied_and_acknowledged(module: Module) -> None:
    """Each writable section gets a PnP answer; the model section goes to the reconciler."""
    module.twin({**SEND_ALL, "model": {"name": "digits"}}, version=7)
    assert module.reconciler.budget_ms == 20
    (inference,), (telemetry,) = module.reported("inference"), module.reported("telemetry")
    assert inference["value"]["overload"] == "all"
    assert (telemetry["value"]["predictions"], telemetry["ac"], telemetry["av"]) == ("all", 200, 7)
    assert module.service.path.settings.telemetry.predictions == "all"
    assert module.reconciler.sections == [({"name": "digits"}, 7)]


def test_an_invalid_section_changes_nothing_and_the_other_applies(module: Module) -> None:
    """The last valid value stays, and the error names the field."""
    module.twin({"inference": {"topK": 2}})
    module.twin({"inference": {"topK": 99}, "telemetry": {"predictions": "none"}}, version=2)
    answer = module.reported("inference")[-1]
    assert (answer["value"]["topK"], answer["ac"], answer["av"]) == (2, 400, 2)
    assert "topK" in answer["ad"]
    assert module.service.path.settings.telemetry.predictions == "none"


@pytest.mark.parametrize(
    "desired", [{}, {"inference": None}, {"inference": 7, "telemetry": [], "model": "x"}]
)
def test_any_twin_is_survived(module: Module, desired: dict[str, Any]) -> None:
    """With empty, null or invalid sections the defaults stay."""
    module.twin(desired)
    assert module.service.path.settings.inference.topK == 3
    assert module.reconciler.sections == [(desired.get("model"), 1)]


def test_what_the_twin_holds_already_is_not_reported_again(module: Module) -> None:
    """The module reads the twin at each connect, and reports only changes."""
    module.twin(SEND_ALL)
    known = {name: section for patch in module.hub.reports for name, section in patch.items()}
    module.twin(SEND_ALL, reported=known)
    assert len(module.hub.reports) == 1


def test_status_names_the_serving_model(started: Module) -> None:
    """Method `status` returns state, model and counters."""
    started.send(0)
    started.wait_answered(1)
    answer = started.hub.methods["status"](None)
    assert answer.status == 200
    assert answer.payload["state"] == "answering"
    assert answer.payload["model"]["name"] == "bands"
    assert answer.payload["model"]["runtime"] == "fake"
    assert answer.payload["instance"] == started.service.instance
    started.reconciler.current = None
    answer = started.hub.methods["status"]({"anything": 1})
    assert (answer.payload["state"], answer.payload["model"]) == ("no_model", None)


def test_rollback_returns_the_model_or_an_error(module: Module) -> None:
    """Method `rollback` returns the model that serves now, or 409 if there is no previous one."""
    module.reconciler.instead = running(version="0.9.0")
    answer = module.hub.methods["rollback"](None)
    assert (answer.status, answer.payload["model"]["version"]) == (200, "0.9.0")
    assert answer.payload["answered"] is True
    module.reconciler.instead = None
    answer = module.hub.methods["rollback"](None)
    assert (answer.status, answer.payload) == (409, {"error": "there is no previous model to go back to"})


def test_a_rollback_says_what_it_could_not_see(module: Module) -> None:
    """Without an answered frame: none came, none was answered, or one is in hand and does not end."""
    module.reconciler.instead, module.reconciler.answers = running(version="0.9.0"), False
    answer = module.hub.methods["rollback"](None).payload
    assert (answer["answered"], answer["notSeen"]) == (False, "no frame came within 2 s")
    module.reconciler.on_wait = lambda: module.send(0, 1)
    answer = module.hub.methods["rollback"](None).payload
    assert answer["notSeen"] == "2 frames came within 2 s, and none was answered"
    module.service._watchdog.in_hand_s = 3.2
    answer = module.hub.methods["rollback"](None).payload
    assert answer["notSeen"] == "a frame has been in hand for 3.2 s, so no other was answered"


def test_a_stuck_module_ends_the_process_by_the_hub(module: Module) -> None:
    """run_module waits for `stuck` and exits with 75."""
    module.service._watchdog._on_stuck("model digits:1.0.0: an invoke did not return within 5 s")
    assert module.hub.stuck.is_set()
    assert "did not return" in module.hub.stuck_reason


def test_reload_needs_a_model_in_the_twin(module: Module) -> None:
    """Method `reload` returns 409 if the twin has no model section."""
    assert module.hub.methods["reload"](None).status == 409
    module.twin({"model": {"name": "digits"}})
    assert module.hub.methods["reload"](None).status == 200


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"seconds": "ten"}, "seconds"),
        ({"queries": 0}, "queries"),
        ({"quiries": 5}, "quiries"),
        ([], "object"),
    ],
)
def test_an_invalid_benchmark_request_is_refused(module: Module, payload: Any, named: str) -> None:
    """The answer is 400 and names the field; no benchmark starts."""
    answer = module.hub.methods["benchmark"](payload)
    assert answer.status == 400
    assert named in answer.payload["error"]


def test_a_benchmark_needs_a_model_and_its_file(module: Module) -> None:
    """If either is missing, the answer is 409 with the reason in one line."""
    answer = module.hub.methods["benchmark"]("")
    assert answer.status == 409
    assert "No such file" in answer.payload["error"]
    module.reconciler.current = None
    assert module.hub.methods["benchmark"](None).payload == {"error": "there is no model to measure"}


def test_stop_answers_waiting_frames_and_sends_the_closing_message(module: Module) -> None:
    """The closing latency message is the last one and carries the last publish time."""
    gate = threading.Event()

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert gate.wait(WAIT_S)
        return brightest_band(pixels)

    module.reconciler.current = running(FakeEngine(infer))
    module.twin(SEND_ALL)
    module.service.start()
    module.send(*range(5))
    threading.Timer(0.05, gate.set).start()
    left = module.service.stop(5.0)
    assert left == {"unanswered": 0, "in_hand": 0, "unstored": 0}
    closing = module.hub.of("latency")[-1]
    assert module.hub.sent[-1].output == "latency"
    assert (closing["closing"], closing["answered"]) == (True, 5)
    assert closing["before"]["frame"]["seq"] == 4
    assert module.reconciler.stopped


def test_stop_ends_the_inputs_before_the_closing_message(started: Module) -> None:
    """No counter would include a frame that arrives after the closing message: edgeHub keeps it."""
    inputs_stopped: list[bool] = []
    send = started.hub.send

    def watched(output: str, message: Message, on_stored: Callable[[int], None] | None = None) -> bool:
        inputs_stopped.append(started.hub.inputs_stopped)
        return send(output, message, on_stored)

    started.hub.send = watched  # type: ignore[method-assign]
    started.send(0)
    started.wait_answered(1)
    started.service.stop(5.0)
    assert inputs_stopped[-1]
    assert started.hub.of("latency")[-1]["closing"]


def test_stop_waits_for_the_last_puback_before_the_closing_message(
    started: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closing message includes the publish time of a prediction that is stored while `stop` waits."""
    started.hub.stores = False
    started.send(0)
    started.wait_answered(1)
    publisher = started.service._publisher
    wait_stored = publisher.wait_stored

    def store_and_wait(timeout_s: float) -> int:
        started.hub.store()
        return wait_stored(timeout_s)

    monkeypatch.setattr(publisher, "wait_stored", store_and_wait)
    assert started.service.stop(5.0)["unstored"] == 0
    closing = started.hub.of("latency")[-1]
    assert closing["closing"]
    assert closing["before"]["frame"]["seq"] == 0


def test_stop_counts_frames_that_it_has_no_time_for(module: Module) -> None:
    """A model that hangs delays the stop no longer than allowed; other frames are counted and returned."""
    gate = threading.Event()

    def hang(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert gate.wait(WAIT_S)
        return brightest_band(pixels)

    module.reconciler.current = running(FakeEngine(hang))
    module.twin(SEND_ALL)
    module.service.start()
    module.send(*range(5))
    start = mono_ns()
    left = module.service.stop(0.3)
    gate.set()
    assert (mono_ns() - start) / 1e9 < 1
    assert left["unanswered"] + left["in_hand"] == 5
    closing = module.hub.of("latency")[-1]
    assert closing["dropped"]["stopped"] == left["unanswered"]


def test_stop_returns_the_number_of_predictions_without_puback(started: Module) -> None:
    """Without PUBACK a prediction counts as answered and unstored."""
    started.hub.stores = False
    started.send(0)
    started.wait_answered(1)
    assert started.service.stop(0.2)["unstored"] == 1


def test_a_failed_report_does_not_stop_the_frames(started: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker continues after an error in a report."""
    monkeypatch.setattr(reports, "json_message", lambda body: 1 / 0)
    started.service.reports.schedule.latency.interval_s = 0
    started.send(0)
    started.wait_answered(1)
    started.send(1)
    started.wait_answered(2)


def test_each_change_of_the_model_is_an_event_and_the_last_one_is_repeated(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes to the twin goes to output `events`, too, because no module can read another one's twin."""
    for state in (ModelState.CHECKING, ModelState.CHECKING, ModelState.PROVING):
        module.report(State(state, rejected={"name": "digits", "version": "1.0.0"}).reported())
    assert [(each["kind"], each["state"], each["name"]) for each in module.hub.of("events")] == [
        ("model", "checking", "digits"),
        ("model", "proving", "digits"),
    ]
    assert len(module.reported("modelStatus")) == 3
    module.service.reports.send_due()
    assert len(module.hub.of("events")) == 2
    monkeypatch.setattr("edgekit.events.REPEAT_NS", 0)
    module.service.reports.send_due()
    last = module.hub.of("events")[-1]
    assert (last["state"], last["repeated"]) == ("proving", True)


def test_drift_goes_to_output_events_the_twin_and_the_method(module: Module) -> None:
    """An event that is no repeat, the reported property, and `status`; a used-up budget does not matter."""
    module.service.drift.status = {"state": "none"}
    telemetry = {"predictions": "all", "maxPerDay": 200, "blockBytes": 512}
    module.twin({"telemetry": telemetry})
    module.service._budget.charge(1_000, mono_ns())
    found = {"state": "drift", "camera": "door", "measure": "brightness"}
    module.service.drift._change(found)
    module.service.drift._change({"state": "none", "camera": "door"})
    events = [each for each in module.hub.sent if each.output == "events"]
    assert [each.message.properties for each in events] == [{"kind": "drift", "repeated": "false"}] * 2
    assert events[0].body["measure"] == "brightness"
    assert {"drift": found} in module.hub.reports
    assert {"drift": {"state": "none", "camera": "door", "measure": None}} in module.hub.reports
    assert module.hub.methods["status"](None).payload["drift"] == {"state": "none", "camera": "door"}


def test_drift_that_a_process_before_reported_is_taken_back(module: Module) -> None:
    """A new process begins anew; a twin without the property gets none."""
    module.twin({}, reported={"drift": {"state": "drift", "value": 15.0}})
    assert module.hub.reports[-1]["drift"] == {"state": "not available", "value": None}
    module.twin({})
    assert "drift" not in module.hub.reports[-1]
