"""Scenario `costly`: what a frame that is as costly as the decode budget allows does to another camera."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.peers.costly import COSTLY, FPS, STEADY
from twinship.bench.report.figures import latencies
from twinship.bench.rig.child import Child, child
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.waiting import until, whole_lines
from twinship.demo.report import Answer, read_upstream

SECONDS: Final = 30
PER_S: Final = {"without": 0, "one_a_second": 1}
LAST_S: Final = 30.0
MAX_P99_MS: Final = 1_000.0


def measure(bench: Bench) -> Mapping[str, Any]:
    """Times of camera `steady`; `missed` lists the limits that they exceed."""
    figures = run(bench, SECONDS)
    p99_ms = figures["one_a_second"]["p99_ms"]
    missed = [] if p99_ms < MAX_P99_MS else [f"p99 is {p99_ms:.0f} ms, the limit is {MAX_P99_MS:g}"]
    return {**figures, "missed": missed}


def run(bench: Bench, seconds: int) -> dict[str, Any]:
    """The figures alone, from parts of so many seconds.

    Raises BenchFailed unless every frame of both cameras is answered.
    """
    desired = {"inference": {"inference": {"overload": "all"}, "telemetry": {"predictions": "all"}}}
    settings = RigSettings(
        bench.folder / "rig", bench.pictures, desired=desired, leave_out=frozenset({"camera_sim"})
    )
    with Rig(settings) as rig:
        rig.start()
        rig.publish(bench.models[0])
        camera = child(
            "twinship.bench.peers.costly",
            str(seconds),
            log=bench.folder / "camera.log",
            environment=rig.simulator.module_environment("camera_sim"),
        )
        with camera as sender:
            _answers(rig, sender, 0)  # the probation of the model
            parts = {}
            for number, (name, per_s) in enumerate(PER_S.items()):
                bench.progress(f"costly frames in each second: {per_s}", (number + 1) / (len(PER_S) + 1))
                parts[name] = _part(_answers(rig, sender, per_s), FPS * seconds)
    return {"fps": FPS, "seconds": seconds, **parts}


def _answers(rig: Rig, sender: Child, per_s: int) -> list[Answer]:
    """The answers to the frames of one part."""
    before = len(_all(rig))
    sender.send(str(per_s))
    sent = sum(map(int, sender.line().split()))
    until(lambda: len(_all(rig)) >= sent, LAST_S, "the answers to all frames", every_s=0.1)
    return list(_all(rig)[before:])


def _all(rig: Rig) -> tuple[Answer, ...]:
    return tuple(read_upstream(whole_lines(rig.upstream)).answers)


def _part(answers: list[Answer], steady: int) -> dict[str, Any]:
    by_camera = {camera: [each for each in answers if each.key[0] == camera] for camera in (STEADY, COSTLY)}
    if len(by_camera[STEADY]) != steady:
        raise BenchFailed(f"{len(by_camera[STEADY])} of {steady} frames were answered")
    totals_ms = [sum(each.stages_ms.values()) for each in by_camera[STEADY]]
    costs_ms = [each.stages_ms["preprocess"] for each in by_camera[COSTLY]]
    return {**latencies(totals_ms), "costly_frames": len(costs_ms), "costly_ms": max(costs_ms, default=0.0)}
