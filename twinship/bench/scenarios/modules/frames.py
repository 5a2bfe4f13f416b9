"""Send frames through camera, hub and inference, all of them processes, in the phases of one run.

A frame's time is capture → PUBACK of its prediction: the sum of its stages in the inference module's ledger.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from inference.frames.ledger import STAGES
from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import latencies, median
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.watching import Answers
from twinship.demo.report import Answer, FrameKey, Sent, Upstream, summarise

SILENCE_S: Final = 60.0  # without another answer: the measurement fails
POLL_S: Final = 0.1
WARM_FRAMES: Final = 300  # the first 50 are the new model's probation, and all caches are cold
#: Before the modules start: nothing is dropped for its age, every prediction is sent, the camera logs frames.
DESIRED: Final[Mapping[str, Mapping[str, Any]]] = {
    "inference": {"inference": {"overload": "all"}, "telemetry": {"predictions": "all"}},
    "camera_sim": {"camera": {"paused": True, "ledger": True}},
}


@dataclass(frozen=True)
class Phase:
    """A number of frames under these settings of the camera's twin section."""

    name: str
    frames: int
    camera: Mapping[str, Any]


WARM_UP: Final = Phase("warm", WARM_FRAMES, {"fps": 200})


@dataclass(frozen=True)
class PhaseResult:
    """The frames of one phase, in order of seq."""

    totals_ms: tuple[float, ...]
    stages_ms: Mapping[str, tuple[float, ...]]
    seconds: float  # first capture → last PUBACK

    @property
    def per_s(self) -> float:
        """Frames per second, end to end."""
        return round(len(self.totals_ms) / self.seconds, 1)

    def latencies(self) -> dict[str, Any]:
        """p50, p90, p99 in ms, the range of p50 within the phase, and each stage's p50."""
        stages = {name: round(median(values), 4) for name, values in self.stages_ms.items()}
        return {**latencies(self.totals_ms), "stages_p50_ms": stages}


def measure_phases(
    bench: Bench, phases: Sequence[Phase], settings: RigSettings | None = None
) -> dict[str, PhaseResult]:
    """Run a warm-up and then the phases; return each phase's result by its name.

    Raises BenchFailed unless every frame is answered exactly once: other runs give no valid figures.
    """
    settings = settings or RigSettings(bench.folder / "rig", bench.pictures)
    settings = replace(settings, desired={**DESIRED, **settings.desired})
    phases = [WARM_UP, *phases]
    with Rig(settings) as rig:
        rig.start()
        rig.publish(bench.models[0])
        drive(rig, phases, bench.progress)
        rig.stop()
        sent, upstream = rig.records()
    check_all_answered(sent, upstream)
    results = results_of(phases, sent, upstream)
    del results[WARM_UP.name]
    return results


def drive(rig: Rig, phases: Sequence[Phase], progress: Any) -> None:
    """Set each phase and wait until its last frame is answered. Raises BenchFailed after SILENCE_S."""
    frames, counter = 0, PredictionCounter(rig.upstream)
    for index, phase in enumerate(phases):
        progress(f"{phase.name}: {phase.frames} frames", index / len(phases))
        frames += phase.frames
        rig.patch("camera_sim", {"camera": {"paused": False, **phase.camera, "frames": frames}})
        counter.wait(frames)


class PredictionCounter(Answers):
    """Waits for predictions upstream."""

    def wait(self, frames: int) -> None:
        """Wait for so many. Raises BenchFailed after SILENCE_S without a new one."""
        last = time.monotonic()
        while self.count < frames:
            before = self.count
            if self.update().count > before:
                last = time.monotonic()
            elif time.monotonic() - last > SILENCE_S:
                raise BenchFailed(f"{self.count} of {frames} frames were answered, then none for a minute")
            time.sleep(POLL_S)


def check_all_answered(sent: Sequence[Sent], upstream: Upstream) -> None:
    """Raise BenchFailed unless every frame that was stored is answered exactly once."""
    summary = summarise("", sent, upstream)
    if summary.frames_lost or summary.frames_dropped or summary.repeats:
        raise BenchFailed(
            f"of {summary.frames_sent} frames {summary.frames_lost} were lost, {summary.frames_dropped} "
            f"dropped {dict(summary.dropped_by_reason)}, {summary.repeats} repeated: the run gives no figures"
        )


def results_of(phases: Sequence[Phase], sent: Sequence[Sent], upstream: Upstream) -> dict[str, PhaseResult]:
    """The result of each phase by its name; the frames of the phases follow each other."""
    answers = {answer.key: answer for answer in upstream.answers}
    frames = sorted(sent, key=lambda each: each.key)
    found, first = {}, 0
    for phase in phases:
        of_phase = frames[first : first + phase.frames]
        found[phase.name] = _phase_result(of_phase, answers, upstream.publish_ms)
        first += phase.frames
    return found


def _phase_result(
    frames: Sequence[Sent], answers: Mapping[FrameKey, Answer], publish_ms: Mapping[FrameKey, float]
) -> PhaseResult:
    # The very last PUBACK is only known if the module's closing message arrived.
    frames = [each for each in frames if each.key in publish_ms]
    stages = [{**answers[each.key].stages_ms, "publish": publish_ms[each.key]} for each in frames]
    totals = [sum(each.values()) for each in stages]
    ends = [each.captured_ns / 1e9 + total / 1e3 for each, total in zip(frames, totals, strict=True)]
    return PhaseResult(
        tuple(totals),
        {name: tuple(each[name] for each in stages) for name in STAGES if name in stages[0]},
        max(ends) - frames[0].captured_ns / 1e9,
    )
