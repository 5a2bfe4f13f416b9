"""The bare interpreter with each runtime: the time of the model alone, which is the lower limit."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.artefact import Artefact, read
from inference.runtimes import interpreter, versions
from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median, median_range
from twinship.bench.rig.own_process import own_process

WARM: Final = 500
TIMES: Final = 10_000


def measure(bench: Bench) -> Mapping[str, Any]:
    """For each runtime: the time of one invocation on one thread, and invocations per second."""
    return own_process(_by_runtime, bench.models[0])


def _by_runtime(model: Path) -> dict[str, Any]:
    artefact = read(model.read_bytes())
    return {runtime: _figures(invocations_us(artefact, runtime, TIMES)) for runtime in versions()}


def invocations_us(artefact: Artefact, runtime: str, times: int) -> list[float]:
    """The duration of each of `times` invocations in µs, after a warm-up."""
    loaded = interpreter(runtime, artefact.tflite, 1)
    loaded.allocate_tensors()
    source = loaded.get_input_details()[0]
    loaded.set_tensor(source["index"], np.zeros(source["shape"], source["dtype"]))
    taken_us = []
    for number in range(WARM + times):
        began = time.perf_counter_ns()
        loaded.invoke()
        if number >= WARM:
            taken_us.append((time.perf_counter_ns() - began) / 1e3)
    return taken_us


def _figures(taken_us: Sequence[float]) -> dict[str, Any]:
    return {
        "p50_us": round(median(taken_us), 2),
        "p50_range_us": median_range(taken_us),
        "per_s": round(1e6 * len(taken_us) / sum(taken_us)),
    }
