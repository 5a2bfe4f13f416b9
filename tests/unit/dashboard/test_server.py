"""dashboard.server over HTTP: what it answers, to whom, and with which headers."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from dashboard.server import FILES, MAX_PAGES
from tests.unit.dashboard.bodies import JPEG, prediction, preview_properties
from tests.unit.dashboard.serving import Served, serving

TOKEN = "correct horse battery"
PAGE = Path(__file__).parents[3] / "modules/dashboard/dashboard/page"
MAX_BYTES = 150 * 1024


@pytest.fixture
def open_server() -> Iterator[Served]:
    """Without a token."""
    with serving() as served:
        yield served


@pytest.fixture
def locked_server() -> Iterator[Served]:
    """With a token."""
    with serving(TOKEN) as served:
        yield served


def next_view(events: HTTPResponse) -> dict[str, Any]:
    """The next server-sent event."""
    while not (line := events.readline()).startswith(b"data: "):
        assert line, "the stream ended"
    found: dict[str, Any] = json.loads(line[6:])
    return found


def test_an_answer_reaches_an_open_page(open_server: Served) -> None:
    """As a server-sent event with the whole view."""
    events = open_server.get("/events")
    assert events.headers["Content-Type"] == "text/event-stream"
    assert next_view(events)["recent"] == []
    open_server.take(prediction(3))
    while not (recent := next_view(events)["recent"]):
        pass
    assert recent[0]["seq"] == 3


@pytest.mark.parametrize("path", [*FILES, "/events", "/missing", "/../settings.py", "/page/index.html"])
def test_every_answer_forbids_inline_code_frames_and_other_sources(path: str, open_server: Served) -> None:
    """Errors too."""
    answer = open_server.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.status == 200) is (path in FILES or path == "/events")


def test_a_strangers_name_gets_nothing(open_server: Served) -> None:
    """DNS rebinding; every path, and the events above all."""
    for path in (*FILES, "/events", "/missing"):
        assert open_server.get(path, Host="evil.example").status == 421
    assert open_server.get("/", Host="localhost").status == 200  # counter-proof


def test_only_the_page_itself_reads_the_events(open_server: Served) -> None:
    """Another site's page cannot hold the places of the pages."""
    assert open_server.get("/events", Sec_Fetch_Site="cross-site").status == 403
    assert open_server.get("/events", Sec_Fetch_Site="same-origin").status == 200


def test_without_the_token_there_is_a_form_and_nothing_else(locked_server: Served) -> None:
    """The form needs its style only."""
    answer = locked_server.get("/")
    assert answer.status == 401
    assert b"<form" in answer.read()
    assert {
        path: locked_server.get(path).status for path in ("/events", "/page.js", "/style.css", "/icon.svg")
    } == {
        "/events": 401,
        "/page.js": 401,
        "/style.css": 200,
        "/icon.svg": 200,
    }


def test_the_first_visit_gets_a_cookie_that_scripts_and_other_sites_cannot_use(locked_server: Served) -> None:
    """And leaves the address with the token."""
    answer = locked_server.get(f"/?token={TOKEN.replace(' ', '%20')}")
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert TOKEN not in cookie
    assert locked_server.get("/events", Cookie=cookie.partition(";")[0]).status == 200


def test_the_sixth_wrong_token_is_answered_429(locked_server: Served) -> None:
    """With words."""
    statuses = [locked_server.get(f"/?token=wrong{number}").status for number in range(6)]
    assert statuses == [401] * 5 + [429]
    assert b"in a minute" in locked_server.get("/?token=wrong").read()


def test_no_token_is_logged(locked_server: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Neither a right nor a wrong one."""
    with caplog.at_level(logging.DEBUG):
        for given in ("wrong-token-of-mine", TOKEN.replace(" ", "%20")):
            locked_server.get(f"/?token={given}").read()
    assert "wrong-token" not in caplog.text
    assert "horse" not in caplog.text


def test_the_ninth_page_is_refused_until_one_closes(open_server: Served) -> None:
    """So that forgotten pages cost no more than these."""
    pages = [open_server.get("/events") for _ in range(MAX_PAGES)]
    assert open_server.get("/events").status == 503
    pages.pop().close()
    while open_server.get("/events").status == 503:
        pass


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_changed(method: str, open_server: Served) -> None:
    """Requests only read."""
    assert open_server.get("/", method).status == 405


PICTURE = "/picture/door-0123456789abcdef-7"


def test_a_picture_is_served_as_what_it_is(open_server: Served) -> None:
    """A JPEG that no browser takes for a page, and that nobody keeps; one that is not there is 404."""
    open_server.take_picture(JPEG, **preview_properties(7))
    answer = open_server.get(PICTURE)
    assert (answer.status, answer.read()) == (200, JPEG)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    for missing in ("8", "7/..", "%2e%2e%2fsettings.py"):
        assert open_server.get(PICTURE[:-1] + missing).status == 404


def test_pictures_are_guarded_as_the_page_is(open_server: Served, locked_server: Served) -> None:
    """No token, a stranger's name or another site's page: no picture."""
    for served in (open_server, locked_server):
        served.take_picture(JPEG, **preview_properties(7))
    assert locked_server.get(PICTURE).status == 401
    assert locked_server.get(PICTURE, Authorization=f"Bearer {TOKEN}").read() == JPEG  # counter-proof
    assert open_server.get(PICTURE, Host="evil.example").status == 421
    assert open_server.get(PICTURE, Sec_Fetch_Site="cross-site").status == 403


def test_the_module_knows_how_many_pages_are_open(open_server: Served) -> None:
    """The camera is asked for pictures only while it is one or more."""
    first, second = open_server.get("/events"), open_server.get("/events")
    next_view(second)
    assert open_server.pages == [1, 2]
    first.close()
    second.close()
    while open_server.pages[-1]:
        time.sleep(0.01)
    assert open_server.pages == [1, 2, 1, 0]


def test_the_end_of_the_module_ends_open_pages(open_server: Served) -> None:
    """A stream that is cut off instead (IncompleteRead) holds up the end of the module until a time-out."""
    events = open_server.get("/events")
    next_view(events)
    open_server.stop()
    events.read()


def test_a_page_sees_that_the_module_is_another_process(open_server: Served, locked_server: Served) -> None:
    """Each process has a number of its own, the same in all its views."""
    events = open_server.get("/events")
    first, again = next_view(events)["process"], next_view(events)["process"]
    other = next_view(locked_server.get("/events", Authorization=f"Bearer {TOKEN}"))["process"]
    assert first == again != other


# The files


def test_the_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    """No inline code or style, no address but a namespace."""
    files = list(PAGE.iterdir())
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES
    for file in files:
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(^|\s)// .*", "", text), file
        assert not re.search(r"\son\w+=|\sstyle=|javascript:|@import", text), file
        assert not re.search(r"<script(?! src=)|<style", text), file


def test_no_script_writes_markup() -> None:
    """Texts of others become text nodes."""
    for file in PAGE.glob("*.js"):
        text = re.sub(r"(^|\s)// .*", "", file.read_text())
        assert not re.search(
            r"innerHTML|insertAdjacentHTML|outerHTML\s*=[^=]|document\.write|eval|Function\(", text
        )
