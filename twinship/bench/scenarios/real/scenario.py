"""Scenario `real`: JPEG photographs of 640x480 and an int8 MobileNetV2, beside the floor and the bare work.

`bare` decodes, resizes and invokes in one thread, without messages. The floor does the same with the frames
that it gets over bare paho and mosquitto.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from inference.artefact import read
from inference.engine import Engine
from inference.frames.preprocess import decode_file, prepare
from twinship.bench.catalogue import Bench
from twinship.bench.peers import mosquitto
from twinship.bench.report.figures import latencies, rates
from twinship.bench.rig.memory import child_pid, resident_mb
from twinship.bench.rig.own_process import own_process
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.scenarios.modules import floor
from twinship.bench.scenarios.modules.frames import (
    DESIRED,
    WARM_UP,
    Phase,
    PhaseResult,
    check_all_answered,
    drive,
    results_of,
)
from twinship.bench.scenarios.modules.throughput import REPEATS, UNLIMITED, WINDOW
from twinship.bench.scenarios.real import material

RATE, STEADY_FRAMES = 10, 150
FRAMES: Final = 600
BATCH: Final = 4  # photographs of about 50 KB; a message holds 258 KB
BARE_FRAMES: Final = 600
AS_IT_IS: Final = {"encoding": "as_is"}
#: A model that is slower than its budget is withdrawn; on a small machine this one takes longer than 20 ms.
PATIENT: Final = {
    **DESIRED,
    "inference": {
        **DESIRED["inference"],
        "inference": {**DESIRED["inference"]["inference"], "latencyBudgetMs": 10_000},
    },
}
BATCHES: Final = {**UNLIMITED, **AS_IT_IS, "batch": BATCH, "credit": 16 * BATCH}


def measure(bench: Bench) -> Mapping[str, Any]:
    """Latency at 10 frames/s, rates with a window of 16 and in batches, memory; floor and bare rate."""
    pictures = material.photographs(bench.folder / "photographs")
    kept = bench.models[0].parents[1] / "real" / "model.tflite"
    model = material.model(kept, pictures, lambda text: bench.progress(text, 0.0))
    bench = replace(bench, models=(model, model), pictures=pictures[0].parent)
    bench.progress("bare: decode, resize and invoke in one thread", 0.1)
    bare = own_process(_bare, model, pictures)
    figures: dict[str, Any] = {"bare": bare, "floor": _floor(bench)}
    steady = Phase(str(RATE), STEADY_FRAMES, {"fps": RATE, **AS_IT_IS})
    full = [Phase(f"full {each}", FRAMES, {**UNLIMITED, **AS_IT_IS}) for each in range(REPEATS)]
    batches = [Phase(f"batches {each}", FRAMES, BATCHES) for each in range(REPEATS)]
    strict, _ = _modules(bench, [steady, *batches], 1)
    window, memory_mb = _modules(bench, full, WINDOW)
    return {
        **figures,
        str(RATE): strict[steady.name].latencies(),
        f"window_{WINDOW}": rates([window[each.name].per_s for each in full]),
        f"batches_{BATCH}": rates([strict[each.name].per_s for each in batches]),
        "inference_mb": memory_mb,
        "bytes_of_a_frame": round(sum(each.stat().st_size for each in pictures) / len(pictures)),
    }


def _modules(bench: Bench, phases: list[Phase], window: int) -> tuple[dict[str, PhaseResult], float]:
    """The results of the phases by name, and MB of the inference module after them."""
    phases = [replace(WARM_UP, camera={**WARM_UP.camera, **AS_IT_IS}), *phases]
    settings = RigSettings(
        bench.folder / f"rig-{window}", bench.pictures, desired=PATIENT, delivery_window=window
    )
    with Rig(settings) as rig:
        rig.start()
        rig.publish(bench.models[0])
        drive(rig, phases, bench.progress)
        memory_mb = round(resident_mb(child_pid("inference")), 1)
        rig.stop()
        sent, upstream = rig.records()
    check_all_answered(sent, upstream)
    return results_of(phases, sent, upstream), memory_mb


def _floor(bench: Bench) -> Mapping[str, Any]:
    if (program := mosquitto.program()) is None:
        return {"absent": "mosquitto is not installed: apt-get install mosquitto"}
    bench.progress("floor: the same frames and model on bare paho and mosquitto", 0.2)
    with mosquitto.running(program, bench.folder / "mosquitto", 1) as broker:
        warm, steady = floor.run_phases(bench, broker, [(floor.FULL, STEADY_FRAMES), (RATE, STEADY_FRAMES)])
    return {str(RATE): steady.latencies(), "per_s": {"inflight_1": warm.per_s}}


def _bare(model: Path, pictures: list[Path]) -> dict[str, Any]:
    """p50 in ms of one frame, and frames per second, decoding included, in one thread."""
    engine = Engine(read(model.read_bytes()))
    engine.warm()
    files = [each.read_bytes() for each in pictures]
    taken_ms = []
    for number in range(len(files) + BARE_FRAMES):
        began = time.perf_counter()
        engine.infer(prepare(decode_file(files[number % len(files)], engine.input), engine.input))
        if number >= len(files):
            taken_ms.append((time.perf_counter() - began) * 1e3)
    return {**latencies(taken_ms), "per_s": round(1e3 * len(taken_ms) / sum(taken_ms), 1)}
