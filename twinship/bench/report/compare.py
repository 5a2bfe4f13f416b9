"""Compare two reports: which figures became better or worse by more than noise.

A median has a range: the lowest and the highest median of the blocks of its measurement. Two figures whose
ranges overlap count as equal. A figure without a range gets one of NOISE around it.

>>> compare({"startup_s": 2.0}, {"startup_s": 1.0})[0].verdict
'better'
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.report import report

NOISE: Final = 0.15
HISTORY: Final = "commits"
_COMMIT: Final = re.compile(r"[0-9a-z]+\+?")  # as the files of HISTORY are named: no pattern, no other folder
#: End of a figure's name → whether more is better. A number whose name has no such end is a setting.
UNITS: Final[Mapping[str, bool]] = {
    "per_s": True,
    "inflight_1": True,
    "inflight_100": True,
    "_ms": False,
    "_us": False,
    "_mb": False,
    "_s": False,
    "_ratio": False,
    "lost": False,
    "dropped": False,
    "doubled": False,
}
_FACTS: Final = frozenset({"schema", "profile", "machine", "commit", "model", "measured", "bars"})


@dataclass(frozen=True)
class Compared:
    """One figure of both reports. `verdict`: better, worse or same."""

    name: str
    before: float
    after: float
    verdict: str

    @property
    def ratio(self) -> float | None:
        """after / before."""
        return round(self.after / self.before, 3) if self.before else None


def find(name: str, folder: Path) -> dict[str, Any]:
    """Read a report: `name` is a file, or a commit that was measured into `folder`. Raises BenchFailed."""
    history = folder / HISTORY
    paths = [Path(name)] if Path(name).is_file() else []
    if not paths and _COMMIT.fullmatch(name):
        paths = sorted(history.glob(f"{name}*.json"))
    if not paths and name.strip() and not name.startswith("-"):
        commit = report.named_commit(name)
        paths = sorted(history.glob(f"{commit}*.json")) if commit else []
    if not paths:
        raise BenchFailed(
            f"{name} is not a report, and {history} has no report of such a commit: measure it first"
        )
    if len(paths) > 1:
        raise BenchFailed(f"{name} can be {' or '.join(path.stem for path in paths)}: name one of them")
    try:
        return report.read(paths[0])
    except (ValueError, OSError, RecursionError) as error:
        raise BenchFailed(f"{paths[0]} is not a report of twinship bench") from error


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Compared]:
    """Every figure of both reports, in the order of the first. Raises BenchFailed if there is none."""
    old, new = (dict(_figures("", report)) for report in (before, after))
    rows = [_compared(name, old[name], new[name]) for name in old if name in new]
    if not rows:
        raise BenchFailed("the two reports have no figure in common: run the same scenarios for both")
    return rows


def caveats(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The reasons why the two reports may not be comparable, one line each."""
    plurals = {"machine": "machines", "model": "models", "profile": "hub profiles"}
    return [
        f"measured with different {plural}"
        for name, plural in plurals.items()
        if before.get(name) != after.get(name)
    ]


@dataclass(frozen=True)
class _Figure:
    value: float
    lowest: float
    highest: float
    more_is_better: bool


def _figures(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, _Figure]]:
    for name, value in table.items():
        if prefix + name in _FACTS:
            continue
        if isinstance(value, Mapping):
            yield from _figures(f"{prefix}{name}.", value)
        elif isinstance(value, int | float) and (better := _more_is_better(name)) is not None:
            lowest, highest = _range(name, table) or (value * (1 - NOISE / 2), value * (1 + NOISE / 2))
            yield prefix + name, _Figure(float(value), lowest, highest, better)


def _more_is_better(name: str) -> bool | None:
    return next((better for end, better in UNITS.items() if name.endswith(end)), None)


def _range(name: str, table: Mapping[str, Any]) -> tuple[float, float] | None:
    """The range of a figure: p50_ms has p50_range_ms, per_s range_per_s, inflight_1 inflight_1_range."""
    first, _, unit = name.rpartition("_")
    for other in (f"{first}_range_{unit}", f"range_{name}", f"{name}_range"):
        match table.get(other):
            case [int() | float() as lowest, int() | float() as highest]:
                return float(lowest), float(highest)
    return None


def _compared(name: str, before: _Figure, after: _Figure) -> Compared:
    if before.lowest <= after.highest and after.lowest <= before.highest:
        verdict = "same"
    else:
        verdict = "better" if (after.value > before.value) == before.more_is_better else "worse"
    return Compared(name, before.value, after.value, verdict)
