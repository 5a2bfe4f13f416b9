"""Keeps the dashboard's page open: headless Chromium, or a reader that loads what the page loads.

The reader takes each view as it comes and loads every picture that the view names and that it has not loaded.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from twinship.bench import BenchFailed

CHROMIUM, READER = "chromium", "reader of the events, without a browser"
SHOWN_S: Final = 30.0  # for the first picture
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine


@contextmanager
def page(url: str) -> Iterator[str]:
    """Open the page until the block ends; yield what reads it, once it has a picture. Raises BenchFailed."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        with _reader(url):
            yield READER
        return
    with sync_playwright() as playwright:
        # Chromium's sandbox does not run as root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=program, args=options)
        try:
            shown = browser.new_page()
            shown.goto(url)
            shown.wait_for_selector("#frame img", timeout=SHOWN_S * 1000)
            yield CHROMIUM
        finally:
            browser.close()


@contextmanager
def _reader(url: str) -> Iterator[None]:
    first = threading.Event()
    with _OPENER.open(f"{url}events", timeout=SHOWN_S) as events:
        threading.Thread(target=_read, args=(url, events, first), name="page-reader", daemon=True).start()
        if not first.wait(SHOWN_S):
            raise BenchFailed(f"the page showed no picture within {SHOWN_S:.0f} s")
        yield


def _read(url: str, events: Any, first: threading.Event) -> None:
    loaded: set[str] = set()
    for line in events:
        if not line.startswith(b"data: "):
            continue
        for key in _pictures(json.loads(line[6:])) - loaded:
            with _OPENER.open(f"{url}picture/{key}", timeout=SHOWN_S) as picture:
                picture.read()
            loaded.add(key)
            first.set()


def _pictures(view: dict[str, Any]) -> set[str]:
    """The frames whose pictures the page shows."""
    frame = view["frame"]
    shown = [*view["recent"], *([frame] if frame else [])]
    return {each["key"] for each in shown if each.get("pictured", True)}
