"""Every parser of a stranger's bytes raises only what it promises: for its corpus, and for random bytes."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.campaign import CORPUS, MAX_RSS_MB, ROOT, fuzz, write_ledger
from tests.fuzz.targets import TARGETS

SECONDS, LEAST_CASES = 30.0, 20_000
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: it has no wheel here"
)


def seed() -> int:
    """FUZZ_SEED, else always the same on CI, else random."""
    chosen = 1 if os.environ.get("CI") else random.randrange(1, 2**32)
    return int(os.environ.get("FUZZ_SEED", chosen))


@pytest.mark.parametrize("target", TARGETS)
def test_a_parser_keeps_its_promise_for_its_corpus(target: str) -> None:
    """No input of the corpus raises another exception than the promised ones, and some are accepted."""
    case, promised = TARGETS[target].prepare()
    accepted = 0
    for path in sorted((CORPUS / target).iterdir()):
        with contextlib.suppress(*promised):
            case(path.read_bytes())
            accepted += 1
    assert accepted


def test_each_folder_of_the_corpus_belongs_to_a_target() -> None:
    """A target without a corpus, or a corpus without a target, is a mistake."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.long
@needs_atheris
@pytest.mark.parametrize("target", TARGETS)
def test_a_parser_keeps_its_promise_for_any_bytes(
    target: str, record_property: Callable[[str, object], None]
) -> None:
    """At least 20,000 cases in 30 s: no other exception than the promised ones, none over 1 s or 512 MB."""
    result = fuzz(target, SECONDS, seed(), LEAST_CASES)
    record_property("fuzz", {**asdict(result), "finding": str(result.finding or ""), "line": result.line()})
    assert result.finding is None, f"{result.line()}\n{result.finding}"
    assert result.cases >= LEAST_CASES, result.line()


@needs_atheris
def test_an_exception_that_nobody_promised_is_found_and_shown_with_its_input() -> None:
    """The defect of the planted target shows for one input only."""
    found = fuzz("planted-exception", 20, 7).finding
    assert found is not None
    assert found.what.startswith("IndexError: planted\n")
    assert found.file.read_bytes() == b"!"
    assert "input: b'!'" in str(found)


@needs_atheris
@pytest.mark.parametrize(
    ("target", "what"), [("planted-hang", "timeout"), ("planted-memory", "out-of-memory")]
)
def test_a_case_that_takes_too_much_time_or_memory_is_found(target: str, what: str) -> None:
    """The limits are one second of a case and 512 MB of the process."""
    result = fuzz(target, 20, 7)
    assert result.finding is not None
    assert result.finding.what == what
    assert (result.peak_rss_mb > MAX_RSS_MB) == (what == "out-of-memory")


@needs_atheris
def test_the_command_prints_a_line_and_fails_after_a_finding() -> None:
    """Exit code 1 and the input; 0 and the number of cases without a finding; 1 with too few cases."""

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "tests.fuzz", *arguments, "--seed", "7"]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stdout

    code, shown = run("planted-exception", "--seconds", "20")
    assert code == 1
    assert "FOUND IndexError" in shown
    assert "input: b'!'" in shown
    code, shown = run("connect", "--seconds", "1", "--cases", "10")
    assert (code, "ok" in shown) == (0, True)
    assert run("connect", "--seconds", "0.5", "--cases", "1000000000")[0] == 1


def test_the_ledger_of_a_run_is_a_file_and_lines(tmp_path: Path) -> None:
    """The results of all targets of a run, each with its seed."""
    results = [{"target": name, "seed": seed, "line": f"line of {name}"} for seed, name in enumerate("ba")]
    file = tmp_path / "build" / "fuzz.json"
    assert write_ledger(results, file) == ["line of a", "line of b"]
    assert json.loads(file.read_text()) == [{"target": "a", "seed": 1}, {"target": "b", "seed": 0}]


def test_a_case_that_only_waited_for_a_processor_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs again alone: if it is fast then, the run goes on; if it is slow again, it is found."""

    def ends(*codes: int) -> Callable[..., subprocess.CompletedProcess[str]]:
        """A process that ends with these codes in turn, where 70 is a time-out."""
        left = iter(codes)

        def run(target: str, *options: str) -> subprocess.CompletedProcess[str]:
            code = next(left)
            written = "SUMMARY: libFuzzer: timeout\nTest unit written to /x\n" if code else ""
            return subprocess.CompletedProcess([], code, f"{written}stat::number_of_executed_units: 5\n")

        return run

    monkeypatch.setattr(campaign, "_run", ends(70, 0, *[0] * 1000))
    result = fuzz("route", 0.001, 7, least_cases=20)
    assert (result.finding, result.cases >= 5) == (None, True)
    monkeypatch.setattr(campaign, "_run", ends(70, 70))
    found = fuzz("route", 0.001, 7).finding
    assert found is not None
    assert found.what == "timeout"
