"""The dashboard in a browser: Debian's Chromium reads the page of the module beside the simulator."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import ROOT, Edge
from tests.e2e.test_swap import DEVICE, patch, ship
from tests.e2e.waiting import PATIENCE_S, wait_until
from tests.unit.dashboard.bodies import latency, prediction
from tests.unit.dashboard.serving import Served, serving
from twinship.demo.page import page_address
from twinship.fleet import keys
from twinship.simulator.launcher import Simulator, SimulatorSettings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

CHROMIUM = shutil.which("chromium")
TEMPLATE = ROOT / "deployment.dashboard.template.json"
SHOTS = ROOT / "build" / "dashboard"
PATIENCE_MS = PATIENCE_S * 1000
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1200, "height": 900}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian: apt install chromium)"),
]

#: The texts that have too little contrast, and the controls without a name.
CHECKS = (Path(__file__).parent / "page_checks.js").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """The page's server without a hub."""
    with serving() as running:
        yield running


def opened(browser: Browser, url: str, **options: Any) -> Page:
    """The page in a new context; an error of a script or of the policy fails the test at its end."""
    page = browser.new_context(viewport=options.pop("viewport", DESK), **options).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(url)
    return page


def expect_text(page: Page, selector: str, text: str) -> None:
    """Wait until the element has this text in it."""
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
        arg=[selector, text],
    )


@pytest.mark.long
def test_two_models_one_after_the_other_are_seen_on_the_page(
    browser: Browser, tmp_path: Path, models: Path
) -> None:
    """The real modules: answers, stages, both models on the time line; the page outlives its module."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys.new(tmp_path / "keys")
    settings = SimulatorSettings(
        TEMPLATE,
        tmp_path / "simulator",
        {
            "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(tmp_path / "keys"),
            "CAMERA_FOLDER": str(models / "1.0.0" / "frames"),
        },
        module_environment={"dashboard": {"DASHBOARD_LISTEN": f"127.0.0.1:{port}"}},
    )
    assert page_address(settings) == f"http://127.0.0.1:{port}/"
    with Simulator(settings) as simulator:
        edge = Edge(simulator, tmp_path / "keys", tmp_path)
        patch(edge, "inference", {"telemetry": {"predictions": "all", "intervalSeconds": 1}})
        simulator.start_modules()
        wait_served(port)
        page = opened(browser, page_address(settings))
        expect_text(page, "#link", "Live")
        expect_text(page, "#notes", "because inference has no model")
        ship(edge, models / "1.0.0" / "model.tflite")
        expect_text(page, "#models", "digits:1.0.0")
        expect_text(page, "#stages", "publish")
        ship(edge, models / "1.1.0" / "model.tflite")
        expect_text(page, "#models li", "digits:1.1.0 in use")
        page.wait_for_function("() => document.querySelectorAll('#models li').length === 2")
        page.wait_for_function("() => document.querySelectorAll('#recent li').length === 24")
        simulator.stop_modules()
        expect_text(page, "#link", "No connection to the dashboard module")
        upstream = edge.upstream()
    assert DEVICE in upstream
    assert "twinship.prediction.v1" in upstream


def wait_served(port: int) -> None:
    """Wait until the module listens."""

    def accepts() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(accepts, "the dashboard's port")


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
    for place in ("#last", "#recent", "#models", "#accuracy"):
        expect_text(page, place, "<img src=x onerror")
    assert page.locator("main img, main script, main b b").count() == 0
    assert dialogs == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
def test_the_page_can_be_read(browser: Browser, served: Served, scheme: str, width: dict[str, int]) -> None:
    """Contrast of 4.5, a name for each control, no scrolling sideways. Screenshots are in build/dashboard."""
    refused: list[str] = []
    page = opened(browser, "about:blank", viewport=width, color_scheme=scheme)
    page.on("console", lambda message: refused.append(message.text))
    page.on("pageerror", lambda error: refused.append(str(error)))
    page.goto(served.url)
    for seq in range(40):
        truth = "cat" if seq % 5 else "dog"
        served.take(prediction(seq, truth=truth, uncertain=seq % 7 == 0, version=f"1.{seq // 30}.0"))
    served.take(latency(), latency(dropped={"overload": 12}), {"schema": "unknown"})
    page.wait_for_function("() => document.querySelectorAll('#notes .note').length === 2")
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{scheme}-{width['width']}.png", full_page=True)
    assert page.evaluate(CHECKS) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width["width"]
    assert refused == []


def test_the_checks_find_grey_text_and_a_button_without_a_name(browser: Browser, served: Served) -> None:
    """Counter-proof of the test above."""
    page = opened(browser, served.url)
    page.evaluate("document.querySelector('h1').style.color = '#999'")
    page.evaluate("document.querySelector('#hold').textContent = ''")
    assert [each[:7] for each in page.evaluate(CHECKS)] == ["Twinshi", "no name"]


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
