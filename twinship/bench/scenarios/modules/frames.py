"""Frames through the whole path: camera, hub and inference as processes, in phases of one run.

Sets, waits and adds up both ledgers; what a figure is worth is `bars`'. A frame's time is captured → PUBACK
of its prediction, as the ledger of the inference module has it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from inference.frames.ledger import STAGES
from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import Latencies
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.demo.report import (
    Answer,
    FrameKey,
    Sent,
    Upstream,
    percentile,
    read_sent,
    read_upstream,
    summarise,
)

PATIENCE_S: Final = 60.0  # without one answer more: the run is over
POLL_S: Final = 0.1
WARM: Final[Mapping[str, Any]] = {"fps": 200}  # the probation of a new model is 50 frames, and all is cold
WARM_FRAMES: Final = 300
_RECORD: Final = b'"captured":'  # once in each prediction, alone or in a batch


@dataclass(frozen=True)
class Phase:
    """So many frames under these settings of the camera's twin section."""

    name: str
    frames: int
    camera: Mapping[str, Any]


@dataclass(frozen=True)
class Walked:
    """The frames of one phase, in order of seq."""

    totals_ms: tuple[float, ...]
    stages_ms: Mapping[str, tuple[float, ...]]
    seconds: float  # first captured → last PUBACK

    @property
    def per_s(self) -> float:
        """Frames in a second, end to end."""
        return round(len(self.totals_ms) / self.seconds, 1)

    def latencies(self) -> dict[str, Any]:
        """p50, p90, p99 in ms, how much p50 varied within the phase, and each stage's p50."""
        stages = {name: round(percentile(values, 50), 4) for name, values in self.stages_ms.items()}
        return {**Latencies(self.totals_ms).figures(), "stages_p50_ms": stages}


def walk_frames(
    bench: Bench, phases: Sequence[Phase], settings: RigSettings | None = None
) -> dict[str, Walked]:
    """Run the phases one after the other, and give the figures of each. Raises BenchFailed.

    Every frame must be answered exactly once: a figure of a run that lost or dropped one is none.
    """
    settings = settings or RigSettings(bench.folder / "rig", bench.pictures)
    settings = replace(settings, desired={**DESIRED, **settings.desired})
    with Rig(settings) as rig:
        rig.start()
        rig.publish(bench.models[0])
        drive(rig, [Phase("warm", WARM_FRAMES, WARM), *phases], bench.progress)
        rig.stop()
        sent, upstream = ledgers(rig)
    check_all_answered(sent, upstream)
    return _by_phase([Phase("warm", WARM_FRAMES, WARM), *phases], sent, upstream)


#: Before the modules start: nothing is dropped for being late, everything is told, the camera keeps a ledger.
DESIRED: Final[Mapping[str, Mapping[str, Any]]] = {
    "inference": {"inference": {"overload": "all"}, "telemetry": {"predictions": "all"}},
    "camera_sim": {"camera": {"paused": True, "ledger": True}},
}


def drive(rig: Rig, phases: Sequence[Phase], progress: Any) -> None:
    """Set each phase and wait until its last frame is answered. Raises BenchFailed after a long silence."""
    frames, counter = 0, Counter(rig.upstream)
    for place, phase in enumerate(phases):
        progress(f"{phase.name}: {phase.frames} frames", place / len(phases))
        frames += phase.frames
        rig.patch("camera_sim", {"camera": {"paused": False, **phase.camera, "frames": frames}})
        counter.wait(frames)


class Counter:
    """How many predictions are upstream, without parsing them: the cores are needed elsewhere."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self.count = 0

    def wait(self, frames: int) -> None:
        """Until so many are there. Raises BenchFailed when none comes any more."""
        last = time.monotonic()
        while self.count < frames:
            if self._read():
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE_S:
                raise BenchFailed(f"{self.count} of {frames} frames were answered, then none for a minute")
            time.sleep(POLL_S)

    def _read(self) -> int:
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            file.seek(self._position)
            whole = file.read()
        whole = whole[: whole.rfind(b"\n") + 1]
        self._position += len(whole)
        found = whole.count(_RECORD)
        self.count += found
        return found


def ledgers(rig: Rig) -> tuple[tuple[Sent, ...], Upstream]:
    """Both ledgers of a rig whose modules have ended."""
    sent = rig.settings.folder / "simulator" / "modules" / "camera_sim" / "sent.jsonl"
    with sent.open() as lines, rig.upstream.open() as upstream:
        return read_sent(lines), read_upstream(upstream)


def check_all_answered(sent: Sequence[Sent], upstream: Upstream) -> None:
    """Raise BenchFailed unless every frame that was stored is answered, once."""
    summary = summarise("", sent, upstream)
    if summary.frames_lost or summary.frames_dropped or summary.repeats:
        raise BenchFailed(
            f"of {summary.frames_sent} frames {summary.frames_lost} were lost, {summary.frames_dropped} "
            f"dropped {dict(summary.dropped_by_reason)}, {summary.repeats} repeated: no figure comes of that"
        )


def _by_phase(phases: Sequence[Phase], sent: Sequence[Sent], upstream: Upstream) -> dict[str, Walked]:
    answers = {answer.key: answer for answer in upstream.answers}
    frames = sorted(sent, key=lambda each: each.key)
    found, first = {}, 0
    for phase in phases:
        part = frames[first : first + phase.frames]
        found[phase.name] = _walked(part, answers, upstream.publish_ms)
        first += phase.frames
    return found


def _walked(
    part: Sequence[Sent], answers: Mapping[FrameKey, Answer], publish_ms: Mapping[FrameKey, float]
) -> Walked:
    # The last PUBACK of all is only known when the module's closing message came through in time.
    part = [each for each in part if each.key in publish_ms]
    stages = [{**answers[each.key].stages_ms, "publish": publish_ms[each.key]} for each in part]
    totals = [sum(each.values()) for each in stages]
    ends = [each.captured_ns / 1e9 + total / 1e3 for each, total in zip(part, totals, strict=True)]
    return Walked(
        tuple(totals),
        {name: tuple(each[name] for each in stages) for name in STAGES},
        max(ends) - part[0].captured_ns / 1e9,
    )
