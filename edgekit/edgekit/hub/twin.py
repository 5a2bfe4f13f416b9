"""The twin, read whole when a doorbell rings, and its reported patches; is handed its calls, connects not."""

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

from edgekit.clock import mono_ns
from edgekit.hub.bounded_calls import BoundedCaller, NoAnswer, TooManyUnanswered
from edgekit.hub.reports import Patch, queued, split
from edgekit.hub.watchdog import Watchdog
from edgekit.log import one_line

logger = logging.getLogger(__name__)

_MAX_WAITING_REPORTS = 64
_PAUSE_S, _MAX_PAUSE_S = 0.5, 10.0
_STATUS = re.compile(r"twin operation returned status (\d{3})")  # all that the SDK says (ref 2.6)


@dataclass(frozen=True)
class Twin:
    """The module's whole twin, `$version` inside each half."""

    desired: Mapping[str, Any]
    reported: Mapping[str, Any]
    rung: int = field(default_factory=mono_ns, compare=False)  # when the doorbell rang, CLOCK_MONOTONIC ns


@dataclass(frozen=True)
class TwinCalls:
    """What the twin needs of a connected client; each call may raise, or never return."""

    get: Callable[[], Mapping[str, Any]]
    patch: Callable[[Patch], None]
    connected: Callable[[], bool]


class TwinLink:
    """One doorbell for everything that may have changed the twin: whoever rings twice is answered once."""

    def __init__(
        self, tell: Callable[[Twin], None], silence: Watchdog, *, timeout_s: float, max_hanging: int
    ) -> None:
        self._tell = tell
        self._silence = silence
        self._timeout_s = timeout_s
        self._asker = BoundedCaller(max_hanging)
        self._asked: int | None = (
            None  # what `_silence` has been counting since the first request without answer
        )
        self._lock = Lock()
        self._doorbell = Event()
        self._wanted = True
        self._rung: int | None = None  # the first of the rings that were not answered yet
        self._closed = Event()
        self._reports: tuple[Patch, ...] = ()

    def ring(self) -> None:
        """The twin may have changed: read it."""
        if self._rung is None:
            self._rung = mono_ns()
        self._wanted = True
        self._doorbell.set()

    def report(self, patch: Mapping[str, Any]) -> None:
        """Queue a reported patch. It may become one with those that wait."""
        with self._lock:
            self._reports = queued(self._reports, patch)[-_MAX_WAITING_REPORTS:]
        self._doorbell.set()

    def close(self) -> None:
        """End `run`, unless it is inside `tell`."""
        self._closed.set()
        self._doorbell.set()

    def run(self, calls: TwinCalls) -> None:
        """Answer the doorbell until closed. Raises TooManyUnanswered when only a new process can help."""
        pause_s = _PAUSE_S
        while True:
            self._doorbell.wait()
            if self._closed.is_set():
                return
            self._doorbell.clear()
            if not calls.connected():
                continue  # what is wanted stays wanted, and the next connection rings
            try:
                self._answer(calls)
                pause_s = _PAUSE_S
            except TooManyUnanswered:
                raise
            except Exception as error:
                logger.warning("twin: trying again: %s", one_line(error))
                self._closed.wait(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                self._doorbell.set()

    def _answer(self, calls: TwinCalls) -> None:
        if self._wanted:
            rung = self._rung or mono_ns()
            self._wanted, self._rung = False, None
            try:
                twin = self._ask("get_twin", calls.get)
            except Exception:
                self._wanted, self._rung = True, rung
                raise
            self._hand_over(twin, rung)
        while (patch := self._take_report()) is not None:
            self._send_report(calls, patch)

    def _hand_over(self, twin: Mapping[str, Any], rung: int) -> None:
        try:
            self._tell(Twin(twin.get("desired") or {}, twin.get("reported") or {}, rung))
        except Exception:  # what the twin says must not end the one thread that reads it
            logger.exception("twin: the module failed on desired $version %s", _version(twin))

    def _take_report(self) -> Patch | None:
        """The oldest patch, out of the queue: one under way must not grow."""
        with self._lock:
            if not self._reports:
                return None
            patch, *rest = self._reports
            self._reports = tuple(rest)
            return patch

    def _send_report(self, calls: TwinCalls, patch: Patch) -> None:
        try:
            self._ask("reported patch", functools.partial(calls.patch, patch))
        except Exception as error:
            status = _status(error)
            if status is None or not 400 <= status < 429:
                self._put_back((patch,))
                raise
            if len(patch) > 1:  # one wrong section must not take the others with it
                self._put_back(split(patch))
            else:
                logger.error("twin: the hub refused reported %s: status %d", ", ".join(patch), status)

    def _put_back(self, patches: tuple[Patch, ...]) -> None:
        with self._lock:
            *first, last = patches
            self._reports = (*first, *_joined(last, self._reports))

    def _ask(self, what: str, call: Callable[[], Any]) -> Any:
        if self._asked is None:
            self._asked = self._silence.begin(f"answer to {what}", time.monotonic())
        try:
            result = self._asker.ask(what, call, self._timeout_s)
        except NoAnswer:
            raise  # still counting: later requests without an answer make one silence with this
        except Exception:
            self._answered()  # an error is an answer
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        if self._asked is not None:
            self._silence.end(self._asked)
            self._asked = None


def _joined(first: Patch, rest: tuple[Patch, ...]) -> tuple[Patch, ...]:
    patches: tuple[Patch, ...] = (first,)
    for patch in rest:
        patches = queued(patches, patch)
    return patches


def _status(error: BaseException | None) -> int | None:
    while error is not None:
        if (found := _STATUS.search(str(error))) is not None:
            return int(found[1])
        error = error.__cause__
    return None


def _version(twin: Mapping[str, Any]) -> object:
    desired = twin.get("desired")
    return desired.get("$version") if isinstance(desired, Mapping) else None
