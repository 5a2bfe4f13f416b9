"""The same frames as most programs send them: the SDK without TCP_NODELAY, and one POST per picture.

Under `http`, a frame ends with the classifier's answer: nothing is stored, and nothing reaches a hub. The
samples use Flask and requests; `twinship.bench.peers.http` stands in for Flask.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import requests

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import latencies
from twinship.bench.rig.child import child
from twinship.bench.rig.rig import RigSettings
from twinship.bench.scenarios.modules.frames import Phase, measure_phases

#: Frames per second → measured frames.
RATES: Final[Mapping[int, int]] = {10: 100, 50: 300}
ANSWER_S: Final = 30.0


def measure(bench: Bench) -> Mapping[str, Any]:
    """For each rate: through the hub without NODELAY, and under `http` with one POST per frame."""
    phases = [Phase(str(rate), frames, {"fps": rate}) for rate, frames in RATES.items()]
    settings = RigSettings(
        bench.folder / "rig", bench.pictures, program="twinship.bench.peers.without_nodelay"
    )
    results = measure_phases(bench, phases, settings)
    figures: dict[str, Any] = {name: result.latencies() for name, result in results.items()}
    pictures = [path.read_bytes() for path in sorted(bench.pictures.glob("*.png"))]
    log = bench.folder / "http.log"
    with child("twinship.bench.peers.http", str(bench.models[0]), log=log) as classifier:
        address = f"http://127.0.0.1:{int(classifier.line())}/image"
        figures["http"] = {str(rate): _post(address, pictures, rate, RATES[rate]) for rate in RATES}
    return figures


def _post(address: str, pictures: list[bytes], rate: int, count: int) -> dict[str, Any]:
    taken_ms = []
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        captured = time.monotonic_ns()
        requests.post(address, pictures[number % len(pictures)], timeout=ANSWER_S).json()
        taken_ms.append((time.monotonic_ns() - captured) / 1e6)
    return latencies(taken_ms)
