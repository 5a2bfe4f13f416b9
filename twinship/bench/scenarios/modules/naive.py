"""The same frames as most people send them today: the SDK without NODELAY, and a POST for each picture.

`http` ends with the answer of the classifier; nothing of it is stored or has reached a hub. The samples use
Flask and requests; Flask's server is the standard library's, which stands in for it here.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import requests

from twinship.bench import BenchFailed
from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import Latencies
from twinship.bench.rig.rig import RigSettings
from twinship.bench.scenarios.modules.frames import Phase, walk_frames

#: Frames in a second → how many are measured.
RATES: Final[Mapping[int, int]] = {10: 100, 50: 300}
MODULES: Final = ("inference", "camera_sim")
READY_S: Final = 30.0


def measure(bench: Bench) -> Mapping[str, Any]:
    """By rate, through the hub without NODELAY; under `http` by rate with a POST for each frame."""
    phases = [Phase(str(rate), frames, {"fps": rate}) for rate, frames in RATES.items()]
    settings = RigSettings(
        bench.folder / "rig", bench.pictures, program="twinship.bench.peers.without_nodelay"
    )
    walked = walk_frames(bench, phases, settings)
    figures: dict[str, Any] = {name: each.latencies() for name, each in walked.items() if name != "warm"}
    with _classifier(bench) as address:
        pictures = [path.read_bytes() for path in sorted(bench.pictures.glob("*.png"))]
        figures["http"] = {str(rate): _post(address, pictures, rate, RATES[rate]) for rate in RATES}
    return figures


def _post(address: str, pictures: list[bytes], rate: int, count: int) -> dict[str, Any]:
    taken_ms = []
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        captured = time.monotonic_ns()
        requests.post(address, pictures[number % len(pictures)], timeout=READY_S).json()
        taken_ms.append((time.monotonic_ns() - captured) / 1e6)
    return Latencies(taken_ms).figures()


@contextmanager
def _classifier(bench: Bench) -> Iterator[str]:
    with (bench.folder / "http.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "twinship.bench.peers.http", str(bench.folder), str(bench.models[0])],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{_port(process, bench.folder / 'port')}/image"
    finally:
        process.kill()
        process.wait()


def _port(process: subprocess.Popen[bytes], file: Path) -> int:
    deadline = time.monotonic() + READY_S
    while not file.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchFailed(f"the HTTP classifier did not come up: see {file.with_name('http.log')}")
        time.sleep(0.05)
    return int(file.read_text())
