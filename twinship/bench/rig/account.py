"""Where every frame of a run has ended, also of a run with kills.

A frame of the run is in the camera's send log, or it was answered: a camera that is killed between a PUBACK
and its send log leaves a stored frame without a line. Messages that arrive twice count once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from twinship.demo.report import FrameKey, frame_key, lost_frames

LOST_IN_RESTART = "lost_in_restart"


@dataclass(frozen=True)
class Account:
    """frames = answered + dropped + lost_in_restart + expired + waiting + lost - counted_twice."""

    frames: int
    answered: int
    dropped: Mapping[str, int]  # reason → frames that inference dropped
    lost_in_restart: int  # inference had received them when it was killed
    expired: int  # in the hub, at the end of their route's time to live
    waiting: int  # still in the hub at the end
    lost: int  # in no count
    counted_twice: int
    repeats: int  # answers that arrived again, and frames that inference received again
    unlogged: int  # answered, and not in the send log of a killed camera

    def to_json(self) -> dict[str, Any]:
        """The entry in the report."""
        return asdict(self)


def account(sent: Iterable[str], upstream: Iterable[str], *, expired: int, waiting: int) -> Account:
    """Add up the lines of `sent.jsonl` and `upstream.jsonl`, without partial ones, and the hub's two counts.

    >>> account([], [], expired=0, waiting=0).lost
    0
    """
    logged = {frame_key(each) for each in _whole(sent)}
    answered: set[FrameKey] = set()
    answers = 0
    counters: dict[str, Mapping[str, Any]] = {}  # inference process → its newest `latency` message
    lost: set[FrameKey] = set()  # that killed inference processes had in hand
    for message in _whole(upstream):
        body = message["Body"]
        schema = body.get("schema") if isinstance(body, dict) else None
        if schema == "twinship.latency.v1":
            counters[str(body["instance"])] = body
            lost.update(lost_frames(body))
        elif schema in ("twinship.prediction.v1", "twinship.predictions.v1"):
            keys = [frame_key(each["frame"]) for each in body.get("predictions", [body])]
            answers += len(keys)
            answered.update(keys)
    dropped: dict[str, int] = {}
    for body in counters.values():
        for reason, count in {**body["dropped"], LOST_IN_RESTART: _lost_in_restart(body)}.items():
            dropped[reason] = dropped.get(reason, 0) + int(count)
    # A killed process may have sent the answer and not seen its PUBACK: the answer counts.
    dropped[LOST_IN_RESTART] = dropped.get(LOST_IN_RESTART, 0) - len(lost & answered)
    frames = len(logged | answered)
    rest = frames - len(answered) - sum(dropped.values()) - expired - waiting
    return Account(
        frames=frames,
        answered=len(answered),
        lost_in_restart=dropped.pop(LOST_IN_RESTART, 0),
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        expired=expired,
        waiting=waiting,
        lost=max(0, rest),
        counted_twice=max(0, -rest),
        repeats=answers - len(answered) + sum(int(body["repeats"]) for body in counters.values()),
        unlogged=len(answered - logged),
    )


def _whole(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The objects in these lines. A line that a kill cut is left out, at the end or before a later line."""
    for line in lines:
        with suppress(ValueError):
            if line.endswith("\n") and isinstance(found := json.loads(line), dict):
                yield found


def _lost_in_restart(body: Mapping[str, Any]) -> int:
    return int(body.get(LOST_IN_RESTART, body["dropped"].get(LOST_IN_RESTART, 0)))


def shortcomings(frames: Mapping[str, Any]) -> list[str]:
    """A line for frames of an account that are in no count or in two."""
    texts = {"lost": "are in no count", "counted_twice": "are counted twice"}
    return [f"{frames[name]} frames {text}" for name, text in texts.items() if frames[name]]
