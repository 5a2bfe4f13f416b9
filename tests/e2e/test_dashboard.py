"""The dashboard's page in a browser, on its server without a hub: Debian's Chromium."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw

from tests.e2e.browsing import DESK, NEEDS_CHROMIUM, PHONE, chromium, expect_text, loaded_frames, opened
from tests.e2e.conftest import ROOT
from tests.unit.dashboard.bodies import (
    camera_event,
    detection,
    event,
    latency,
    model_event,
    prediction,
    preview_properties,
)
from tests.unit.dashboard.serving import Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

SHOTS = ROOT / "build" / "dashboard"

pytestmark = [pytest.mark.e2e, NEEDS_CHROMIUM]

#: The texts that have too little contrast, and the controls without a name.
CHECKS = (Path(__file__).parent / "page_checks.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module."""
    yield from chromium()


@pytest.fixture
def served() -> Iterator[Served]:
    """The page's server without a hub."""
    with serving() as running:
        yield running


LABEL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def test_markup_in_a_label_is_text(browser: Browser, served: Served) -> None:
    """A label, a model's name and a truth come from twins and files of others."""
    page = opened(browser, served.url)
    dialogs: list[str] = []

    def close(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", close)
    model = {"name": LABEL, "version": LABEL, "sha256": LABEL}
    served.take(prediction(1, LABEL, truth="<b>", model=model), {"schema": LABEL})
    reason = {"code": LABEL, "message": LABEL}
    served.take(
        model_event("refused", name=LABEL, version=LABEL, sha256=LABEL, reason=reason),
        camera_event("lost", camera=LABEL, source=LABEL, reason=LABEL),
        event("drift", "drift", detector=LABEL, measure=LABEL, value=LABEL, since=LABEL),
    )
    with served.lock:
        served.state.preview_asked(LABEL)
    for place in (
        "#last",
        "#recent",
        "#models",
        "#accuracy",
        "#timeline",
        "#modules",
        "#drift",
        "#frame",
        "#notes",
    ):
        expect_text(page, place, "<img src=x onerror")
    assert page.locator("main img, main script, main b b").count() == 0
    assert dialogs == []


_SERVING = {"name": "pets", "version": "1.1.0", "sha256": "1.1.0" * 8}
#: A life of three models, and drift.
EVENTS = (
    *(
        model_event(state, at)
        for at, state in enumerate(("checking", "proving", "loading", "probation", "active"))
    ),
    model_event("checking", 60, "1.1.0"),
    model_event("active", 75, "1.1.0", active=_SERVING),
    model_event(
        "refused",
        90,
        "1.2.0",
        active=_SERVING,
        reason={"code": "wrong-answers", "message": "it answers 3 of its 10 probes wrongly"},
    ),
    camera_event("streaming"),
    event("drift", "drift", detector="cusum", measure="brightness", value=4.5, since="2026-11-28T10:00:00Z"),
)


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong: the rule and the first element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:80]}" for each in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
def test_the_page_can_be_read(browser: Browser, served: Served, scheme: str, width: dict[str, int]) -> None:
    """Contrast of 4.5, names, no scrolling sideways, nothing that axe-core finds. It leaves screenshots."""
    refused: list[str] = []
    page = opened(browser, "about:blank", viewport=width, color_scheme=scheme)
    page.on("console", lambda message: refused.append(message.text))
    page.on("pageerror", lambda error: refused.append(str(error)))
    page.goto(served.url)
    for seq in range(40):
        truth = "cat" if seq % 5 else "dog"
        served.take_picture(jpeg(seq), **preview_properties(seq, truth=truth))
        served.take(prediction(seq, uncertain=seq % 7 == 0, version=f"1.{seq // 30}.0"))
    served.take(*EVENTS)
    served.take(latency(), latency(dropped={"overload": 12}), {"schema": "unknown"})
    page.wait_for_function("() => document.querySelectorAll('#notes .note').length === 4")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{scheme}-{width['width']}.png", full_page=True)
    assert page.evaluate(CHECKS) == []
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width["width"]
    assert refused == []


def test_the_checks_find_grey_text_and_a_button_without_a_name(browser: Browser, served: Served) -> None:
    """Counter-proof of the test above."""
    page = opened(browser, served.url)
    page.evaluate("document.querySelector('h1').style.color = '#999'")
    page.evaluate("document.querySelector('#hold').textContent = ''")
    assert [each[:7] for each in page.evaluate(CHECKS)] == ["Twinshi", "no name"]
    assert [each.partition(":")[0] for each in violations(page)] == ["button-name", "color-contrast"]


