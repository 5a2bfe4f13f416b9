"""`twinship bench` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Command
from twinship.bench.catalogue import Bench
from twinship.bench.scenarios.modules.frames import Phase, measure_phases

pytestmark = pytest.mark.e2e


@pytest.mark.long
def test_a_scenario_is_measured_reported_and_compared(twinship: Command, models: Path) -> None:
    """Both reports have its figures and thresholds; a report compared with itself shows no difference."""
    options = ("--dataset", "digits", "--models", str(models), "--folder", "bench")
    code, output = twinship.run("bench", "module", *options)
    assert code == 0, output
    report = json.loads((twinship.folder / "bench" / "report.json").read_text())
    assert report["module"]["beyond_invoke_us"] > 0
    assert len(report["model"]["sha256"]) == 64
    (result,) = [each for each in report["bars"] if each["verdict"] != "not measured"]
    assert result["value"] == report["module"]["beyond_invoke_us"]
    assert "module beyond bare invoke" in (twinship.folder / "bench" / "report.html").read_text()
    both = ("bench/report.json", "bench/report.json")
    code, output = twinship.run("bench", "compare", *both, "--json")
    assert code == 0, output
    assert {each["verdict"] for each in json.loads(output)} == {"same"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(("singel",), "singel"), (("compare", "a"), "takes two"), (("compare", "a", "b"), "a is not a report")],
)
def test_a_typing_mistake_gives_one_line(twinship: Command, arguments: tuple[str, ...], named: str) -> None:
    """Nothing is measured or trained, and there is no traceback."""
    code, output = twinship.run("bench", *arguments)
    assert code != 0
    assert named in output
    assert "Traceback" not in output
    assert len(output.splitlines()) == 1


def test_an_unusable_scale_of_the_soak_is_named_before_the_work(twinship: Command) -> None:
    """No model is trained for it, and no report is written."""
    code, output = twinship.run("bench", "soak", "--dataset", "digits", TWINSHIP_SOAK_SCALE="0")
    assert code != 0
    assert output.splitlines() == [line for line in output.splitlines() if "TWINSHIP_SOAK_SCALE='0'" in line]
    assert list(twinship.folder.iterdir()) == []


@pytest.mark.long
def test_phases_are_measured_on_the_whole_path(tmp_path: Path, models: Path) -> None:
    """Each phase has its own frames, alone or in batches, and their stages add up to the total."""
    bench = Bench(
        tmp_path,
        (models / "1.0.0" / "model.tflite", models / "1.1.0" / "model.tflite"),
        models / "1.0.0" / "frames",
        lambda text, share: None,
    )
    phases = [Phase("alone", 50, {"fps": 100}), Phase("batches", 64, {"fps": 1000, "batch": 16})]
    results = measure_phases(bench, phases)
    assert len(results["alone"].totals_ms) == 50
    for name in ("alone", "batches"):
        each = results[name]
        assert each.per_s > 0
        sums = [sum(stage) for stage in zip(*each.stages_ms.values(), strict=True)]
        assert sums == pytest.approx(each.totals_ms)
