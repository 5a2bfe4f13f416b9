"""The direct method `benchmark`: the result of the child, its limits, and failures."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from inference.artefact import read
from inference.benchmark import Benchmark, BenchmarkFailed, BenchmarkRequest, single_stream
from inference.model_section import ModelRef
from tests.models import RUNTIMES, tiny_artefact


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact())
    return path


def ref(path: Path) -> ModelRef:
    """The reference of this file."""
    data = path.read_bytes()
    return ModelRef("tiny", "1.0.0", len(data), hashlib.sha256(data).hexdigest())


def run(path: Path, runtime: str = "litert", **request: Any) -> dict[str, Any]:
    """The result of a real child process."""
    return Benchmark().run(path, ref(path), runtime, BenchmarkRequest(**request))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_default_is_the_number_of_queries_of_singlestream(artefact: Path, runtime: str) -> None:
    """1,024 queries; the result names the device, the runtime and the model."""
    result = run(artefact, runtime)
    assert result["schema"] == "twinship.benchmark.v1"
    assert result["queries"] == 1024
    assert 0 < result["invoke_ms"]["p50"] <= result["invoke_ms"]["p90"] <= result["invoke_ms"]["p99"]
    assert result["per_s"] > 0
    assert (result["runtime"], result["delegate"]) == (runtime, None)
    assert result["runtime_version"].startswith("2.")
    assert result["model"] == {**ref(artefact).reported(), "size": artefact.stat().st_size}
    device = result["device"]
    assert device["processor"]
    assert device["machine"]
    assert min(device["cores"], device["memory_mb"]) > 0


def test_the_time_limit_ends_the_benchmark() -> None:
    """It runs the queries that fit into the time, at least one."""
    result = single_stream(read(tiny_artefact()), "litert", queries=10**9, seconds=1e-9)
    assert result.queries == 1
    assert single_stream(read(tiny_artefact()), "litert", queries=7, seconds=60).queries == 7


def test_a_file_that_is_not_the_serving_model_is_refused(artefact: Path) -> None:
    """Another digest means another model."""
    running = ref(artefact)
    artefact.write_bytes(artefact.read_bytes() + b"x")
    with pytest.raises(BenchmarkFailed, match="not the model that runs"):
        Benchmark().run(artefact, running, "litert", BenchmarkRequest())


def test_a_failure_of_the_child_is_reported_in_one_line(tmp_path: Path) -> None:
    """A missing file is named."""
    missing = ModelRef("tiny", "1.0.0", 1, "0" * 64)
    with pytest.raises(BenchmarkFailed, match="No such file"):
        Benchmark().run(tmp_path / "none.tflite", missing, "litert", BenchmarkRequest())


def test_only_one_benchmark_runs_at_a_time(tmp_path: Path) -> None:
    """A second one fails at once; when the first has ended, another may start."""
    fifo, model = tmp_path / "model.tflite", ModelRef("tiny", "1.0.0", 1, "0" * 64)
    os.mkfifo(fifo)
    benchmark, request = Benchmark(), BenchmarkRequest()
    errors: list[str] = []

    def first() -> None:
        with pytest.raises(BenchmarkFailed) as raised:
            benchmark.run(fifo, model, "litert", request)
        errors.append(str(raised.value))

    thread = threading.Thread(target=first)
    thread.start()
    with fifo.open("wb"), pytest.raises(BenchmarkFailed, match="another benchmark is under way"):
        # open() waits until the child opens the file; the child then waits for the data.
        benchmark.run(fifo, model, "litert", request)
    thread.join()
    assert "not the model that runs" in errors[0]
    with pytest.raises(BenchmarkFailed, match="No such file"):
        benchmark.run(tmp_path / "none", model, "litert", request)
