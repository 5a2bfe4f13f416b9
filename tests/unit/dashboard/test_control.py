"""dashboard.control: what the page may change, who may ask for it, and what came of it in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from dashboard.control import (
    CHANGES,
    FOREIGN,
    READ_ONLY,
    BadChange,
    ChangeRequest,
    DashboardSection,
    Outcome,
    payload_of,
    perform,
    refusal,
)
from dashboard.module import Dashboard
from dashboard.settings import DashboardEnvironment, SettingsError
from edgekit.hub.connection import CallFailed, MethodAnswer, Twin
from tests.unit.dashboard.serving import Served, serving

HOST = "127.0.0.1:8780"
PAGE = ChangeRequest(HOST, f"http://{HOST}", "same-origin", "1")


def test_the_page_itself_may_change_what_the_twin_allows() -> None:
    """Also behind TLS, and in a browser that sends no Sec-Fetch-Site."""
    for request in (PAGE, replace(PAGE, origin=f"https://{HOST}"), replace(PAGE, fetch_site="")):
        assert refusal(request, allowed=True) == ""
        assert refusal(request, allowed=False) == READ_ONLY


@pytest.mark.parametrize(
    "request_",
    [
        replace(PAGE, origin="http://evil.example"),
        replace(PAGE, origin="http://127.0.0.1:8781"),
        replace(PAGE, origin="http://127.0.0.1"),
        replace(PAGE, origin="null"),
        replace(PAGE, origin=""),
        replace(PAGE, fetch_site="cross-site"),
        replace(PAGE, fetch_site="same-site"),
        replace(PAGE, fetch_site="none"),
        replace(PAGE, marked=""),
    ],
)
def test_a_page_of_another_site_changes_nothing(request_: ChangeRequest) -> None:
    """Whichever of the three headers gives it away: the others may be right."""
    assert refusal(request_, allowed=True) == FOREIGN


def test_nothing_is_allowed_by_default() -> None:
    """And no text is taken for a yes."""
    assert not DashboardSection().control
    with pytest.raises(ValueError, match="control"):
        DashboardSection.model_validate({"control": "true"})


@pytest.mark.parametrize(
    ("name", "body", "payload"),
    [
        ("pause", b"", {}),
        ("resume", b"{}", {}),
        ("rate", b'{"fps": 3}', {"fps": 3.0}),
        ("rollback", b"{}", {}),
    ],
)
def test_the_payload_is_that_of_the_method(name: str, body: bytes, payload: dict[str, Any]) -> None:
    """Whole numbers are rates too."""
    assert payload_of(CHANGES[name], body) == payload


@pytest.mark.parametrize(
    ("name", "body", "named"),
    [
        ("rate", b"{}", "fps"),
        ("rate", b'{"fps": 0}', "fps"),
        ("rate", b'{"fps": "3"}', "fps"),
        ("rate", b'{"fps": null}', "fps"),
        ("rate", b'{"fps": 1e999}', "fps"),
        ("rate", b'{"fps": Infinity}', "fps"),
        ("rate", b'{"fps": 3, "paused": true}', "paused"),
        ("pause", b"[]", "body"),
        ("pause", b"\xff", "body"),
        ("rollback", b'{"model": 1}', "model"),
    ],
)
def test_another_payload_is_refused_with_the_name_of_its_field(name: str, body: bytes, named: str) -> None:
    """Nothing of it reaches the other module."""
    with pytest.raises(BadChange, match=f"^{named}: "):
        payload_of(CHANGES[name], body)


MODEL = {"name": "digits", "version": "1.0.0", "sha256": "a" * 64}


@pytest.mark.parametrize(
    ("name", "answer", "done", "text"),
    [
        ("pause", MethodAnswer(200, {"paused": True}), True, "The camera is paused."),
        ("resume", MethodAnswer(200, {"paused": False}), True, "The camera sends frames again."),
        ("rate", MethodAnswer(200, {"fps": 3.0}), True, "The camera sends 3 frames a second."),
        (
            "rollback",
            MethodAnswer(200, {"model": MODEL, "answered": True}),
            True,
            "Inference runs digits:1.0.0 now and answered a frame.",
        ),
        (
            "rollback",
            MethodAnswer(200, {"model": MODEL, "answered": False, "notSeen": "no frame came"}),
            True,
            "Inference was set to digits:1.0.0; not seen that it answers: no frame came",
        ),
        (
            "rollback",
            MethodAnswer(409, {"error": "there is no previous model"}),
            False,
            "Not done: there is no previous model",
        ),
        ("rate", MethodAnswer(500, None), False, "Not done: the camera module answers with status 500"),
        ("rate", MethodAnswer(200, None), True, "Done; the answer has no words for it."),
        ("rate", MethodAnswer(200, {"fps": "x"}), True, "Done; the answer has no words for it."),
        ("pause", CallFailed("no connection to edgeHub"), False, "Not done: no connection to edgeHub"),
        ("pause", MethodAnswer(409, {"error": "a\u202eb"}), False, "Not done: a\ufffdb"),
    ],
)
def test_the_result_is_said_in_words(
    name: str, answer: MethodAnswer | Exception, done: bool, text: str
) -> None:
    """Of the answer, or of the failure; it may come from any module."""

    def call() -> MethodAnswer:
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert perform(CHANGES[name], call) == Outcome(done, text)


# Over HTTP


@pytest.fixture
def served() -> Iterator[Served]:
    """A page whose twin allows changes."""
    with serving() as running:
        running.control = True
        yield running


def headers(served: Served, **more: str) -> dict[str, str]:
    """As the page sends them."""
    return {
        "Origin": served.url.rstrip("/"),
        "Sec_Fetch_Site": "same-origin",
        "X_Twinship_Control": "1",
        **more,
    }


def test_a_change_is_made_and_answered_in_words(served: Served) -> None:
    """A failure is not answered as a success."""
    answer = served.get("/control/rate", "POST", b'{"fps": 3}', **headers(served))
    assert (answer.status, answer.read()) == (200, b"The camera is paused.")
    assert answer.headers["Content-Type"].startswith("text/plain")
    served.outcome = Outcome(False, "Not done: no connection to edgeHub")
    assert served.get("/control/pause", "POST", **headers(served)).status == 502
    assert served.changes == [("rate", {"fps": 3.0}), ("pause", {})]


def test_without_control_a_change_is_refused_in_one_line(served: Served) -> None:
    """With the cure; the next request is answered by the twin of that moment."""
    served.control = False
    answer = served.get("/control/pause", "POST", **headers(served))
    assert (answer.status, answer.read().decode()) == (403, READ_ONLY)
    assert served.changes == []
    served.control = True
    assert served.get("/control/pause", "POST", **headers(served)).status == 200  # counter-proof


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"X_Twinship_Control": ""},
        {"Host": "localhost:1"},
    ],
)
def test_a_request_of_another_site_is_refused(served: Served, changed: dict[str, str]) -> None:
    """Nothing is changed, whoever is logged in."""
    answer = served.get("/control/pause", "POST", **headers(served, **changed))
    assert (answer.status, answer.read().decode()) == (403, FOREIGN)
    assert served.changes == []


def test_a_change_needs_the_token_and_a_known_name() -> None:
    """As every other request; a strange Host is refused before."""
    with serving("correct horse battery") as locked:
        locked.control = True
        post = headers(locked)
        assert locked.get("/control/pause", "POST", **post).status == 401
        assert locked.get("/control/pause", "POST", **post, Host="evil.example").status == 421
        right = {**post, "Authorization": "Bearer correct horse battery"}
        assert locked.get("/control/reload", "POST", **right).status == 404
        assert locked.get("/control/pause", **right).status == 405
        assert locked.get("/control/rate", "POST", b"{}", **right).status == 400
        assert locked.get("/control/rate", "POST", b" " * 5_000, **right).status == 413
        assert locked.changes == []
        assert locked.get("/control/pause", "POST", **right).status == 200  # counter-proof


def test_one_change_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may take ten seconds; others are answered meanwhile, and do not wait for it."""
    begun, go_on = Event(), Event()
    make = served.change

    def slow(*arguments: Any) -> Outcome:
        begun.set()
        assert go_on.wait(10)
        return make(*arguments)

    monkeypatch.setattr(served, "change", slow)
    first = served.send("/control/pause", "POST", **headers(served))
    assert begun.wait(10)
    assert served.get("/").status == 200
    assert served.get("/control/resume", "POST", **headers(served)).status == 409
    go_on.set()
    with first.getresponse() as answer:
        assert answer.status == 200
    assert [name for name, _ in served.changes] == ["pause"]


