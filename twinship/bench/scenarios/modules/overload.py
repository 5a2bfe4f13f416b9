"""Scenario `overload`: a camera at five times what inference can do, then an inference that is away.

Inference is slowed by honest work: pictures of a size whose decoding takes as long as wanted, sent as their
files are. Judges what a user would see: how old answers get, what waits where, and that every frame that the
hub stored is accounted for.
"""

from __future__ import annotations

import json
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
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.rig.waiting import lines, until
from twinship.bench.rig.watching import Watch, connects, expired, page, queued
from twinship.bench.scenarios.modules.account import Account, account
from twinship.demo.report import Answer, percentile, read_upstream

CREDIT: Final = 32  # the manifest's
TIMES: Final = 5  # how much faster the camera is
PICTURES: Final = 8
SIDE: Final = 2_400  # pixels: some fifty milliseconds to decode and scale, far more than the way here
MAX_FPS: Final = 1_000.0  # as the camera's twin allows
UNLOADED_FPS: Final = 4.0
QUIET_S: Final = 1.0  # no answer for so long: there is none to come
SETTLED_S: Final = 30.0  # for what is under way to come to its end
FIRST_S: Final = 60.0
MAX_SLOWER: Final = 3.0  # p50 under load by p50 without
MAX_RETURN_S: Final = 2.0
MAX_GROWTH_MB: Final = 64.0


@dataclass(frozen=True)
class Extent:
    """How long each part takes, in seconds."""

    unloaded_s: float = 10.0
    loaded_s: float = 60.0
    away_s: float = 30.0


def measure(bench: Bench) -> Mapping[str, Any]:
    """The value of `overload` in the report; what does not hold stands there under `missed`."""
    figures = run(bench, Extent())
    return {**figures, "missed": shortcomings(figures)}


