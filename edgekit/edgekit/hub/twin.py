"""The module twin: reads it whole after each notification, and sends reported patches.

The SDK's calls are passed in, so this needs no connection. Each call may raise, or never return.
"""

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
# A change of model makes several reports within milliseconds, and each patch takes time from the frames, here
# and in edgeHub.
_GATHER_S = 0.05
_PAUSE_S, _MAX_PAUSE_S = 0.5, 10.0
_STATUS = re.compile(r"twin operation returned status (\d{3})")  # the SDK reports it only as text (ref 2.6)


@dataclass(frozen=True)
class Twin:
    """The whole twin of the module; each half holds its `$version`."""

    desired: Mapping[str, Any]
    reported: Mapping[str, Any]
    #: CLOCK_MONOTONIC ns of the notification that this read answers
    notified_ns: int = field(default_factory=mono_ns, compare=False)


@dataclass(frozen=True)
class TwinCalls:
    """The calls of a connected client."""

    get: Callable[[], Mapping[str, Any]]
    patch: Callable[[Patch], None]
    connected: Callable[[], bool]


class TwinLink:
    """Reads the twin once for all notifications since the last read, and passes it to `on_twin`.

    Reports that follow each other within 50 ms are sent as one patch.
    """

    def __init__(
        self, on_twin: Callable[[Twin], None], watchdog: Watchdog, *, timeout_s: float, max_hanging: int
    ) -> None:
        self._on_twin = on_twin
        self._watchdog = watchdog
        self._timeout_s = timeout_s
        self._caller = BoundedCaller(max_hanging)
        self._unanswered: int | None = None  # the watchdog's number for the first request without an answer
        self._lock = Lock()
        self._wake = Event()
        self._read_due = True
        self._notified_ns: int | None = None  # the first notification since the last read
        self._closed = Event()
        self._in_a_hurry = Event()  # reports are sent at once: the module stops
        self._reports: tuple[Patch, ...] = ()
        self._all_sent = Event()
        self._all_sent.set()

    def notify(self) -> None:
        """The twin may have changed: read it."""
        if self._notified_ns is None:
            self._notified_ns = mono_ns()
        self._read_due = True
        self._wake.set()

    def report(self, patch: Mapping[str, Any]) -> None:
        """Queue a reported patch. It may be merged with patches in the queue."""
        with self._lock:
            self._reports = queued(self._reports, patch)[-_MAX_WAITING_REPORTS:]
            self._all_sent.clear()
        self._wake.set()

    def wait_sent(self, timeout_s: float) -> None:
        """From now on send reports at once; wait until the hub has answered all of them."""
        self._in_a_hurry.set()
        self._all_sent.wait(timeout_s)

    def close(self) -> None:
        """End `run`, unless it is inside `on_twin`."""
        self._in_a_hurry.set()
        self._closed.set()
        self._wake.set()

    def run(self, calls: TwinCalls) -> None:
        """Read the twin and send patches until closed. Raises TooManyUnanswered: restart the process."""
        pause_s = _PAUSE_S
        while True:
            self._wake.wait()
            if self._closed.is_set():
                return
            self._wake.clear()
            if not calls.connected():
                continue  # nothing is forgotten, and the next connection notifies
            try:
                self._read_and_report(calls)
                pause_s = _PAUSE_S
            except TooManyUnanswered:
                raise
            except Exception as error:
                logger.warning("twin: trying again: %s", one_line(error))
                self._closed.wait(pause_s)
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)
                self._wake.set()

    def _read_and_report(self, calls: TwinCalls) -> None:
        if self._read_due:
            notified_ns = self._notified_ns or mono_ns()
            self._read_due, self._notified_ns = False, None
            try:
                twin = self._call("get_twin", calls.get)
            except Exception:
                self._read_due, self._notified_ns = True, notified_ns
                raise
            self._pass_on(twin, notified_ns)
        if self._reports:
            self._in_a_hurry.wait(_GATHER_S)
        while (patch := self._take_report()) is not None:
            self._send_report(calls, patch)

    def _pass_on(self, twin: Mapping[str, Any], notified_ns: int) -> None:
        try:
            self._on_twin(Twin(twin.get("desired") or {}, twin.get("reported") or {}, notified_ns))
        except Exception:  # the content of one twin must not end the thread that reads all twins
            logger.exception("twin: the module failed on desired $version %s", _version(twin))

    def _take_report(self) -> Patch | None:
        """Remove the oldest patch from the queue: nothing may be merged into a patch that is being sent."""
        with self._lock:
            if not self._reports:
                self._all_sent.set()
                return None
            patch, *rest = self._reports
            self._reports = tuple(rest)
            return patch

    def _send_report(self, calls: TwinCalls, patch: Patch) -> None:
        try:
            self._call("reported patch", functools.partial(calls.patch, patch))
        except Exception as error:
            status = _status(error)
            if status is None or not 400 <= status < 429:
                self._put_back((patch,))
                raise
            if len(patch) > 1:  # one invalid section must not block the others
                self._put_back(split(patch))
            else:
                logger.error("twin: the hub refused reported %s: status %d", ", ".join(patch), status)

    def _put_back(self, patches: tuple[Patch, ...]) -> None:
        with self._lock:
            self._reports = (*patches[:-1], *functools.reduce(queued, self._reports, patches[-1:]))

    def _call(self, name: str, function: Callable[[], Any]) -> Any:
        if self._unanswered is None:
            self._unanswered = self._watchdog.begin(f"answer to {name}", time.monotonic())
        try:
            result = self._caller.call(name, function, self._timeout_s)
        except NoAnswer:
            raise  # the watchdog goes on counting: later requests without an answer continue this wait
        except Exception:
            self._answered()  # an error is an answer
            raise
        self._answered()
        return result

    def _answered(self) -> None:
        if self._unanswered is not None:
            self._watchdog.end(self._unanswered)
            self._unanswered = None


def _status(error: BaseException | None) -> int | None:
    while error is not None:
        if (found := _STATUS.search(str(error))) is not None:
            return int(found[1])
        error = error.__cause__
    return None


def _version(twin: Mapping[str, Any]) -> object:
    desired = twin.get("desired")
    return desired.get("$version") if isinstance(desired, Mapping) else None
