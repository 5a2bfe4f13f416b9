"""Swaps by twin and rollbacks by method at 100 frames a second: what they cost, and that no frame pays.

Everything is counted from the two ledgers: what the camera knows was stored, what arrived upstream.
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
from twinship.bench.rig.rig import DEVICE, Rig, RigSettings
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
from twinship.demo.watch import Watch
from twinship.fleet.methods import accepted, invoke
from twinship.fleet.service import ServiceHub

SILENCE_S: Final = 30.0  # no answer for so long: nothing more comes
CLOSING_S: Final = 20.0
WARM_FRAMES: Final = 100  # of neither phase: the first ones pay for connections and caches
MODULE: Final = "inference"


@dataclass(frozen=True)
class SwapSettings:
    """How much of it. The bars: lost = doubled = 0, p99_ratio ≤ 2, rollback p99 ≤ 1,000 ms."""

    swaps: int = 100
    rollbacks: int = 30
    fps: float = 100.0
    steady_frames: int = 1000  # before the swaps, and as many after them


@dataclass
class Course:
    """What was done, in order. Times are ns since the epoch."""

    models: list[str] = field(default_factory=list)  # digests: who is to answer, one after the other
    began: int = 0  # frames count from here
    swaps: tuple[int, int] = (0, 0)  # from, until
    rollbacks: int = 0  # from
    install_ms: list[float] = field(default_factory=list)
    rollback_ms: list[float] = field(default_factory=list)
    returned: list[tuple[int, int, str]] = field(default_factory=list)  # from, until, who alone answers then


def measure(bench: Bench) -> Mapping[str, Any]:
    """The key `swap` of the report."""
    return measured(bench, SwapSettings())


def measured(bench: Bench, settings: SwapSettings) -> dict[str, Any]:
    """Run it. Raises BenchFailed when a model is not taken or frames stay away."""
    desired: dict[str, dict[str, Any]] = {
        MODULE: {
            # The budget is no subject here: a busy machine must not end a probation.
            "inference": {"overload": "all", "latencyBudgetMs": 1000},
            "telemetry": {"predictions": "all", "intervalSeconds": 1},
        },
        "camera_sim": {"camera": {"fps": settings.fps, "ledger": True, "paused": True}},
    }
    course = Course()
    with Rig(RigSettings(bench.folder / "rig", bench.pictures, desired)) as rig:
        rig.simulator.start_modules()
        course.models.append(rig.publish(bench.models[0]).ref.sha256)
        with closing(Watch(rig.upstream)) as watch:
            rig.patch("camera_sim", {"camera": {"paused": False}})
            _walk(bench, settings, rig, watch, course)
            rig.patch("camera_sim", {"camera": {"paused": True}})
            _drain(rig, watch)
        with rig.sent.open() as sent, rig.upstream.open() as upstream:
            return figures(course, read_sent(sent), read_upstream(upstream))


def _walk(bench: Bench, settings: SwapSettings, rig: Rig, watch: Watch, course: Course) -> None:
    _frames(watch, WARM_FRAMES)
    course.began = time.time_ns()
    _frames(watch, settings.steady_frames)
    swaps_began = time.time_ns()
    for number in range(settings.swaps):
        bench.progress(f"swap {number + 1} of {settings.swaps}", 0.1 + 0.5 * number / settings.swaps)
        _swap(rig, bench.models[(number + 1) % 2], course)
    course.swaps = swaps_began, time.time_ns()
    _frames(watch, settings.steady_frames)
    course.rollbacks = time.time_ns()
    for number in range(settings.rollbacks):
        bench.progress(
            f"rollback {number + 1} of {settings.rollbacks}", 0.7 + 0.3 * number / settings.rollbacks
        )
        _swap(rig, bench.models[(settings.swaps + 1) % 2], course, until_active=True)
        _roll_back(rig, watch, course)


def _frames(watch: Watch, count: int) -> None:
    """Until so many more are answered. Raises BenchFailed when they stay away."""
    goal = watch.live().answered + count
    while (seen := watch.live().answered) < goal:
        if not watch.wait_more(seen, SILENCE_S):
            raise BenchFailed(f"no frame was answered for {SILENCE_S:.0f} s; cure: see the modules' logs")


def _swap(rig: Rig, model: Path, course: Course, *, until_active: bool = False) -> None:
    result = rig.publish(model, until_active=until_active)
    course.models.append(result.ref.sha256)
    course.install_ms.append(float(result.verdict.timings["installMs"]))


def _roll_back(rig: Rig, watch: Watch, course: Course) -> None:
    """Call the method, and see frames answered before anything else changes."""
    with ServiceHub(rig.connection) as hub:
        hub.module_twin(DEVICE, MODULE)  # so that the round trip holds no handshake
        began = time.perf_counter()
        answer = invoke(hub, DEVICE, MODULE, "rollback")
        course.rollback_ms.append((time.perf_counter() - began) * 1e3)
    returned = time.time_ns()
    back = str(accepted(answer, MODULE, "rollback")["model"]["sha256"])
    if back != course.models[-2]:
        raise BenchFailed(f"rollback went to {back[:12]}, not to the model before, {course.models[-2][:12]}")
    course.models.append(back)
    _frames(watch, 10)
    course.returned.append((returned, time.time_ns(), back))


def _drain(rig: Rig, watch: Watch) -> None:
    """Until every frame that the camera sent is answered, or no more come; then end the modules."""
    while (seen := watch.live().answered) < rig.sent.read_bytes().count(b"\n"):
        if not watch.wait_more(seen, SILENCE_S):
            break  # the sum names them
    rig.simulator.stop_modules()
    watch.wait_closed(CLOSING_S)


# -- the sum, pure -------------------------------------------------------------------------------------------


def figures(course: Course, sent: Sequence[Sent], upstream: Upstream) -> dict[str, Any]:
    """What the course and the two ledgers add up to."""
    summary = summarise("", sent, upstream)
    captured = {frame.key: frame.captured_ns for frame in sent}
    during, steady = _totals_ms(course, captured, upstream)
    p99_during, p99_steady = percentile(during, 99), percentile(steady, 99)
    return {
        "swaps": len(course.install_ms) - len(course.rollback_ms),
        "frames": summary.frames_sent,
        "lost": summary.frames_lost,
        "dropped": summary.frames_dropped,
        "doubled": len(upstream.answers) - len({answer.key for answer in upstream.answers}),
        "out_of_turn": out_of_turn(course, captured, upstream.answers),
        "p99_ratio": round(p99_during / p99_steady, 3),
        "p99_ms": {"steady": round(p99_steady, 3), "swaps": round(p99_during, 3)},
        "install_ms": _spread(course.install_ms),
        "rollback_ms": {**_spread(course.rollback_ms), "n": len(course.rollback_ms)},
    }


def out_of_turn(course: Course, captured: Mapping[FrameKey, int], answers: Sequence[Answer]) -> int:
    """Answers by a model that was not on duty: each model answers when its turn has come, then never again
    in that turn; and what was captured after a rollback returned is answered by the earlier one alone."""
    turn = wrong = 0
    for answer in answers:
        if answer.sha256 != course.models[turn]:
            turn += 1  # whoever answers has taken over; with no turn left it had no business to
            if turn == len(course.models) or answer.sha256 != course.models[turn]:
                turn, wrong = turn - 1, wrong + 1
                continue
        at = captured.get(answer.key, 0)
        wrong += any(since < at < until and answer.sha256 != model for since, until, model in course.returned)
    return wrong + len(course.models) - 1 - turn


def _totals_ms(
    course: Course, captured: Mapping[FrameKey, int], upstream: Upstream
) -> tuple[list[float], list[float]]:
    """captured → PUBACK of the prediction, of the frames captured during the swaps, and in steady times."""
    during: list[float] = []
    steady: list[float] = []
    for answer in upstream.answers:
        at, publish_ms = captured.get(answer.key), upstream.publish_ms.get(answer.key)
        if at is None or publish_ms is None or not course.began <= at < course.rollbacks:
            continue
        inside = course.swaps[0] <= at < course.swaps[1]
        (during if inside else steady).append(sum(answer.stages_ms.values()) + publish_ms)
    return during, steady


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}": round(percentile(values, percent), 3) for percent in (50, 99)}
