"""Scenario `overload`: a camera at five times inference's maximum rate, then an absent inference module.

Large pictures, sent as their files are, make inference slow by real work: decoding them takes long. The
scenario checks what a user would see: the age of the answers, the length of edgeHub's queue, the modules'
memory, and that every frame that the hub stored is in exactly one count.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median
from twinship.bench.rig import account
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.waiting import objects, quiet, until, whole_lines
from twinship.bench.rig.watching import PeakSampler, connects, expired, metrics_page, queued
from twinship.demo.report import Answer, Upstream, read_upstream

CREDIT: Final = 32  # as in the manifest
TIMES: Final = 5  # the camera's rate by inference's maximum rate
PICTURES: Final = 8
SIDE: Final = 2_400  # pixels: decoding and scaling take some 50 ms, far more than the transport
MAX_FPS: Final = 1_000.0  # as the camera's twin allows
UNLOADED_FPS: Final = 4.0
QUIET_S: Final = 1.0  # without an answer: there will be none
FINISHED_S: Final = 30.0  # until no frame is under way any more
FIRST_S: Final = 60.0
MAX_SLOWER: Final = 3.0  # p50 under load by p50 without
MAX_RETURN_S: Final = 2.0
MAX_GROWTH_MB: Final = 64.0


@dataclass(frozen=True)
class Extent:
    """Duration of each part in seconds."""

    unloaded_s: float = 10.0
    loaded_s: float = 60.0
    away_s: float = 30.0


def measure(bench: Bench) -> Mapping[str, Any]:
    """The figures; `missed` lists the limits that they exceed."""
    figures = run(bench, Extent())
    return {**figures, "missed": shortcomings(figures)}


def run(bench: Bench, extent: Extent) -> dict[str, Any]:
    """The figures alone."""
    with _rig(bench) as rig:
        rig.start()
        rig.publish(bench.models[0])
        bench.progress("one frame at a time", 0.1)
        unloaded = _answers(rig, UNLOADED_FPS, extent.unloaded_s)
        fps = min(MAX_FPS, TIMES * 1e3 / median([_work_ms(answer) for answer in unloaded]))
        bench.progress(f"{fps:.0f} frames/s, {TIMES} times the maximum rate of inference", 0.2)
        before_mb = _memory(rig)
        with PeakSampler(rig) as sampler:
            loaded = _answers(rig, fps, extent.loaded_s)
        bench.progress("inference is frozen and goes on", 0.6)
        back_after_s = {"stopped": _absent(rig, fps, extent.away_s, _frozen)}
        bench.progress("inference is ended and started again", 0.8)
        back_after_s["ended"] = _absent(rig, fps, extent.away_s, _ended)
        rig.stop()
        hub, lines = metrics_page(rig.simulator_folder), (whole_lines(rig.sent), whole_lines(rig.upstream))
        frames = account.account(*lines, expired=expired(hub), waiting=queued(hub, "inference"))
    return {
        "fps": round(fps, 1),
        "credit": CREDIT,
        "unloaded_p50_ms": _p50_ms(unloaded),
        "loaded_p50_ms": _p50_ms(loaded),
        "slower": round(_p50_ms(loaded) / _p50_ms(unloaded), 3),
        "loaded_stages_p50_ms": _stages_ms(loaded),
        "answered_per_s": round(len(loaded) / extent.loaded_s, 1),
        "queue_max": sampler.peaks.queue,
        "memory_mb": {"before": before_mb, "peak": sampler.peaks.memory_mb},
        "back_after_s": back_after_s,
        "frames": frames.to_json(),
    }


def _rig(bench: Bench) -> Rig:
    pictures = bench.folder / "pictures"
    enlarge(bench.pictures, pictures, SIDE)
    desired: dict[str, dict[str, Any]] = {
        "camera_sim": {"camera": {"paused": True, "ledger": True, "credit": CREDIT, "encoding": "as_is"}},
        "inference": {"telemetry": {"predictions": "all", "intervalSeconds": 1}},
    }
    return Rig(RigSettings(bench.folder / "rig", pictures, desired))


def shortcomings(figures: Mapping[str, Any]) -> list[str]:
    """Each limit that the figures exceed, one line."""
    found = []
    if figures["slower"] > MAX_SLOWER:
        found.append(
            f"p50 under load is {figures['slower']:.1f} times p50 without, the limit is {MAX_SLOWER:g}"
        )
    if figures["queue_max"] > figures["credit"]:
        found.append(f"{figures['queue_max']} frames waited in edgeHub, the limit is {figures['credit']}")
    for how, seconds in figures["back_after_s"].items():
        if seconds > MAX_RETURN_S:
            found.append(f"after inference was {how}, the first answer to a new frame took {seconds:.1f} s")
    for module, peak_mb in figures["memory_mb"]["peak"].items():
        if peak_mb - figures["memory_mb"]["before"].get(module, peak_mb) > MAX_GROWTH_MB:
            found.append(f"{module} grew to {peak_mb:.0f} MB")
    return found + account.shortcomings(figures["frames"])


def enlarge(source: Path, folder: Path, side: int) -> None:
    """Save the first PICTURES as squares of `side` pixels, in PNG files that fit into a message."""
    folder.mkdir(parents=True)
    for path in sorted(source.rglob("*.png"))[:PICTURES]:
        with Image.open(path) as picture:
            picture.convert("L").resize((side, side), Image.Resampling.NEAREST).save(folder / path.name)


def _answers(rig: Rig, fps: float, duration_s: float) -> list[Answer]:
    """Let the camera run for so long; return the answers from then, except those of the first second."""
    begun = len(_upstream(rig).answers)
    with _running(rig, fps):
        until(lambda: len(_upstream(rig).answers) > begun, FIRST_S, "the first answer")
        time.sleep(1)
        first = len(_upstream(rig).answers)
        time.sleep(duration_s)
        until(lambda: len(_upstream(rig).answers) > first, FIRST_S, "an answer")
        found = list(_upstream(rig).answers[first:])
    _wait_finished(rig)
    return found


@contextmanager
def _running(rig: Rig, fps: float) -> Iterator[None]:
    rig.patch("camera_sim", {"camera": {"fps": fps, "paused": False}})
    yield
    rig.patch("camera_sim", {"camera": {"paused": True}})


def _absent(rig: Rig, fps: float, away_s: float, absence: Callable[[Rig, float], None]) -> float:
    """Seconds from inference's return to the first answer to a frame that was captured after it."""
    with _running(rig, fps):
        time.sleep(1)
        absence(rig, away_s)
        back_ns = time.time_ns()
        until(lambda: _captured(rig) > back_ns, FIRST_S, "an answer after the return of inference")
        took_s = (time.time_ns() - back_ns) / 1e9
    _wait_finished(rig)
    return round(took_s, 3)


