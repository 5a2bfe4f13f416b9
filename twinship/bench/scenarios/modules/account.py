"""Where every frame that the hub stored has ended: from the send log, the messages upstream, and the hub.

`twinship.demo.report` does the sum. This adds the frames that expired in the hub, which only the hub counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from twinship.demo.report import read_sent, read_upstream, summarise


@dataclass(frozen=True)
class Account:
    """stored = answered + dropped by inference + expired + waiting + uncounted."""

    stored: int
    answered: int
    dropped: Mapping[str, int]  # reason → frames that inference dropped
    expired: int  # in the hub, at the end of their route's time to live
    waiting: int  # still in the hub at the end
    uncounted: int  # below 0: a frame was counted twice
    repeats: int

    def to_json(self) -> dict[str, Any]:
        """The entry in the report."""
        return asdict(self)


def account(sent: Iterable[str], upstream: Iterable[str], *, expired: int, waiting: int) -> Account:
    """Add up the lines of `sent.jsonl` and `upstream.jsonl` and the hub's two counts.

    >>> account([], [], expired=0, waiting=0).uncounted
    0
    """
    summary = summarise("", read_sent(sent), read_upstream(upstream))
    # "camera" counts gaps in the camera's sequence: frames that the hub has never stored.
    dropped = {reason: n for reason, n in summary.dropped_by_reason.items() if reason != "camera"}
    counted = summary.frames_answered + sum(dropped.values()) + expired + waiting
    return Account(
        stored=summary.frames_sent,
        answered=summary.frames_answered,
        dropped=dropped,
        expired=expired,
        waiting=waiting,
        uncounted=summary.frames_sent - counted,
        repeats=summary.repeats,
    )
