"""Counts the answers upstream while frames are sent, on its own thread."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from threading import Condition, Event, Thread

from twinship.demo.report import percentile
from twinship.demo.show import Live
from twinship.fleet.monitor import Follower, Latency, Prediction

NEWEST = 100  # frames in the live percentile


class Watch:
    """Follows `upstream.jsonl` from its beginning."""

    def __init__(self, upstream: Path) -> None:
        self._changed = Condition()
        self.closed = False  # the inference module has sent its closing message
        self._answered: set[tuple[str, str, int]] = set()
        self._version = ""
        self._answer_ms: deque[float] = deque(maxlen=NEWEST)
        self._stop = Event()
        self._follower = Follower(upstream, stop=self._stop, from_start=True)
        self._thread = Thread(target=self._follow, name="watch", daemon=True)
        self._thread.start()

    def live(self) -> Live:
        """The current numbers."""
        with self._changed:
            p50 = percentile(tuple(self._answer_ms), 50) if self._answer_ms else None
            return Live(len(self._answered), self._version, p50)

    def wait_more(self, than: int, timeout_s: float) -> bool:
        """Wait until more than so many frames are answered; False after the time-out."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._answered) > than, timeout_s)

    def wait_version(self, version: str, timeout_s: float) -> bool:
        """Wait until this model version gave the newest answer; False after the time-out."""
        with self._changed:
            return self._changed.wait_for(lambda: self._version == version, timeout_s)

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait until the inference module has sent its closing message; False after the time-out."""
        with self._changed:
            return self._changed.wait_for(lambda: self.closed, timeout_s)

    def close(self) -> None:
        """Read the rest of the file, then stop."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        for message in self._follower:
            with self._changed:
                if isinstance(message, Prediction):
                    self._answered.add((message.camera, message.run, message.seq))
                    self._version = message.model.partition(":")[2]
                    self._answer_ms.append(sum(message.stages_ms.values()))
                elif isinstance(message, Latency):
                    self.closed = message.closing
                self._changed.notify_all()
