"""The bare speed of the running model on this very device: one invoke after the other, nothing around it.

MLPerf's SingleStream scenario: the next query begins when the last one ended, at least 1,024 of them unless
the time is up before. `python -m inference.benchmark FILE` is the child, niced and confined as a proof is, so
that frames come first; Benchmark is the parent's side. It decides nothing about models.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import platform
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from inference.artefact import MAX_ARTEFACT_BYTES, Artefact, read
from inference.engine import Engine
from inference.model_section import ModelRef
from inference.models.child_process import ONE_THREAD, ChildProcess, Ended, TookTooLong, answer, confine
from inference.models.prove import MAX_MEMORY_BYTES
from inference.runtimes import versions

SCHEMA: Final = "twinship.benchmark.v1"
MIN_QUERIES: Final = 1024
PERCENTILES: Final = (50, 90, 99)
_START_S: Final = 20.0  # for a process to start, load and warm on a busy device


class BenchmarkRequest(BaseModel):
    """The method's payload."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    queries: int = Field(default=MIN_QUERIES, ge=1, le=1_000_000)
    seconds: float = Field(default=10.0, gt=0, le=240)  # and no longer, however many queries that makes


class BenchmarkFailed(Exception):
    """There are no figures; one line says why."""


@dataclass(frozen=True)
class Speed:
    """What the child measured. `invoke_ms` is nearest-rank over all queries."""

    runtime_version: str
    queries: int
    invoke_ms: dict[str, float]
    per_s: float


class Benchmark:
    """One at a time. May be called from any thread."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def run(
        self, file: Path, ref: ModelRef, runtime: str, request: BenchmarkRequest, delegate: str = ""
    ) -> dict[str, Any]:
        """The method's answer. Raises BenchmarkFailed. Takes request.seconds and the start of a process."""
        if not self._one.acquire(blocking=False):
            raise BenchmarkFailed("another benchmark is under way")
        try:
            speed = _measured(file, ref.sha256, runtime, delegate, request)
        finally:
            self._one.release()
        return {
            "schema": SCHEMA,
            "device": device(),
            "runtime": runtime,
            "runtime_version": speed.runtime_version,
            "delegate": delegate or None,
            "model": {**ref.reported(), "size": ref.size},
            "queries": speed.queries,
            "invoke_ms": speed.invoke_ms,
            "per_s": speed.per_s,
        }


def device() -> dict[str, Any]:
    """What the figures depend on, as far as the system tells."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # Boards with ARM cores have no "model name"; some have "Model", as "Raspberry Pi 4 Model B".
    found = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    return found.get("model name") or found.get("Model") or platform.processor() or "unknown"


def _measured(file: Path, sha256: str, runtime: str, delegate: str, request: BenchmarkRequest) -> Speed:
    command = [sys.executable, "-I", "-m", "inference.benchmark", str(file), "--sha256", sha256]
    command += ["--runtime", runtime, "--delegate", delegate]
    command += ["--queries", str(request.queries), "--seconds", str(request.seconds)]
    try:
        ended = ChildProcess().run(command, timeout_s=request.seconds + _START_S, environment=ONE_THREAD)
    except TookTooLong as error:
        raise BenchmarkFailed(str(error)) from error
    except OSError as error:
        raise BenchmarkFailed(f"the process did not start: {error.strerror}") from error
    match ended.said:
        case {"speed": dict(figures)} if not ended.status:
            return Speed(**figures)
        case {"failed": str(why)}:
            raise BenchmarkFailed(why)
    raise BenchmarkFailed(f"the process ended with status {ended.status} and no figures")


# -- the child -----------------------------------------------------------------------------------------------


def single_stream(
    artefact: Artefact, runtime: str, queries: int, seconds: float, delegate: str = ""
) -> Speed:
    """Invoke until there are so many queries or the time is up, at least once."""
    engine = Engine(artefact, runtime=runtime, delegate=delegate)
    engine.warm()
    spec = artefact.manifest.input
    picture = np.frombuffer(artefact.probes.images[: spec.pixels], np.uint8)
    invoke = engine.prepared(picture.reshape(spec.height, spec.width, spec.channels))
    times_ns: list[int] = []
    began = now = perf_counter_ns()
    until = began + int(seconds * 1e9)
    while not times_ns or (len(times_ns) < queries and now < until):
        invoke()
        then, now = now, perf_counter_ns()
        times_ns.append(now - then)
    ordered = sorted(times_ns)
    ranks = {f"p{p}": ordered[math.ceil(p / 100 * len(ordered)) - 1] / 1e6 for p in PERCENTILES}
    per_s = len(ordered) / ((now - began) / 1e9)
    return Speed(versions()[engine.runtime], len(ordered), ranks, round(per_s, 3))


def main(argv: Sequence[str]) -> int:
    """The child's whole life: one JSON line, exit code 0 with figures, 1 without."""
    parser = argparse.ArgumentParser(prog="python -m inference.benchmark", description="Time one artefact.")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--sha256", required=True)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--delegate", default="", metavar="LIBRARY")
    parser.add_argument("--queries", type=int, default=MIN_QUERIES)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(argv)
    confine(MAX_MEMORY_BYTES, math.ceil(options.seconds + _START_S))
    try:
        artefact = _read(options.file, options.sha256)
        speed = single_stream(artefact, options.runtime, options.queries, options.seconds, options.delegate)
    except Exception as error:  # a runtime raises what it likes
        return answer(Ended(1, {"failed": " ".join(str(error).split())[:300] or repr(error)}))
    return answer(Ended(0, {"speed": asdict(speed)}))


def _read(file: Path, sha256: str) -> Artefact:
    with file.open("rb") as opened:
        data = opened.read(MAX_ARTEFACT_BYTES + 1)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BenchmarkFailed("the file on disk is not the model that runs; cure: publish it again")
    return read(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
