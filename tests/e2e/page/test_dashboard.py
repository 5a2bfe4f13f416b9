"""The dashboard's page in a browser, on its server without a hub: Debian's Chromium."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageDraw

from dashboard.control import Outcome
from tests.e2e.conftest import ROOT
from tests.e2e.page.browsing import (
    DESK,
    NEEDS_CHROMIUM,
    PHONE,
    PageErrors,
    chromium,
    expect_text,
    loaded_frames,
    opened,
)
from tests.e2e.waiting import wait_until
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
    page = opened(browser, served.url, viewport=width, color_scheme=scheme)
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
    served.control = True
    page.wait_for_selector("#control-section:not([hidden])")
    page.locator("#control-section").screenshot(path=SHOTS / f"control-{scheme}-{width['width']}.png")
    assert page.evaluate(CHECKS) == []
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width["width"]


def test_the_checks_find_grey_text_and_a_button_without_a_name(browser: Browser, served: Served) -> None:
    """Counter-proof of the test above."""
    page = opened(browser, served.url)
    page.evaluate("document.querySelector('h1').style.color = '#999'")
    page.evaluate("document.querySelector('#hold').textContent = ''")
    assert [each[:7] for each in page.evaluate(CHECKS)] == ["Twinshi", "no name"]
    assert [each.partition(":")[0] for each in violations(page)] == ["button-name", "color-contrast"]


#: Appends a script with its code in it.
INLINE = """document.body.append(
    Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"""


def test_an_error_of_a_script_and_a_violation_of_the_policy_are_found(
    browser: Browser, served: Served, page_errors: PageErrors
) -> None:
    """Counter-proof of what every test with a page checks at its end."""
    page = opened(browser, served.url)
    page.evaluate("setTimeout(() => { throw new Error('planted'); })")
    page.evaluate(INLINE)
    wait_until(lambda: len(page_errors.all()) == 2, "both errors")
    assert page.evaluate("window.ran") is None
    assert sorted("Content Security Policy" in each for each in page_errors.found) == [False, True]
    page_errors.found.clear()


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


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until this element has the focus."""
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_the_controls_are_there_while_the_twin_allows_them(browser: Browser, served: Served) -> None:
    """A page that only reads shows none."""
    page = opened(browser, served.url)
    expect_text(page, "#link", "Live")
    assert not page.is_visible("#control-section")
    served.control = True
    page.wait_for_selector("#control-section", state="visible")
    served.control = False
    page.wait_for_selector("#control-section", state="hidden")


def test_the_controls_are_reached_by_the_keyboard_and_answer_in_words(
    browser: Browser, served: Served
) -> None:
    """The result is a status, which a screen reader reads; a failure is one too."""
    served.control = True
    page = opened(browser, served.url)
    page.wait_for_selector("#control-section", state="visible")
    tab_to(page, "[data-change=pause]")
    page.keyboard.press("Enter")
    expect_text(page, "#control-result[role=status]", "The camera is paused.")
    tab_to(page, "#fps")
    page.keyboard.press("Control+A")
    page.keyboard.type("2.5")
    served.outcome = Outcome(False, "Not done: " + LABEL)
    page.keyboard.press("Enter")
    expect_text(page, "#control-result.wrong", "Not done: " + LABEL)
    assert page.locator("#control-result *").count() == 0
    assert served.changes == [("pause", {}), ("rate", {"fps": 2.5})]


def test_a_rollback_is_confirmed_first(browser: Browser, served: Served) -> None:
    """Who says no has changed nothing."""
    served.control = True
    page = opened(browser, served.url)
    page.wait_for_selector("#control-section", state="visible")
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("[data-change=rollback]")
    assert served.changes == []
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("[data-change=rollback]")
    expect_text(page, "#control-result", "The camera is paused.")
    assert served.changes == [("rollback", {})]


def test_a_form_of_another_site_changes_nothing(browser: Browser, served: Served) -> None:
    """It can be sent without being asked for permission, so the server refuses it."""
    served.control = True
    page = opened(browser, "about:blank")
    form = f"<form method=post action='{served.url}control/pause'><button>Win a prize</button></form>"
    page.set_content(form)
    page.click("button")
    expect_text(page, "body", "Only the page itself may change something.")
    assert served.changes == []


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
