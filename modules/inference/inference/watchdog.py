"""Watches the frame in hand and the model that is being loaded: neither may take without limit.

If an invoke does not return within ten times its latency budget (at least 5 s), the model's hang is written
to disk and the process must end: no thread can be stopped in native code. The next process withdraws the
model. A load that does not return ends the process too; its attempt, which is on disk, counts against the
model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Final

from edgekit.health_file import HealthFile
from inference.invoke_mark import InvokeMark
from inference.models.installer import Running

INVOKE_BUDGETS: Final = 10
INVOKE_FLOOR_S: Final = 5.0
LOAD_S: Final = 60.0
OTHER_S: Final = 60.0  # the frame in hand outside the model: decoding, publishing
TICK_S: Final = 0.5


def invoke_limit_s(budget_ms: float, floor_s: float = INVOKE_FLOOR_S) -> float:
    """How long an invoke may take.

    >>> invoke_limit_s(20), invoke_limit_s(2_000)
    (5.0, 20.0)
    """
    return max(floor_s, INVOKE_BUDGETS * budget_ms / 1e3)


@dataclass
class Stopwatch:
    """How long the same task is in hand. A task is any object; each begin makes a new one.

    A look that comes late counts as two ticks at most: a process that was stopped or starved is not stuck.

    >>> watch, task = Stopwatch(tick_s=1.0), object()
    >>> [watch.look(task, at) for at in (0.0, 1.0, 2.0, 60.0)]
    [0.0, 1.0, 2.0, 4.0]
    >>> watch.look(object(), 61.0)
    0.0
    """

    tick_s: float = TICK_S
    _task: object = field(default=None, init=False)
    _took_s: float = field(default=0.0, init=False)
    _looked_s: float = field(default=0.0, init=False)

    def look(self, task: object, now_s: float) -> float:
        """Return the seconds so far; `now_s` is CLOCK_MONOTONIC."""
        same = task is not None and task is self._task
        self._took_s = self._took_s + min(now_s - self._looked_s, 2 * self.tick_s) if same else 0.0
        self._task, self._looked_s = task, now_s
        return self._took_s


class Watchdog:
    """The worker says what it does; the thread "watchdog" looks twice a second."""

    def __init__(
        self,
        mark: InvokeMark | None = None,
        *,
        budget_ms: Callable[[Running], float] = lambda running: running.manifest.latencyBudgetMs,
        loading: Callable[[], object | None] = lambda: None,
        on_stuck: Callable[[str], None] = lambda reason: None,
        health_file: Path | None = None,
        floor_s: float = INVOKE_FLOOR_S,
    ) -> None:
        """`loading` returns the load in progress; `on_stuck` gets the reason and must end the process.

        `health_file` is touched as long as nothing is stuck, for the HEALTHCHECK of the image.
        """
        self._mark = mark or InvokeMark(None)
        self._budget_ms = budget_ms
        self._loading = loading
        self._on_stuck = on_stuck
        self._health_file = HealthFile(health_file)
        self._floor_s = floor_s
        self._tick_s = min(TICK_S, floor_s / 4)
        self._task: list[Running | None] | None = None  # a new list for each task
        self._frame, self._load = Stopwatch(self._tick_s), Stopwatch(self._tick_s)
        self.in_hand_s = 0.0  # how long the frame in hand has taken, at the last look

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    # -- called by the worker thread

    def working(self) -> None:
        """A frame is in hand; no model runs on it yet, or any more."""
        self._task = [None]

    def invoking(self, running: Running) -> None:
        """An invoke of this model begins."""
        self._mark.begin(running.ref.sha256)
        self._task = [running]

    def returned(self) -> None:
        """The invoke returned or raised."""
        self._mark.end()
        self._task = [None]

    def resting(self) -> None:
        """No frame is in hand."""
        self._task = None

    # -- the thread

    def look(self, now_s: float) -> str:
        """Return why the process must end, or an empty text. The hang of a model is on disk then."""
        task = self._task
        self.in_hand_s = self._frame.look(task, now_s)
        if task is not None:
            running = task[0]
            limit_s = OTHER_S if running is None else invoke_limit_s(self._budget_ms(running), self._floor_s)
            if self.in_hand_s >= limit_s and task is self._task:
                if running is None:
                    return f"the frame in hand took more than {limit_s:g} s outside the model"
                self._mark.hung(running.ref.sha256, limit_s)
                return f"model {running.ref}: an invoke did not return within {limit_s:g} s"
        if self._load.look(self._loading(), now_s) >= LOAD_S:
            return f"a model did not load within {LOAD_S:g} s"
        return ""

    def _run(self) -> None:
        pause = threading.Event()
        while not (reason := self.look(monotonic())):
            self._health_file.touch(monotonic_ns())
            pause.wait(self._tick_s)
        self._on_stuck(reason)
