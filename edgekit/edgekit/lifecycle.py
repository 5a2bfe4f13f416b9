"""A module's life from start to exit; what the module does in between is its own."""

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

EXIT_STUCK = (
    75  # EX_TEMPFAIL: the restart policy starts us again, and the last good model loads in under a second
)
EXIT_FAILED = 1
_DRAIN_S = 2.0
_CLOSE_S = 1.0


class _Hub(Protocol):
    """What a life needs of edgekit.hub.connection.Hub; tests bring their own."""

    stuck: threading.Event
    stuck_reason: str

    def start(self) -> None: ...
    def wait_sent(self, timeout_s: float) -> int: ...
    def close(self, timeout_s: float) -> None: ...


def run_module(
    hub: _Hub, *, start: Callable[[], None], stop: Callable[[float], Mapping[str, int]]
) -> NoReturn:
    """Start the module and the hub; on SIGTERM, SIGINT or a hub that is stuck, stop and leave the process.

    The module is started first: inputs must find it ready. `stop` is given the seconds it may take (2) and
    returns what was left undone, by name, for the last log line. For the main thread; never returns.
    Exit status 0, EXIT_STUCK, or 1 if `start` raises.
    """
    woken: SimpleQueue[str] = SimpleQueue()  # its put() may be called from a signal handler
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: woken.put(signal.Signals(received).name))
    try:
        start()
        hub.start()
    except Exception as error:
        logger.error("not started: %s", one_line(error), exc_info=error)
        _leave(EXIT_FAILED)
    threading.Thread(target=_wait_stuck, args=(hub, woken), name="life-stuck", daemon=True).start()
    # What lives as long as the process need not be looked at by each full collection, amid the frames.
    gc.collect()
    gc.freeze()
    logger.info("started")
    why = woken.get()
    left = _stop(hub, stop)
    if hub.stuck.is_set():
        logger.error("stopped: %s; restart me", hub.stuck_reason, extra={"left": left})
        _leave(EXIT_STUCK)
    logger.info("stopped: %s", why, extra={"left": left})
    _leave(0)


def _wait_stuck(hub: _Hub, woken: "SimpleQueue[str]") -> None:
    hub.stuck.wait()
    woken.put("stuck")


def _stop(hub: _Hub, stop: Callable[[float], Mapping[str, int]]) -> dict[str, int]:
    """Stop intake and drain within 2 s, close within 1 s, whatever the module and the SDK do meanwhile."""
    deadline = time.monotonic() + _DRAIN_S
    left: dict[str, int] = {}

    def drain() -> None:
        try:
            left.update(stop(_DRAIN_S))
        except Exception:
            logger.exception("the module failed while stopping")

    draining = threading.Thread(target=drain, name="life-drain", daemon=True)
    draining.start()
    draining.join(_DRAIN_S)
    patience_s = 0.0 if hub.stuck.is_set() else max(0.0, deadline - time.monotonic())
    unsent = hub.wait_sent(patience_s)
    hub.close(_CLOSE_S)
    return {**left, "unsent": unsent}


def _leave(status: int) -> NoReturn:
    """End the process. The SDK's threads are no daemons and would hold a normal exit for a minute."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