def run(bench: Bench, extent: Extent) -> dict[str, Any]:
    """Measure; judges nothing."""
    with _rig(bench) as rig:
        rig.simulator.start_modules()
        rig.publish(bench.models[0])
        bench.progress("one frame at a time", 0.1)
        unloaded = _answers(rig, UNLOADED_FPS, extent.unloaded_s)
        fps = min(MAX_FPS, TIMES * 1e3 / percentile([_work_ms(answer) for answer in unloaded], 50))
        bench.progress(f"{fps:.0f} frames/s, {TIMES} times what inference can do", 0.2)
        before_mb = _memory(rig)
        with Watch(rig) as watch:
            loaded = _answers(rig, fps, extent.loaded_s)
        bench.progress("inference is stopped and comes back", 0.6)
        back_after_s = {"stopped": _away(rig, fps, extent.away_s, _frozen)}
        bench.progress("inference is ended and started again", 0.8)
        back_after_s["ended"] = _away(rig, fps, extent.away_s, _ended)
        rig.simulator.stop_modules()
        frames = _account(rig).to_json()
    return {
        "fps": round(fps, 1),
        "credit": CREDIT,
        "unloaded_p50_ms": _p50_ms(unloaded),
        "loaded_p50_ms": _p50_ms(loaded),
        "slower": round(_p50_ms(loaded) / _p50_ms(unloaded), 3),
        "loaded_stages_p50_ms": _stages_ms(loaded),
        "answered_per_s": round(len(loaded) / extent.loaded_s, 1),
        "queue_max": watch.peaks.queue,
        "memory_mb": {"before": before_mb, "peak": watch.peaks.memory_mb},
        "back_after_s": back_after_s,
        "frames": frames,
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
    """What does not hold, one line each."""
    found = []
    if figures["slower"] > MAX_SLOWER:
        found.append(f"p50 under load is {figures['slower']:.1f} times that without, at most {MAX_SLOWER:g}")
    if figures["queue_max"] > figures["credit"]:
        found.append(f"{figures['queue_max']} frames waited in edgeHub, at most {figures['credit']}")
    for how, seconds in figures["back_after_s"].items():
        if seconds > MAX_RETURN_S:
            found.append(f"after being {how}: a fresh frame's answer took {seconds:.1f} s")
    for module, peak_mb in figures["memory_mb"]["peak"].items():
        if peak_mb - figures["memory_mb"]["before"].get(module, peak_mb) > MAX_GROWTH_MB:
            found.append(f"{module} grew to {peak_mb:.0f} MB")
    if figures["frames"]["uncounted"]:
        found.append(f"{figures['frames']['uncounted']} frames are in no count")
    return found


def enlarge(source: Path, folder: Path, side: int) -> None:
    """The first few pictures as squares of `side` pixels, in PNG files that fit into a message."""
    folder.mkdir(parents=True)
    for path in sorted(source.rglob("*.png"))[:PICTURES]:
        with Image.open(path) as picture:
            picture.convert("L").resize((side, side), Image.Resampling.NEAREST).save(folder / path.name)


def _answers(rig: Rig, fps: float, duration_s: float) -> list[Answer]:
    """Let the camera run for so long; what was answered meanwhile, but for the first second."""
    begun = len(_upstream(rig).answers)
    with _running(rig, fps):
        until(lambda: len(_upstream(rig).answers) > begun, FIRST_S, "the first answer")
        time.sleep(1)
        first = len(_upstream(rig).answers)
        time.sleep(duration_s)
        until(lambda: len(_upstream(rig).answers) > first, FIRST_S, "an answer")
        found = list(_upstream(rig).answers[first:])
    _settle(rig)
    return found


@contextmanager
def _running(rig: Rig, fps: float) -> Iterator[None]:
    rig.patch("camera_sim", {"camera": {"fps": fps, "paused": False}})
    yield
    rig.patch("camera_sim", {"camera": {"paused": True}})


def _away(rig: Rig, fps: float, away_s: float, absence: Callable[[Rig, float], None]) -> float:
    """Seconds from inference's return to the answer of a frame that was captured after it."""
    with _running(rig, fps):
        time.sleep(1)
        absence(rig, away_s)
        back_ns = time.time_ns()
        until(lambda: _captured(rig) > back_ns, FIRST_S, "an answer after the return")
        took_s = (time.time_ns() - back_ns) / 1e9
    _settle(rig)
    return round(took_s, 3)


def _frozen(rig: Rig, away_s: float) -> None:
    process = rig.simulator.states()["inference"].pid
    if process is None:
        raise BenchFailed("overload: inference does not run")
    os.kill(process, signal.SIGSTOP)
    try:
        time.sleep(away_s)
    finally:
        os.kill(process, signal.SIGCONT)


def _ended(rig: Rig, away_s: float) -> None:
    """By its deployment, as an operator would: `status: stopped`, then `running`. Back: on the line again."""
    before = connects(page(rig.upstream.parent), "inference")
    rig.patch("$edgeAgent", {"modules": {"inference": {"status": "stopped"}}})
    time.sleep(away_s)
    rig.patch("$edgeAgent", {"modules": {"inference": {"status": "running"}}})
    until(lambda: connects(page(rig.upstream.parent), "inference") > before, FIRST_S, "inference's return")


def _settle(rig: Rig) -> None:
    """Until the hub holds nothing for inference and no answer comes any more."""
    answered, quiet_since = -1, time.monotonic()
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        now = len(_upstream(rig).answers)
        if now != answered or queued(page(rig.upstream.parent), "inference"):
            answered, quiet_since = now, time.monotonic()
        if time.monotonic() - quiet_since > QUIET_S:
            return
        time.sleep(0.1)
    raise BenchFailed(f"overload: frames were still under way after {SETTLED_S:g} s")


def _upstream(rig: Rig) -> Any:
    return read_upstream(lines(rig.upstream))


def _captured(rig: Rig) -> int:
    """The capture time of the newest answer, ns since the epoch."""
    for line in reversed(lines(rig.upstream)):
        body = json.loads(line)["Body"]
        if body.get("schema") == "twinship.prediction.v1":
            return int(body["captured"])
    return 0


def _account(rig: Rig) -> Account:
    hub = page(rig.upstream.parent)
    return account(
        lines(rig.sent), lines(rig.upstream), expired=expired(hub), waiting=queued(hub, "inference")
    )


def _p50_ms(answers: list[Answer]) -> float:
    """From capture to the answer, of the median frame."""
    return round(percentile([sum(answer.stages_ms.values()) for answer in answers], 50), 3)


def _stages_ms(answers: list[Answer]) -> dict[str, float]:
    return {
        stage: round(percentile([answer.stages_ms[stage] for answer in answers], 50), 3)
        for stage in answers[0].stages_ms
    }


def _work_ms(answer: Answer) -> float:
    return sum(answer.stages_ms[stage] for stage in ("preprocess", "invoke", "postprocess"))


def _memory(rig: Rig) -> dict[str, float]:
    with Watch(rig) as watch:
        pass
    return dict(watch.peaks.memory_mb)