def test_the_keyboard_is_enough(browser: Browser, served: Served) -> None:
    """Tab reaches the link to the figures, then the button; a held page stays as it is until it goes on."""
    page = opened(browser, served.url)
    expect_text(page, "#link", "Live")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.get_attribute("#hold", "aria-pressed") == "true"
    other = opened(browser, served.url)
    served.take(prediction(1, "walrus"))
    expect_text(other, "#last", "walrus")
    assert "walrus" not in page.inner_text("#last")
    page.keyboard.press("Enter")
    expect_text(page, "#last", "walrus")


def test_a_lost_hub_is_said(browser: Browser, served: Served) -> None:
    """In words, with what to do."""
    page = opened(browser, served.url)
    expect_text(page, "#link", "Live")
    served.connected = False
    expect_text(page, "#link", "No connection to edgeHub")
    expect_text(page, "#notes", "Check that edgeHub (or the simulator) runs.")


def test_the_token_is_asked_for_and_leaves_the_address(browser: Browser) -> None:
    """The form opens the page; the cookie keeps it open."""
    with serving("correct horse battery") as locked:
        page = opened(browser, locked.url)
        page.fill("#token", "correct horse battery")
        page.keyboard.press("Enter")
        expect_text(page, "#link", "Live")
        assert page.url == locked.url
        assert page.evaluate("document.cookie") == ""
        page.reload()
        expect_text(page, "#link", "Live")


def jpeg(seq: int, size: tuple[int, int] = (320, 240)) -> bytes:
    """A small picture, another one for each number."""
    image = Image.new("RGB", size, (40, 60, 20 * (seq % 12)))
    ImageDraw.Draw(image).ellipse(
        (size[0] // 10, size[1] // 5, size[0] * 2 // 5, size[1] * 3 // 5), fill="white"
    )
    body = io.BytesIO()
    image.save(body, "JPEG")
    return body.getvalue()


def test_the_boxes_lie_on_the_frame_that_they_belong_to(browser: Browser, served: Served) -> None:
    """In shares of the picture; a newer picture without an answer does not take them over."""
    page = opened(browser, served.url)
    served.take_picture(jpeg(1), **preview_properties(1))
    served.take(detection(1))
    loaded_frames(page, 1)
    assert page.locator("#frame rect").count() == 2
    assert page.locator("#frame .box-name").first.inner_text() == "cat 80.0 %"
    picture, drawn = (
        page.locator("#frame img").bounding_box(),
        page.locator("#frame rect").first.bounding_box(),
    )
    assert picture is not None
    assert drawn is not None
    assert (drawn["x"] - picture["x"]) / picture["width"] == pytest.approx(0.1, abs=0.01)
    assert (drawn["y"] - picture["y"]) / picture["height"] == pytest.approx(0.2, abs=0.01)
    assert drawn["width"] / picture["width"] == pytest.approx(0.3, abs=0.02)
    assert "door-0123456789abcdef-1" in (page.get_attribute("#frame img", "src") or "")


def test_each_picture_is_loaded_once_for_each_place(browser: Browser, served: Served) -> None:
    """The page is drawn again with every answer; pictures are moved, not loaded again."""
    loads: list[str] = []
    page = opened(browser, "about:blank")
    page.on("request", lambda request: loads.append(request.url) if "/picture/" in request.url else None)
    page.goto(served.url)
    for seq in range(3):
        served.take_picture(jpeg(seq), **preview_properties(seq))
        served.take(prediction(seq))
    page.wait_for_function("() => document.querySelectorAll('#recent img').length === 3")
    for seq in range(10, 16):
        served.take(prediction(seq, f"label {seq}"))
        expect_text(page, "#last", f"label {seq}")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#recent img')].every((each) => each.complete)"
    )
    assert page.locator("#recent img").count() == 3
    assert len(loads) <= 6


def test_why_there_is_no_picture_is_said(browser: Browser, served: Served) -> None:
    """The camera's words."""
    page = opened(browser, served.url)
    expect_text(page, "#frame", "No picture yet")
    with served.lock:
        served.state.preview_asked("the camera's twin forbids it: preview.allow is false")
    expect_text(page, "#frame", "preview.allow is false")
