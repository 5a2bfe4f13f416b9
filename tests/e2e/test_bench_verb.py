"""`twinship bench` as a user runs it: figures in both reports, and what it says of a typing mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Command
from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.modules.frames import Phase, walk_frames

pytestmark = pytest.mark.e2e


@pytest.mark.long
def test_a_scenario_is_measured_reported_and_compared(twinship: Command, models: Path) -> None:
    """report.json and report.html, the bars of what was measured; a report differs from itself in nothing."""
    words = ("--dataset", "digits", "--models", str(models), "--folder", "bench")
    code, said = twinship.run("bench", "module", *words)
    assert code == 0, said
    report = json.loads((twinship.folder / "bench" / "report.json").read_text())
    assert report["module"]["beyond_invoke_us"] > 0
    assert len(report["model"]["sha256"]) == 64
    (bar,) = [each for each in report["bars"] if each["verdict"] != "not measured"]
    assert bar["value"] == report["module"]["beyond_invoke_us"]
    assert "module beyond bare invoke" in (twinship.folder / "bench" / "report.html").read_text()
    both = ("bench/report.json", "bench/report.json")
    code, said = twinship.run("bench", "compare", *both, "--json")
    assert code == 0, said
    assert {each["verdict"] for each in json.loads(said)} == {"same"}


@pytest.mark.parametrize(
    ("words", "named"),
    [(("singel",), "singel"), (("compare", "a"), "takes two"), (("compare", "a", "b"), "a is no report")],
)
def test_a_typing_mistake_is_one_line(twinship: Command, words: tuple[str, ...], named: str) -> None:
    """Nothing is measured, nothing is trained, no traceback."""
    code, said = twinship.run("bench", *words)
    assert code != 0
    assert named in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.long
def test_phases_are_measured_on_the_whole_path(tmp_path: Path, models: Path) -> None:
    """Each phase has its own frames, alone or in batches, with the same stages that add up to the total."""
    bench = Bench(
        tmp_path,
        (models / "1.0.0" / "model.tflite", models / "1.1.0" / "model.tflite"),
        models / "1.0.0" / "frames",
        lambda text, share: None,
    )
    phases = [Phase("alone", 50, {"fps": 100}), Phase("batches", 64, {"fps": 1000, "batch": 16})]
    walked = walk_frames(bench, phases)
    assert len(walked["alone"].totals_ms) == 50
    for name in ("alone", "batches"):
        each = walked[name]
        assert each.per_s > 0
        sums = [sum(stage) for stage in zip(*each.stages_ms.values(), strict=True)]
        assert sums == pytest.approx(each.totals_ms)
