"""Scenario `ledger`: compare the modules' stage times with the time stamps of the hub.

The hub shares no code with the modules, so it is the witness: its time is from a frame's capture to the stamp
on the stored prediction. The total of a frame's stages ends a moment later, with the PUBACK. Both are in
`upstream.jsonl`, and the scenario compares them frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.waiting import objects, until, whole_lines
from twinship.demo.report import FrameKey, Upstream, frame_key, read_upstream

FPS: Final = 50.0
FRAMES: Final = 1_000
DONE_S: Final = 120.0
MAX_DIFFERENCE_MS: Final = 0.5
MAX_OUTSIDE: Final = 0.01  # share of the frames; the camera reads its two clocks one after the other
#: The hub's stamps are whole milliseconds, rounded down: half a millisecond is missing on average.
STAMP_MS: Final = 0.5


@dataclass(frozen=True)
class Agreement:
    """The comparison for one run. Times in ms, medians over the frames."""

    frames: int
    witness_ms: float  # captured → stored at the hub, by the hub's stamp
    ledger_ms: float  # captured → PUBACK, the sum of a frame's stages
    windowed: int  # frames that the windows of the latency messages count in their totals
    without_publish: int  # answered frames whose publish time is in no message
    wall: int  # frames whose stages are not all measured on one monotonic clock
    outside: int  # frames that the hub stored before their answer or after its PUBACK

    @property
    def difference_ms(self) -> float:
        """The ledger's time less the witness's."""
        return self.ledger_ms - self.witness_ms

    def to_json(self) -> dict[str, Any]:
        """The entry in the report."""
        rounded = {name: round(value, 3) for name, value in vars(self).items()}
        return rounded | {"difference_ms": round(self.difference_ms, 3), "missed": shortcomings(self)}


def measure(bench: Bench) -> Mapping[str, Any]:
    """The comparison; `missed` lists the disagreements."""
    return run(bench, FRAMES).to_json()


def run(bench: Bench, frames: int) -> Agreement:
    """Send so many frames over the real path until each is answered."""
    desired: dict[str, dict[str, Any]] = {
        "camera_sim": {"camera": {"fps": FPS, "frames": frames, "paused": True}},
        "inference": {
            "inference": {"overload": "all"},
            "telemetry": {"predictions": "all", "intervalSeconds": 1},
        },
    }
    with Rig(RigSettings(bench.folder / "rig", bench.pictures, desired)) as rig:
        rig.start()
        rig.publish(bench.models[0])
        bench.progress(f"{frames} frames", 0.2)
        rig.patch("camera_sim", {"camera": {"paused": False}})
        until(
            lambda: len(read_upstream(whole_lines(rig.upstream)).answers) >= frames,
            DONE_S,
            "every frame's answer",
        )
        rig.stop()
        return compare(whole_lines(rig.upstream))


def compare(upstream: Iterable[str]) -> Agreement:
    """Compare both times of the same frames."""
    lines = list(upstream)
    known, witnessed = read_upstream(lines), dict(_witnessed(lines))
    totals = _totals(known)
    bodies = [message["Body"] for message in objects(lines)]
    windows = [body["stages_ms"] for body in bodies if body.get("schema") == "twinship.latency.v1"]
    clocks = [body["clock"] for body in bodies if body.get("schema") == "twinship.prediction.v1"]
    return Agreement(
        frames=len(witnessed),
        witness_ms=median(list(witnessed.values())) + STAMP_MS,
        ledger_ms=median(list(totals.values())),
        windowed=sum(int(stages["total"]["count"]) for stages in windows if "total" in stages),
        without_publish=len(witnessed.keys() - totals.keys()),
        wall=sum(clock != "monotonic" for clock in clocks),
        outside=sum(
            not totals[key] - known.publish_ms[key] - 2 * STAMP_MS <= witnessed[key] <= totals[key]
            for key in totals
        ),
    )


def shortcomings(found: Agreement) -> list[str]:
    """Each disagreement, one line."""
    lines = []
    if abs(found.difference_ms) > MAX_DIFFERENCE_MS:
        lines.append(f"the ledger's p50 differs from the hub's by {found.difference_ms:+.2f} ms")
    if found.without_publish:
        lines.append(f"no message has the publish time of {found.without_publish} answers")
    if found.windowed != found.frames:
        lines.append(f"the windows count {found.windowed} frames, but {found.frames} are upstream")
    if found.outside > MAX_OUTSIDE * found.frames:
        lines.append(f"{found.outside} frames were stored before their answer or after its PUBACK")
    if found.wall:
        lines.append(f"{found.wall} frames were timed by wall clocks")
    return lines


def _totals(known: Upstream) -> dict[FrameKey, float]:
    return {
        answer.key: sum(answer.stages_ms.values()) + known.publish_ms[answer.key]
        for answer in known.answers
        if answer.key in known.publish_ms
    }


def _witnessed(lines: Iterable[str]) -> Iterator[tuple[FrameKey, float]]:
    """Each frame with the ms from its capture to the hub's stamp on its prediction."""
    for message in objects(lines):
        body = message["Body"]
        if body.get("schema") == "twinship.prediction.v1":
            stored = datetime.fromisoformat(message["EnqueuedTimeUtc"]).timestamp()
            yield frame_key(body["frame"]), stored * 1e3 - body["captured"] / 1e6
