"""Runs a module from start to exit: signals, draining, exit status."""

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from typing import NoReturn, Protocol

from edgekit.log import one_line

logger = logging.getLogger(__name__)

EXIT_STUCK = 75  # EX_TEMPFAIL: edgeAgent's restart policy starts the module again
EXIT_FAILED = 1
_DRAIN_S = 2.0
_CLOSE_S = 1.0


class _Hub(Protocol):
    """The part of edgekit.hub.connection.Hub that this uses."""

    stuck: threading.Event
    stuck_reason: str

    def start(self) -> None: ...
    def wait_sent(self, timeout_s: float) -> int: ...
    def close(self, timeout_s: float) -> None: ...


def run_module(
    hub: _Hub, *, start: Callable[[], None], stop: Callable[[float], Mapping[str, int]]
) -> NoReturn:
    """Start the module and the hub; on SIGTERM, SIGINT or a stuck hub, stop both and exit.

    Call this from the main thread; it never returns. The module starts first, because messages may arrive as
    soon as the hub starts. `stop` gets its time-out (2 s) and returns counts of unfinished work for the last
    log line. Exit status: 0, EXIT_STUCK, or EXIT_FAILED if `start` raises.
    """
    reasons: SimpleQueue[str] = SimpleQueue()  # a signal handler may call its put()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: reasons.put(signal.Signals(received).name))
    try:
        start()
        hub.start()
    except Exception as error:
        logger.error("not started: %s", one_line(error), exc_info=error)
        _exit(EXIT_FAILED)
    threading.Thread(target=_wait_stuck, args=(hub, reasons), name="lifecycle-stuck", daemon=True).start()
    # Objects that live as long as the process are frozen: a full collection between two frames skips them.
    gc.collect()
    gc.freeze()
    logger.info("started")
    reason = reasons.get()
    left = _stop(hub, stop)
    if hub.stuck.is_set():
        logger.error("stopped: %s; restart me", hub.stuck_reason, extra={"left": left})
        _exit(EXIT_STUCK)
    logger.info("stopped: %s", reason, extra={"left": left})
    _exit(0)


def _wait_stuck(hub: _Hub, reasons: "SimpleQueue[str]") -> None:
    hub.stuck.wait()
    reasons.put("stuck")


def _stop(hub: _Hub, stop: Callable[[float], Mapping[str, int]]) -> dict[str, int]:
    """Drain within 2 s and close within 1 s, even if the module or the SDK hangs. Returns unfinished work."""
    deadline = time.monotonic() + _DRAIN_S
    left: dict[str, int] = {}

    def drain() -> None:
        try:
            left.update(stop(_DRAIN_S))
        except Exception:
            logger.exception("the module failed while stopping")

    draining = threading.Thread(target=drain, name="lifecycle-drain", daemon=True)
    draining.start()
    draining.join(_DRAIN_S)
    remaining_s = 0.0 if hub.stuck.is_set() else max(0.0, deadline - time.monotonic())
    unsent = hub.wait_sent(remaining_s)
    hub.close(_CLOSE_S)
    return {**left, "unsent": unsent}


def _exit(status: int) -> NoReturn:
    """End the process at once: the SDK's threads are no daemons and delay a normal exit by a minute."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
