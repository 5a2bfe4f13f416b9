"""Asks the camera for previews while a page is open, from a thread of its own.

Each answer is a lease of LEASE_S, so the camera stops by itself when the last page closes, or when this
module ends. Without a page the thread waits for one and does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from dashboard.calls import attempt
from edgekit.hub.connection import MethodAnswer

METHOD: Final = "preview"
FPS: Final = 5
LEASE_S: Final = 15
RENEW_S: Final = 5.0


class PreviewLease:
    """Renews the lease. `pages` may be called from any thread."""

    def __init__(
        self, call: Callable[[str, Mapping[str, Any]], MethodAnswer], on_result: Callable[[str], None]
    ) -> None:
        """`call` calls a method of the camera and may raise CallFailed; `on_result` gets "" or the reason."""
        self._call = call
        self._on_result = on_result
        self._pages = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="preview-lease", daemon=True)

    def start(self) -> None:
        """Wait for a page in the background."""
        self._thread.start()

    def stop(self) -> None:
        """Renew no more; returns at once."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def pages(self, count: int) -> None:
        """So many pages are open now."""
        with self._changed:
            self._pages = count
            self._changed.notify_all()

    def _run(self) -> None:
        while self._page_is_open():
            self._on_result(self._renew())
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, RENEW_S)

    def _page_is_open(self) -> bool:
        """Wait for a page; False when the module stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._pages > 0)
            return not self._stopping

    def _renew(self) -> str:
        request = {"fps": FPS, "leaseSeconds": LEASE_S}
        return attempt(lambda: self._call(METHOD, request), "the camera")[1]