def _frozen(rig: Rig, away_s: float) -> None:
    process = rig.simulator.states()["inference"].pid
    if process is None:
        raise BenchFailed("overload: the module inference does not run")
    os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(away_s)
    finally:
        os.kill(process, signal.SIGCONT)


def _ended(rig: Rig, away_s: float) -> None:
    """Stop and start it by its deployment, as an operator would. It is back when it has connected again."""
    before = connects(metrics_page(rig.simulator_folder), "inference")
    rig.patch("$edgeAgent", {"modules": {"inference": {"status": "stopped"}}})
    time.sleep(away_s)
    rig.patch("$edgeAgent", {"modules": {"inference": {"status": "running"}}})
    until(
        lambda: connects(metrics_page(rig.simulator_folder), "inference") > before,
        FIRST_S,
        "the connection of inference",
    )


def _wait_finished(rig: Rig) -> None:
    """Wait until the hub holds nothing for inference and no more answers arrive. Raises BenchFailed."""
    finished = quiet(
        lambda: len(_upstream(rig).answers),
        lambda: queued(metrics_page(rig.simulator_folder), "inference"),
        QUIET_S,
    )
    until(finished, FINISHED_S, "the last frames", every_s=0.1)


def _upstream(rig: Rig) -> Upstream:
    return read_upstream(whole_lines(rig.upstream))


def _captured(rig: Rig) -> int:
    """The capture time of the newest answer, ns since the epoch."""
    for message in objects(reversed(whole_lines(rig.upstream))):
        body = message["Body"]
        if body.get("schema") == "twinship.prediction.v1":
            return int(body["captured"])
    return 0


def _p50_ms(answers: list[Answer]) -> float:
    """The median time from capture to the answer."""
    return round(median([sum(answer.stages_ms.values()) for answer in answers]), 3)


def _stages_ms(answers: list[Answer]) -> dict[str, float]:
    return {
        stage: round(median([answer.stages_ms[stage] for answer in answers]), 3)
        for stage in answers[0].stages_ms
    }


def _work_ms(answer: Answer) -> float:
    return sum(answer.stages_ms[stage] for stage in ("preprocess", "invoke", "postprocess"))


def _memory(rig: Rig) -> dict[str, float]:
    with PeakSampler(rig) as sampler:
        return dict(sampler.peaks.memory_mb)
