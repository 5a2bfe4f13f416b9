"""Swaps by twin and rollbacks by method at 100 frames/s: their cost, and that no frame is lost by them.

The operator leaves the processors to the frames (`twinship.bench.rig.operator`). All counts come from the
camera's send log and the messages upstream.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.rig.operator import MODULE, Operator, steady_camera
from twinship.bench.rig.rig import DEVICE, Rig, RigSettings
from twinship.demo.report import Answer, FrameKey, Sent, Upstream, percentile, summarise
from twinship.demo.watch import Watch
from twinship.fleet.methods import accepted, invoke

SILENCE_S: Final = 30.0  # without an answer: there will be none
CLOSING_S: Final = 20.0
WARM_FRAMES: Final = 100  # before the steady phase: connections and caches are cold


@dataclass(frozen=True)
class SwapSettings:
    """How much is measured."""

    swaps: int = 100
    rollbacks: int = 30
    fps: float = 100.0
    steady_frames: int = 1000  # before the swaps, and as many after them


@dataclass
class Timeline:
    """The steps of a run. Times are ns since the epoch."""

    models: list[str] = field(default_factory=list)  # digests in the order in which they must serve
    began: int = 0  # frames captured from here on count
    swaps: tuple[int, int] = (0, 0)  # begin and end of the swaps
    rollbacks: int = 0  # begin of the rollbacks
    install_ms: list[float] = field(default_factory=list)
    rollback_ms: list[float] = field(default_factory=list)
    returned: list[tuple[int, int, str]] = field(
        default_factory=list
    )  # begin, end, the only model that serves


def measure(bench: Bench) -> Mapping[str, Any]:
    """The figures of a full run."""
    return measured(bench, SwapSettings())


def measured(bench: Bench, settings: SwapSettings) -> dict[str, Any]:
    """The figures. Raises BenchFailed when a model is refused or no more frames are answered."""
    desired = steady_camera(settings.fps)
    timeline = Timeline()
    with Rig(RigSettings(bench.folder / "rig", bench.pictures, desired)) as rig:
        rig.start()
        timeline.models.append(rig.publish(bench.models[0]).ref.sha256)
        with closing(Watch(rig.upstream)) as watch:
            rig.patch("camera_sim", {"camera": {"paused": False}})
            with Operator(rig, watch, bench.models) as operator:
                _swap_and_roll_back(bench, settings, operator, watch, timeline)
            rig.patch("camera_sim", {"camera": {"paused": True}})
            _drain(rig, watch)
        return figures(timeline, *rig.records())


def _swap_and_roll_back(
    bench: Bench, settings: SwapSettings, operator: Operator, watch: Watch, timeline: Timeline
) -> None:
    _frames(watch, WARM_FRAMES)
    timeline.began = time.time_ns()
    _frames(watch, settings.steady_frames)
    swaps_began = time.time_ns()
    for number in range(settings.swaps):
        bench.progress(f"swap {number + 1} of {settings.swaps}", 0.1 + 0.5 * number / settings.swaps)
        _swap(operator, bench.models[(number + 1) % 2], timeline)
    timeline.swaps = swaps_began, time.time_ns()
    _frames(watch, settings.steady_frames)
    timeline.rollbacks = time.time_ns()
    for number in range(settings.rollbacks):
        bench.progress(
            f"rollback {number + 1} of {settings.rollbacks}", 0.7 + 0.3 * number / settings.rollbacks
        )
        _swap(operator, bench.models[(settings.swaps + 1) % 2], timeline, until_active=True)
        _roll_back(operator, watch, timeline)


def _frames(watch: Watch, count: int) -> None:
    """Wait until so many more are answered. Raises BenchFailed after SILENCE_S without an answer."""
    goal = watch.live().answered + count
    while (seen := watch.live().answered) < goal:
        if not watch.wait_more(seen, SILENCE_S):
            raise BenchFailed(f"no frame was answered for {SILENCE_S:.0f} s; see the modules' logs")


def _swap(operator: Operator, model: Path, timeline: Timeline, *, until_active: bool = False) -> None:
    result = operator.publish(model, until_active=until_active)
    timeline.models.append(result.ref.sha256)
    timeline.install_ms.append(float(result.verdict.timings["installMs"]))


def _roll_back(operator: Operator, watch: Watch, timeline: Timeline) -> None:
    """Call the method and wait until the earlier model has answered frames."""
    began = time.perf_counter()
    answer = invoke(operator.hub, DEVICE, MODULE, "rollback")
    timeline.rollback_ms.append((time.perf_counter() - began) * 1e3)
    returned = time.time_ns()
    back = str(accepted(answer, MODULE, "rollback")["model"]["sha256"])
    if back != timeline.models[-2]:
        raise BenchFailed(
            f"rollback went to {back[:12]} instead of the previous model {timeline.models[-2][:12]}"
        )
    timeline.models.append(back)
    _frames(watch, 10)
    timeline.returned.append((returned, time.time_ns(), back))
    operator.wait_withdrawn()


def _drain(rig: Rig, watch: Watch) -> None:
    """Wait until every frame that was sent is answered, or none for SILENCE_S; then end the modules."""
    while (seen := watch.live().answered) < rig.sent.read_bytes().count(b"\n"):
        if not watch.wait_more(seen, SILENCE_S):
            break  # the figures count them as lost
    rig.stop()
    watch.wait_closed(CLOSING_S)


def figures(timeline: Timeline, sent: Sequence[Sent], upstream: Upstream) -> dict[str, Any]:
    """The sums over the send log and the messages upstream."""
    summary = summarise("", sent, upstream)
    captured = {frame.key: frame.captured_ns for frame in sent}
    during, steady = _totals_ms(timeline, captured, upstream)
    p99_during, p99_steady = percentile(during, 99), percentile(steady, 99)
    return {
        "swaps": len(timeline.install_ms) - len(timeline.rollback_ms),
        "frames": summary.frames_sent,
        "lost": summary.frames_lost,
        "dropped": summary.frames_dropped,
        "doubled": len(upstream.answers) - len({answer.key for answer in upstream.answers}),
        "out_of_turn": out_of_turn(timeline, captured, upstream.answers),
        "p99_ratio": round(p99_during / p99_steady, 3),
        "p99_ms": {"steady": round(p99_steady, 3), "swaps": round(p99_during, 3)},
        "install_ms": _spread(timeline.install_ms),
        "rollback_ms": {**_spread(timeline.rollback_ms), "n": len(timeline.rollback_ms)},
    }


def out_of_turn(timeline: Timeline, captured: Mapping[FrameKey, int], answers: Sequence[Answer]) -> int:
    """Count answers by a model that was not active, and models that never answered.

    Models serve in the order of the timeline. A frame that was captured after a rollback returned must be
    answered by the earlier model.
    """
    turn = wrong = 0
    for answer in answers:
        if answer.sha256 != timeline.models[turn]:
            turn += 1  # this must be the next model
            if turn == len(timeline.models) or answer.sha256 != timeline.models[turn]:
                turn, wrong = turn - 1, wrong + 1
                continue
        at = captured.get(answer.key, 0)
        wrong += any(
            since < at < until and answer.sha256 != model for since, until, model in timeline.returned
        )
    return wrong + len(timeline.models) - 1 - turn


def _totals_ms(
    timeline: Timeline, captured: Mapping[FrameKey, int], upstream: Upstream
) -> tuple[list[float], list[float]]:
    """Capture → PUBACK of the prediction: of frames captured during the swaps, and of the others."""
    during: list[float] = []
    steady: list[float] = []
    for answer in upstream.answers:
        at, publish_ms = captured.get(answer.key), upstream.publish_ms.get(answer.key)
        if at is None or publish_ms is None or not timeline.began <= at < timeline.rollbacks:
            continue
        inside = timeline.swaps[0] <= at < timeline.swaps[1]
        (during if inside else steady).append(sum(answer.stages_ms.values()) + publish_ms)
    return during, steady


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}": round(percentile(values, percent), 3) for percent in (50, 99)}
