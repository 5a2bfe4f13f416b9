"""Measures how fast the serving model runs on this device: direct method `benchmark`.

Follows the SingleStream scenario of MLPerf: each query starts when the last one has ended, 1,024 queries by
default or as many as the time allows. `Benchmark` starts `python -m inference.benchmark TASK` as a child
process, niced and limited like a proof, so that frames have priority.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from inference.artefact import MAX_ARTEFACT_BYTES, Artefact, read
from inference.engine import Engine
from inference.model_section import ModelRef
from inference.models.child_process import (
    ONE_THREAD,
    ChildProcess,
    Ended,
    TookTooLong,
    confine,
    module_command,
    print_result,
)
from inference.models.prove import MAX_MEMORY_BYTES
from inference.runtimes import one_line, versions

SCHEMA: Final = "twinship.benchmark.v1"
MIN_QUERIES: Final = 1024
PERCENTILES: Final = (50, 90, 99)
_START_S: Final = 20.0  # to start a process, load and warm the model on a busy device


class BenchmarkRequest(BaseModel):
    """The payload of the method."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    queries: int = Field(default=MIN_QUERIES, ge=1, le=1_000_000)
    seconds: float = Field(default=10.0, gt=0, le=240)  # ends the benchmark, however many queries are done


class _Task(BenchmarkRequest):
    """What the child gets as its argument."""

    file: Path
    sha256: str
    runtime: str
    delegate: str


class BenchmarkFailed(Exception):
    """The benchmark has no result; the message is one line."""


@dataclass(frozen=True)
class Speed:
    """The result of the child. `invoke_ms` holds nearest-rank percentiles of all queries."""

    runtime_version: str
    queries: int
    invoke_ms: dict[str, float]
    per_s: float


class Benchmark:
    """Runs one benchmark at a time. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def run(
        self, file: Path, ref: ModelRef, runtime: str, request: BenchmarkRequest, delegate: str = ""
    ) -> dict[str, Any]:
        """Return the answer of the method. Blocks for request.seconds plus the start of a process.

        Raises BenchmarkFailed.
        """
        if not self._lock.acquire(blocking=False):
            raise BenchmarkFailed("another benchmark is under way")
        try:
            task = _Task(
                file=file, sha256=ref.sha256, runtime=runtime, delegate=delegate, **request.model_dump()
            )
            speed = _run_child(task)
        finally:
            self._lock.release()
        return {
            "schema": SCHEMA,
            "device": device(),
            "runtime": runtime,
            "delegate": delegate or None,
            "model": {**ref.reported(), "size": ref.size},
            **speed,
        }


def device() -> dict[str, Any]:
    """Return the properties of this machine that influence the result."""
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
    # ARM boards have no "model name"; some have "Model", for example "Raspberry Pi 4 Model B".
    found = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    return found.get("model name") or found.get("Model") or platform.processor() or "unknown"


def _run_child(task: _Task) -> dict[str, Any]:
    command = module_command("inference.benchmark", task.model_dump_json())
    try:
        ended = ChildProcess().run(command, timeout_s=task.seconds + _START_S, environment=ONE_THREAD)
    except TookTooLong as error:
        raise BenchmarkFailed(str(error)) from error
    except OSError as error:
        raise BenchmarkFailed(f"the process did not start: {error.strerror}") from error
    match ended.result:
        case {"speed": dict(figures)} if not ended.status:
            return figures
        case {"failed": str(reason)}:
            raise BenchmarkFailed(reason)
    raise BenchmarkFailed(f"the process ended with status {ended.status} and no result")


# -- the child -----------------------------------------------------------------------------------------------


def single_stream(
    artefact: Artefact, runtime: str, queries: int, seconds: float, delegate: str = ""
) -> Speed:
    """Invoke the model `queries` times, or until `seconds` are over, but at least once."""
    engine = Engine(artefact, runtime=runtime, delegate=delegate)
    engine.warm()
    spec = artefact.manifest.input
    picture = np.frombuffer(artefact.probes.images[: spec.pixels], np.uint8)
    invoke = engine.prepared(picture.reshape(spec.height, spec.width, spec.channels))
    times_ns: list[int] = []
    start = now = perf_counter_ns()
    until = start + int(seconds * 1e9)
    while not times_ns or (len(times_ns) < queries and now < until):
        invoke()
        previous, now = now, perf_counter_ns()
        times_ns.append(now - previous)
    ordered = sorted(times_ns)
    ranks = {f"p{p}": ordered[math.ceil(p / 100 * len(ordered)) - 1] / 1e6 for p in PERCENTILES}
    per_s = len(ordered) / ((now - start) / 1e9)
    return Speed(versions()[engine.runtime], len(ordered), ranks, round(per_s, 3))


def main(argument: str) -> int:
    """Run in the child: print one line of JSON; exit code 0 with a result, 1 without."""
    task = _Task.model_validate_json(argument)
    confine(MAX_MEMORY_BYTES, math.ceil(task.seconds + _START_S))
    try:
        artefact = _read(task.file, task.sha256)
        speed = single_stream(artefact, task.runtime, task.queries, task.seconds, task.delegate)
    except Exception as error:  # runtimes raise any exception
        return print_result(Ended(1, {"failed": one_line(error)}))
    return print_result(Ended(0, {"speed": asdict(speed)}))


def _read(file: Path, sha256: str) -> Artefact:
    with file.open("rb") as opened:
        data = opened.read(MAX_ARTEFACT_BYTES + 1)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BenchmarkFailed("the file on disk is not the model that runs; cure: publish it again")
    return read(data)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
