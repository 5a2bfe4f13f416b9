"""A browser for tests of the dashboard's page, and waiting for what it shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.waiting import PATIENCE_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

CHROMIUM = shutil.which("chromium")
PATIENCE_MS = PATIENCE_S * 1000
PHONE, DESK = {"width": 375, "height": 812}, {"width": 1200, "height": 900}
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine (Debian: apt install chromium)"
)
#: Of the network: a page that waits for its module makes such lines, and so does a refused request.
_NETWORK = "Failed to load resource"


class PageErrors:
    """The pages of one test, and what went wrong in them: errors of scripts, violations of the policy."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._pages: list[Page] = []

    def watch(self, page: Page) -> None:
        """Collect the errors of this page."""
        self._pages.append(page)
        page.on("pageerror", lambda error: self.found.append(str(error)))
        page.on("console", self._take)

    def _take(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(_NETWORK):
            self.found.append(message.text)

    def all(self) -> list[str]:
        """What was found so far. The browser delivers events during calls only."""
        for page in self._pages:
            if not page.is_closed():
                page.evaluate("0")
        return self.found


#: Of the present test; the fixture `page_errors` empties it.
_ERRORS = [PageErrors()]


@pytest.fixture(autouse=True)
def page_errors() -> Iterator[PageErrors]:
    """No page of the test had an error of a script or violated its policy."""
    _ERRORS[0] = errors = PageErrors()
    yield errors
    assert errors.all() == []


def chromium() -> Iterator[Browser]:
    """A running browser; it ends with the generator."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


def opened(browser: Browser, url: str, **options: Any) -> Page:
    """The page in a new context; its errors fail the test at its end."""
    page = browser.new_context(viewport=options.pop("viewport", DESK), **options).new_page()
    page.set_default_timeout(PATIENCE_MS)
    _ERRORS[0].watch(page)
    page.goto(url)
    return page


def expect_text(page: Page, selector: str, text: str) -> None:
    """Wait until the element has this text in it."""
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
        arg=[selector, text],
    )


def loaded_frames(page: Page, count: int) -> None:
    """Wait until the page has shown so many different frames of the camera, as pictures."""
    page.wait_for_function(
        """(count) => {
             const picture = document.querySelector("#frame img");
             window.seen ??= new Set();
             if (picture?.complete && picture.naturalWidth) window.seen.add(picture.getAttribute("src"));
             return window.seen.size >= count;
           }""",
        arg=count,
    )
