"""Two reports side by side: which figure became better or worse, by more than it varies by itself.

A median comes with the lowest and highest of five parts of its measurement: two whose ranges overlap do not
differ. A figure without a range must differ by NOISE. Pure but for `find`, which reads reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed
from twinship.bench.report import report

NOISE: Final = 0.15
HISTORY: Final = "commits"
#: How a figure's name ends → whether more of it is better. Names without one are settings, not figures.
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
    """One figure of both. `verdict`: better, worse or same."""

    name: str
    before: float
    after: float
    verdict: str

    @property
    def ratio(self) -> float | None:
        """after / before."""
        return round(self.after / self.before, 3) if self.before else None


def find(word: str, folder: Path) -> dict[str, Any]:
    """The report in a file, or that of a commit that was measured here. Raises BenchFailed."""
    kept = folder / HISTORY
    if not (paths := [Path(word)] if Path(word).is_file() else sorted(kept.glob(f"{word}*.json"))):
        named = report.named_commit(word)
        paths = sorted(kept.glob(f"{named}*.json")) if named else []
    if not paths:
        raise BenchFailed(f"{word} is no report, and no commit with one in {kept}: measure it first")
    if len(paths) > 1:
        raise BenchFailed(f"{word} is {' or '.join(path.stem for path in paths)}: name one of them")
    try:
        return report.read(paths[0])
    except ValueError as error:
        raise BenchFailed(f"{paths[0]} is no report of twinship bench") from error


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Compared]:
    """Every figure that both reports hold, in the order of the first. Raises BenchFailed for none."""
    old, new = dict(_figures(before)), dict(_figures(after))
    rows = [_compared(name, old[name], new[name]) for name in old if name in new]
    if not rows:
        raise BenchFailed("the two reports have no figure in common: run the same scenarios for both")
    return rows


def caveats(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What makes the two hard to compare, in words."""
    said = {"machine": "machines", "model": "models", "profile": "hub profiles"}
    return [
        f"measured with different {words}"
        for name, words in said.items()
        if before.get(name) != after.get(name)
    ]


@dataclass(frozen=True)
class _Figure:
    value: float
    lowest: float
    highest: float
    more_is_better: bool


def _figures(report: Mapping[str, Any]) -> Iterator[tuple[str, _Figure]]:
    yield from _walk("", {name: value for name, value in report.items() if name not in _FACTS})


def _walk(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, _Figure]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _walk(f"{prefix}{name}.", value)
        elif isinstance(value, int | float) and (better := _more_is_better(name)) is not None:
            lowest, highest = _range(name, table) or (value * (1 - NOISE / 2), value * (1 + NOISE / 2))
            yield prefix + name, _Figure(float(value), lowest, highest, better)


def _more_is_better(name: str) -> bool | None:
    return next((better for end, better in UNITS.items() if name.endswith(end)), None)


def _range(name: str, table: Mapping[str, Any]) -> tuple[float, float] | None:
    """p50_ms → p50_range_ms, per_s → range_per_s, inflight_1 → inflight_1_range."""
    first, _, unit = name.rpartition("_")
    for other in (f"{first}_range_{unit}", f"range_{name}", f"{name}_range"):
        if isinstance(table.get(other), list) and len(table[other]) == 2:
            return float(table[other][0]), float(table[other][1])
    return None


def _compared(name: str, before: _Figure, after: _Figure) -> Compared:
    if before.lowest <= after.highest and after.lowest <= before.highest:
        verdict = "same"
    else:
        verdict = "better" if (after.value > before.value) == before.more_is_better else "worse"
    return Compared(name, before.value, after.value, verdict)
