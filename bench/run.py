"""Run scenarios one after the other and keep what they measured."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import report
from bench.scenarios import Bench, chosen
from demo.models import ensure

ROOT = Path(__file__).resolve().parents[1]
Progress = Callable[[str, float], None]


def run(
    names: tuple[str, ...], folder: Path, models: Path, dataset: str, progress: Progress
) -> dict[str, Any]:
    """Measure these scenarios (none named: those of every day) and return the whole report.

    `folder` takes the report and scratch space, `models` keeps the trained models. Raises BenchFailed, and
    what training raises.
    """
    scenarios = chosen(names)
    data = ensure(models, dataset, None, progress)
    path = folder / "report.json"
    model = {"sha256": hashlib.sha256(data.models[0].read_bytes()).hexdigest(), "dataset": data.dataset}
    facts = {"machine": report.machine(), "commit": report.commit(ROOT), "model": model}
    whole = report.read(path)
    for place, (name, scenario) in enumerate(scenarios.items()):
        scratch = folder / "scratch" / name
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)

        def told(text: str, share: float, name: str = name, place: int = place) -> None:
            progress(f"{name}: {text}", (place + share) / len(scenarios))

        told(scenario.about, 0.0)
        figures = scenario.measure(Bench(scratch, data.models, data.pictures, told))
        whole = report.write(path, facts, {name: figures})
        shutil.rmtree(scratch, ignore_errors=True)
    progress(f"done: {path}", 1.0)
    return whole
