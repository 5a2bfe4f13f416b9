"""What the camera reports about itself: `cameraStatus` in the twin, and its metrics."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from prometheus_client import Counter, Gauge

from camera_sim.selector import Selector
from camera_sim.sources.picture import State

_FRAMES = Counter("camera_frames", "Frames by outcome", ["outcome"])
# Looked up once: finding a label's counter takes longer than counting, and every frame is counted twice.
SENT, DROPPED, STORED, REFUSED = map(_FRAMES.labels, ("sent", "dropped", "stored", "refused"))
_SOURCE_LOSSES = Gauge("camera_source_losses", "How often the source was lost")
_SOURCE_STREAMING = Gauge("camera_source_streaming", "1 while the source gives pictures, else 0")


@dataclass
class Counts:
    """Frames of this run: taken = stored + dropped + not yet acknowledged by the hub."""

    taken: int = 0
    sent: int = 0  # accepted by the outbox
    stored: int = 0
    dropped: int = 0  # refused by the outbox
    refused: int = 0  # pictures that cannot be encoded; they do not become frames


@dataclass(frozen=True)
class Pace:
    """What is in force now: by the twin, or by a direct method since."""

    paused: bool
    fps: float


def camera_status(
    run: str, counts: Counts, sources: Selector, pace: Pace, refusal: str, *, done: bool
) -> dict[str, Any]:
    """The section `cameraStatus`."""
    shown = asdict(counts)
    del shown["taken"]
    state = sources.state
    _SOURCE_LOSSES.set(sources.losses)
    _SOURCE_STREAMING.set(state.name == "streaming")
    return {
        "run": run,
        **asdict(pace),
        **shown,
        "unreadable": sources.unreadable,
        "source": str(sources),
        "state": {"name": state.name, **_since(state), "lost": sources.losses},
        "refusal": refusal or None,
        "done": done,
    }


def camera_event(name: str, run: str, sources: Selector, pace: Pace) -> dict[str, Any]:
    """The body of the event `camera`. Neither source nor reason holds a password."""
    state = sources.state
    source = {"source": str(sources), "lost": sources.losses}
    return {"camera": name, "run": run, "state": state.name, **_since(state), **source, **asdict(pace)}


def _since(state: State) -> dict[str, str | None]:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(state.since // 10**9)) if state.since else None
    return {"reason": state.reason or None, "since": since}
