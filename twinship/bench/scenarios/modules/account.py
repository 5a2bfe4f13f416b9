"""What became of every frame that the hub stored, from two ledgers and one counter of the hub. Pure.

The sum is `twinship.demo.report`'s; here the frames that expired in the hub, which only the hub can know, are taken
out of what is left over.
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
    dropped: Mapping[str, int]  # by inference, by reason
    expired: int  # outlived their route's time to live in the hub
    waiting: int  # still there when it was looked at
    uncounted: int  # below 0: something was counted twice
    repeats: int

    def to_json(self) -> dict[str, Any]:
        """As a report holds it."""
        return asdict(self)


def account(sent: Iterable[str], upstream: Iterable[str], *, expired: int, waiting: int) -> Account:
    """From the lines of `sent.jsonl` and `upstream.jsonl`, and the hub's own counts."""
    summary = summarise("", read_sent(sent), read_upstream(upstream))
    # Gaps in the camera's sequence were never stored: refused by its own outbox, so no frames of this sum.
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
