"""Run scenarios one after the other and write their figures into the report."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinship.bench.catalogue import Bench, chosen
from twinship.bench.report import page, report
from twinship.bench.report.compare import HISTORY
from twinship.bench.report.thresholds import results
from twinship.demo.models import ensure

ROOT = Path(__file__).resolve().parents[2]
Progress = Callable[[str, float], None]


def run(
    names: tuple[str, ...], folder: Path, models: Path, dataset: str, progress: Progress
) -> dict[str, Any]:
    """Measure these scenarios (none named: the everyday ones) and return the whole report.

    `folder` takes the report and scratch space, `models` the trained models. Raises BenchFailed, DemoFailed
    and the errors of training.
    """
    scenarios = chosen(names)
    for scenario in scenarios.values():
        scenario.check()
    data = ensure(models, dataset, None, progress)
    path = folder / "report.json"
    model = {"sha256": hashlib.sha256(data.models[0].read_bytes()).hexdigest(), "dataset": data.dataset}
    facts = {"machine": report.machine(), "commit": report.commit(ROOT), "model": model}
    run = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": facts["commit"]}
    for index, (name, scenario) in enumerate(scenarios.items()):
        scratch = folder / "scratch" / name
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)

        def scenario_progress(text: str, share: float, name: str = name, index: int = index) -> None:
            progress(f"{name}: {text}", (index + share) / len(scenarios))

        scenario_progress(scenario.about, 0.0)
        began = time.monotonic()
        figures = scenario.measure(Bench(scratch, data.models, data.pictures, scenario_progress))
        measured = {
            **report.read(path).get("measured", {}),
            name: {**run, "took_s": round(time.monotonic() - began, 1)},
        }
        report.write(path, {**facts, "measured": measured}, {name: figures})
        shutil.rmtree(scratch, ignore_errors=True)
    whole = report.write(path, {"bars": [each.to_json() for each in results(report.read(path))]}, {})
    (folder / "report.html").write_text(page.html(whole))
    _store_for_commit(folder, whole)
    progress(f"done: {path}", 1.0)
    return whole


def _store_for_commit(folder: Path, whole: Mapping[str, Any]) -> None:
    """Write the figures of this commit to a file that `bench compare` finds by the commit's name."""
    commit = whole["commit"]
    others = {name for name, run in whole["measured"].items() if run["commit"] != commit}
    ours = {name: value for name, value in whole.items() if name not in others}
    path = folder / HISTORY / f"{commit or 'unknown'}.json"
    path.unlink(missing_ok=True)  # `report.write` would merge figures of an older measurement
    report.write(path, ours, {})