# The module


class Reports:
    """Takes what the module reports, and the calls of other modules' methods."""

    def __init__(self, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patches: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str, Any]] = []
        monkeypatch.setattr(dashboard.hub, "report", self.patches.append)
        monkeypatch.setattr(dashboard.hub, "call_module", self.call)

    def call(self, module: str, name: str, payload: Any) -> MethodAnswer:
        """As Hub.call_module."""
        self.calls.append((module, name, payload))
        return MethodAnswer(200, {"paused": True, "fps": 3.0, "model": MODEL, "answered": True})


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    """The module without a hub; its camera has another name."""
    environment = {"DASHBOARD_LISTEN": "127.0.0.1:0", "DASHBOARD_CAMERA": "door"}
    made = Dashboard(DashboardEnvironment.read(environment))
    made.start()
    yield made
    made.stop(10)


@pytest.mark.parametrize(
    ("section", "allowed", "code"),
    [
        ({"control": True}, True, 200),
        ({"control": False}, False, 200),
        ({}, False, 200),
        ({"control": "yes"}, False, 400),
        ({"control": True, "pause": True}, False, 400),
        ("yes", False, 400),
        (None, False, 200),
    ],
)
def test_the_twin_decides_and_gets_an_answer(
    section: object, allowed: bool, code: int, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A section that is gone or invalid ends what an earlier one allowed."""
    reports = Reports(dashboard, monkeypatch)
    dashboard._on_twin(Twin({"$version": 1, "dashboard": {"control": True}}, {}))
    desired = {"$version": 2} if section is None else {"$version": 2, "dashboard": section}
    dashboard._on_twin(Twin(desired, {}))
    assert dashboard._section.control is allowed
    answer = reports.patches[-1]["dashboard"]
    assert (answer["value"], answer["ac"], answer["av"]) == ({"control": allowed}, code, 2)
    dashboard._on_twin(Twin(desired, reports.patches[-1]))
    assert len(reports.patches) == 2  # the twin holds the answer


def test_each_change_calls_its_module(dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the modules are those of the environment."""
    reports = Reports(dashboard, monkeypatch)
    for name, change in CHANGES.items():
        assert dashboard._change(change, {"fps": 3.0} if name == "rate" else {}).done
    assert reports.calls == [
        ("door", "pause", {}),
        ("door", "resume", {}),
        ("door", "set_rate", {"fps": 3.0}),
        ("inference", "rollback", {}),
    ]


def test_an_invalid_module_name_is_named_with_its_cure() -> None:
    """Of either module."""
    for name in ("DASHBOARD_CAMERA", "DASHBOARD_INFERENCE"):
        with pytest.raises(SettingsError, match=f"^{name}='a/b': cure: "):
            DashboardEnvironment.read({name: "a/b"})
