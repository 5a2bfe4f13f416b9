"""The bare speed of a model: the child's figures, what it may be asked, and what becomes of a failure."""

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
from tests.models import tiny_artefact


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(tiny_artefact())
    return path


def ref(path: Path) -> ModelRef:
    """What the file is."""
    data = path.read_bytes()
    return ModelRef("tiny", "1.0.0", len(data), hashlib.sha256(data).hexdigest())


def run(path: Path, runtime: str = "litert", **request: Any) -> dict[str, Any]:
    """A real child's figures."""
    return Benchmark().run(path, ref(path), runtime, BenchmarkRequest(**request))


@pytest.mark.parametrize("runtime", ["litert", "tflite_runtime"])
def test_as_many_queries_as_singlestream_asks_for(artefact: Path, runtime: str) -> None:
    """1,024 by default, each one timed; the answer says on what, with what, of which model."""
    found = run(artefact, runtime)
    assert found["schema"] == "twinship.benchmark.v1"
    assert found["queries"] == 1024
    assert 0 < found["invoke_ms"]["p50"] <= found["invoke_ms"]["p90"] <= found["invoke_ms"]["p99"]
    assert found["per_s"] > 0
    assert (found["runtime"], found["delegate"]) == (runtime, None)
    assert found["runtime_version"].startswith("2.")
    assert found["model"] == {**ref(artefact).reported(), "size": artefact.stat().st_size}
    device = found["device"]
    assert device["processor"]
    assert device["machine"]
    assert min(device["cores"], device["memory_mb"]) > 0


def test_the_time_that_is_given_ends_it() -> None:
    """Whoever asks for too many queries gets those that there was time for, and at least one."""
    found = single_stream(read(tiny_artefact()), "litert", queries=10**9, seconds=1e-9)
    assert found.queries == 1
    assert single_stream(read(tiny_artefact()), "litert", queries=7, seconds=60).queries == 7


def test_a_file_that_is_not_the_running_model_is_not_measured(artefact: Path) -> None:
    """Disks fail: figures of other bytes would be figures of another model."""
    running = ref(artefact)
    artefact.write_bytes(artefact.read_bytes() + b"x")
    with pytest.raises(BenchmarkFailed, match="not the model that runs"):
        Benchmark().run(artefact, running, "litert", BenchmarkRequest())


def test_a_child_without_figures_is_one_line(tmp_path: Path) -> None:
    """A missing file is named, as any failure of the child."""
    missing = ModelRef("tiny", "1.0.0", 1, "0" * 64)
    with pytest.raises(BenchmarkFailed, match="No such file"):
        Benchmark().run(tmp_path / "none.tflite", missing, "litert", BenchmarkRequest())


def test_one_at_a_time(tmp_path: Path) -> None:
    """Two at once would measure each other; when the first has ended another may begin."""
    fifo, model = tmp_path / "model.tflite", ModelRef("tiny", "1.0.0", 1, "0" * 64)
    os.mkfifo(fifo)
    one, request = Benchmark(), BenchmarkRequest()
    ended: list[str] = []

    def first() -> None:
        with pytest.raises(BenchmarkFailed) as raised:
            one.run(fifo, model, "litert", request)
        ended.append(str(raised.value))

    thread = threading.Thread(target=first)
    thread.start()
    with fifo.open("wb"), pytest.raises(BenchmarkFailed, match="another benchmark is under way"):
        # Opening it waits for the child, which now waits for us.
        one.run(fifo, model, "litert", request)
    thread.join()
    assert "not the model that runs" in ended[0]
    with pytest.raises(BenchmarkFailed, match="No such file"):
        one.run(tmp_path / "none", model, "litert", request)
