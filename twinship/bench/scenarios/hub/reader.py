"""A reader of the Event Hub-compatible endpoint as a process: azure-eventhub, as `twinship monitor` has it.

    python -m twinship.bench.scenarios.hub.reader < task.json

The first line on stdout is READY: from then on it gets every event. After `count` events it writes a line of
JSON: events per second from the first to the last, and their lag in ms, from the making of the message to
the reader's hands.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Self

from twinship.bench.scenarios.hub.hop import PATIENCE_S, sent_at
from twinship.fleet import FleetError
from twinship.fleet.monitor.event_hub import TICK_S, Event, Reader, parse

READY: Final = "ready"


@dataclass(frozen=True)
class Reading:
    """What to read. `start`: "now" or "start"."""

    connection_string: str
    ca: str
    start: str
    count: int

    def to_json(self) -> str:
        """The text for the process's stdin, which keeps the key off the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the result of to_json."""
        return cls(**json.loads(text))


def figures(events: Iterable[Event | None], count: int) -> dict[str, float]:
    """Read so many events. Raises FleetError if none arrives for PATIENCE_S."""
    lags: list[int] = []
    first = last = time.monotonic_ns()
    silent_s = 0.0
    for event in events:
        if event is None:
            silent_s += TICK_S
            if silent_s > PATIENCE_S:
                raise FleetError(f"{len(lags)} of {count} events arrived")
            continue
        silent_s, last = 0.0, time.monotonic_ns()
        first = first if lags else last
        lags.append(last - sent_at(event.body))
        if len(lags) == count:
            break
    lags.sort()
    return {
        "per_s": round((count - 1) / (last - first) * 1e9),
        "lag_p50_ms": round(lags[count // 2] / 1e6, 1),
        "lag_p99_ms": round(lags[count * 99 // 100] / 1e6, 1),
    }


def main() -> None:
    """Read as stdin says."""
    task = Reading.from_json(sys.stdin.read())
    endpoint = parse(task.connection_string, task.ca, "service.env")
    with Reader(endpoint, "$Default", task.start, {}, _warn) as events:
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        sys.stdout.write(json.dumps(figures(events, task.count)))


def _warn(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    try:
        main()
    except FleetError as error:
        sys.exit(f"reader: {error}")
