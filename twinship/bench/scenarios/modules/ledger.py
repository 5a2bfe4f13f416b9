"""Scenario `ledger`: does what the modules say of a frame's time agree with a witness that shares no code?

The witness is the hub: when it stored a prediction, less when its frame was captured. The ledger's total ends
a moment later, with the PUBACK. Both are read from `upstream.jsonl`; the accounting is judged frame by frame.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.waiting import lines, until
from twinship.demo.report import FrameKey, Upstream, percentile, read_upstream

FPS: Final = 50.0
FRAMES: Final = 1_000
DONE_S: Final = 120.0
MAX_DIFFERENCE_MS: Final = 0.5
MAX_OUTSIDE: Final = 0.01  # share of frames; the camera reads its two clocks one after the other
#: IoT Hub's storage stamps whole milliseconds, cut off: half of one is missing on average.
STAMP_MS: Final = 0.5


@dataclass(frozen=True)
class Agreement:
    """Of one run. Times in ms, medians over the frames."""

    frames: int
    witness_ms: float  # captured → stored at the hub, by the hub's stamp
    ledger_ms: float  # captured → PUBACK, the sum of a frame's stages
    windowed: int  # frames that the latency messages have counted in their windows' totals
    untold: int  # answered frames whose publish no message told
    wall: int  # frames whose stages are not all of one monotonic clock
    outside: int  # frames that the hub did not store between their answer and its PUBACK

    @property
    def difference_ms(self) -> float:
        """By how much the ledger says more."""
        return self.ledger_ms - self.witness_ms

    def to_json(self) -> dict[str, Any]:
        """As the report holds it."""
        rounded = {name: round(value, 3) for name, value in vars(self).items()}
        return rounded | {"difference_ms": round(self.difference_ms, 3), "missed": shortcomings(self)}


def measure(bench: Bench) -> Mapping[str, Any]:
    """The value of `ledger` in the report; what does not hold stands there under `missed`."""
    return run(bench, FRAMES).to_json()


def run(bench: Bench, frames: int) -> Agreement:
    """So many frames over the real path, every one answered."""
    desired: dict[str, dict[str, Any]] = {
        "camera_sim": {"camera": {"fps": FPS, "frames": frames, "paused": True}},
        "inference": {
            "inference": {"overload": "all"},
            "telemetry": {"predictions": "all", "intervalSeconds": 1},
        },
    }
    with Rig(RigSettings(bench.folder / "rig", bench.pictures, desired)) as rig:
        rig.simulator.start_modules()
        rig.publish(bench.models[0])
        bench.progress(f"{frames} frames", 0.2)
        rig.patch("camera_sim", {"camera": {"paused": False}})
        until(
            lambda: len(read_upstream(lines(rig.upstream)).answers) >= frames, DONE_S, "every frame's answer"
        )
        rig.simulator.stop_modules()
        return compare(lines(rig.upstream))


def compare(upstream: Iterable[str]) -> Agreement:
    """The two accounts of the same frames."""
    told = list(upstream)
    known, witnessed = read_upstream(told), dict(_witnessed(told))
    totals = _totals(known)
    bodies = [json.loads(line)["Body"] for line in told]
    windows = [body["stages_ms"] for body in bodies if body.get("schema") == "twinship.latency.v1"]
    clocks = [body["clock"] for body in bodies if body.get("schema") == "twinship.prediction.v1"]
    return Agreement(
        frames=len(witnessed),
        witness_ms=percentile(list(witnessed.values()), 50) + STAMP_MS,
        ledger_ms=percentile(list(totals.values()), 50),
        windowed=sum(int(stages["total"]["count"]) for stages in windows if "total" in stages),
        untold=len(witnessed.keys() - totals.keys()),
        wall=sum(clock != "monotonic" for clock in clocks),
        outside=sum(
            not totals[key] - known.publish_ms[key] - 2 * STAMP_MS <= witnessed[key] <= totals[key]
            for key in totals
        ),
    )


def shortcomings(found: Agreement) -> list[str]:
    """Where the two accounts differ, one line each."""
    said = []
    if abs(found.difference_ms) > MAX_DIFFERENCE_MS:
        said.append(f"the ledger's p50 is {found.difference_ms:+.2f} ms off the hub's")
    if found.untold:
        said.append(f"no message told how long {found.untold} answers took to be stored")
    if found.windowed != found.frames:
        said.append(f"the windows count {found.windowed} frames, upstream are {found.frames}")
    if found.outside > MAX_OUTSIDE * found.frames:
        said.append(f"{found.outside} frames were stored before their answer or after its PUBACK")
    if found.wall:
        said.append(f"{found.wall} frames were timed by wall clocks")
    return said


def _totals(known: Upstream) -> dict[FrameKey, float]:
    return {
        answer.key: sum(answer.stages_ms.values()) + known.publish_ms[answer.key]
        for answer in known.answers
        if answer.key in known.publish_ms
    }


def _witnessed(upstream: Iterable[str]) -> Iterable[tuple[FrameKey, float]]:
    """ms from each frame's capture to the hub's stamp on its prediction."""
    for line in upstream:
        message = json.loads(line)
        body = message["Body"]
        if body.get("schema") == "twinship.prediction.v1":
            stored = datetime.fromisoformat(message["EnqueuedTimeUtc"]).timestamp()
            frame = body["frame"]
            key = (str(frame["camera"]), str(frame["run"]), int(frame["seq"]))
            yield key, stored * 1e3 - body["captured"] / 1e6
