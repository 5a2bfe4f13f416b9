"""Fuzzes one target in a process of its own, and reads what libFuzzer says at the end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from tests.fuzz.planted import PLANTED
from tests.fuzz.targets import TARGETS

ROOT: Final = Path(__file__).parents[2]
CORPUS: Final = Path(__file__).parent / "corpus"
FINDINGS: Final = ROOT / "build" / "fuzz"
LEDGER: Final = ROOT / "build" / "fuzz.json"

# SQLite on a disk takes ten times as long.
MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None
MAX_CASE_S: Final = 1
MAX_RSS_MB: Final = 512
SLOWER: Final = 4.0  # a busy machine may take so many times as long for the least cases
TIMEOUT: Final = "timeout"

_CASES: Final = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PEAK_RSS_MB: Final = re.compile(r"stat::peak_rss_mb:\s*(\d+)")
_COVERAGE: Final = re.compile(r"\bcov: (\d+)")
_WRITTEN: Final = re.compile(r"Test unit written to (\S+)")
_EXCEPTION: Final = re.compile(r"Uncaught Python exception: ===\n(.*?)\n(?:\n|==|$)", re.DOTALL)
_LIMIT: Final = re.compile(r"SUMMARY: libFuzzer: (.*)")


@dataclass(frozen=True)
class Finding:
    """An input that breaks a promise: what it did, and the file that holds it."""

    what: str  # the exception with its traceback, `timeout` or `out-of-memory`
    file: Path

    def __str__(self) -> str:
        return f"{self.what}\ninput: {self.file.read_bytes()!r}\nfile: {self.file}"


@dataclass(frozen=True)
class Result:
    """One run of one target. `coverage` counts the instrumented places that it reached."""

    target: str
    cases: int
    seconds: float
    seed: int
    coverage: int
    peak_rss_mb: int
    finding: Finding | None = None

    def line(self) -> str:
        """One line of the ledger."""
        end = "ok" if self.finding is None else f"FOUND {self.finding.what.splitlines()[0]}"
        return (
            f"{self.target:18} {self.cases:>9,} cases {self.seconds:5.1f} s  seed {self.seed:<10} "
            f"coverage {self.coverage:>5} {self.peak_rss_mb:>4} MB  {end}"
        )


def fuzz(target: str, seconds: float, seed: int, least_cases: int = 0) -> Result:
    """Run for so many seconds, or up to the first finding; on a slow machine longer, for the least cases.

    libFuzzer measures the time of a case by the wall clock. A case that is fast when it runs again alone was
    only waiting for a processor: it is no finding, and the run goes on.
    """
    begun, elapsed, cases, coverage, peak_rss_mb, finding = time.monotonic(), 0.0, 0, 0, 0, None
    while finding is None and (left := _left_s(seconds, elapsed, least_cases - cases)) > 0:
        limits = [f"-max_total_time={max(1, round(left))}", f"-seed={(seed + cases) % 2**32 or 1}"]
        if elapsed >= seconds:
            limits.append(f"-runs={least_cases - cases}")
        ended = _run(target, *limits, *_seeds(target))
        finding = _finding(target, ended)
        cases += _last(_CASES, ended.stdout)
        coverage = max(coverage, _last(_COVERAGE, ended.stdout))
        peak_rss_mb = max(peak_rss_mb, _last(_PEAK_RSS_MB, ended.stdout))
        if finding is not None and finding.what == TIMEOUT and not _run(target, str(finding.file)).returncode:
            finding = None
        elapsed = time.monotonic() - begun
    return Result(target, cases, elapsed, seed, coverage, peak_rss_mb, finding)


def _left_s(seconds: float, elapsed: float, missing_cases: int) -> float:
    return seconds - elapsed if elapsed < seconds or missing_cases <= 0 else SLOWER * seconds - elapsed


def write_ledger(results: Iterable[Mapping[str, Any]], file: Path = LEDGER) -> list[str]:
    """Write the results of a run without their lines; return the lines. Both in the order of the targets."""
    ordered = sorted(results, key=lambda result: str(result["target"]))
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = [{name: value for name, value in result.items() if name != "line"} for result in ordered]
    file.write_text(json.dumps(kept, indent=1) + "\n")
    return [str(result["line"]) for result in ordered]


def _seeds(target: str) -> list[str]:
    files = ",".join(sorted(str(path) for path in (CORPUS / target).glob("*")))
    return [f"-seed_inputs={files}"] if files else []


def _run(target: str, *options: str) -> subprocess.CompletedProcess[str]:
    FINDINGS.mkdir(parents=True, exist_ok=True)
    max_bytes = (TARGETS | PLANTED)[target].max_bytes
    command = [
        # A program begins with the peak of memory of the process that forked it (getrusage(2)), and libFuzzer
        # compares that. This process may have TensorFlow loaded; a shell that forks is small.
        *("sh", "-c", '"$@"; exit $?', "sh"),
        *(sys.executable, "-m", "tests.fuzz.process", target),
        *(f"-timeout={MAX_CASE_S}", f"-rss_limit_mb={MAX_RSS_MB}", f"-max_len={max_bytes}"),
        *("-print_final_stats=1", f"-artifact_prefix={FINDINGS / target}-", *options),
    ]
    with TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as folder:  # libFuzzer ends without removing any
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0", "TMPDIR": folder},  # the same seed, the same run
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )


def _last(pattern: re.Pattern[str], output: str) -> int:
    found = pattern.findall(output)
    return int(found[-1]) if found else 0


def _finding(target: str, ended: subprocess.CompletedProcess[str]) -> Finding | None:
    """What the process found. Raises RuntimeError if it ended for another reason, as a failed import."""
    if not ended.returncode:
        return None
    if (written := _WRITTEN.search(ended.stdout)) is None:
        raise RuntimeError(f"{target}: the process ended with {ended.returncode}: {ended.stdout[-2000:]}")
    raised, limit = _EXCEPTION.search(ended.stdout), _LIMIT.search(ended.stdout)
    what = raised[1] if raised else limit[1] if limit else "unknown"
    return Finding(what, Path(written[1]))
