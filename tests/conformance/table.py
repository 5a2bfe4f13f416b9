"""Computes a verdict for each numbered statement of the protocol reference from the test outcomes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

STATEMENTS: Final = range(1, 97)
_NAME: Final = re.compile(r"test_([0-9]{1,3})_\w+")
#: The result of a statement is the worst of its outcomes.
_WORST_FIRST: Final = ("fail", "skipped", "pass")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a test. `result`: pass, fail or skipped; `reason`: why it was skipped or did not run."""

    node: str  # pytest's node id: path::name[parameters]
    result: str
    reason: str = ""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one statement. `result`: pass, fail, skipped, refused or missing."""

    result: str
    test: str = ""  # path::name, without parameters
    reason: str = ""

    def to_json(self) -> dict[str, str]:
        """All fields that have a value."""
        return {name: value for name, value in vars(self).items() if value}


def number_of(node: str) -> int | None:
    """The number of a test's statement, from its name `test_NN_...`; None for other tests."""
    match = _NAME.match(_test(node).rpartition("::")[2])
    return int(match[1]) if match else None


def verdicts(outcomes: Iterable[Outcome], refused: Mapping[int, str]) -> dict[int, Verdict]:
    """One verdict for every statement. `refused`: the text of refusal by number."""
    by_number: dict[int, list[Outcome]] = {}
    for outcome in outcomes:
        if (number := number_of(outcome.node)) is not None:
            by_number.setdefault(number, []).append(outcome)
    return {number: _verdict(by_number.get(number, []), refused.get(number)) for number in STATEMENTS}


def unexcused(table: Mapping[int, Verdict]) -> list[int]:
    """The statements that neither pass nor are refused by name."""
    return [number for number, verdict in table.items() if verdict.result not in ("pass", "refused")]


def lines(table: Mapping[int, Verdict]) -> list[str]:
    """The table as text: one line for each statement, and the totals."""
    rows = [f"{number:3}  {each.result:8} {_shown(each)}".rstrip() for number, each in table.items()]
    results = [verdict.result for verdict in table.values()]
    counts = ", ".join(f"{results.count(each)} {each}" for each in sorted(set(results), key=results.index))
    return [*rows, f"{len(results)} statements: {counts}"]


def _verdict(outcomes: list[Outcome], refused: str | None) -> Verdict:
    tests = sorted({_test(outcome.node) for outcome in outcomes})
    if len(tests) > 1:
        return Verdict("fail", tests[0], f"two tests have this number, also {tests[1]}")
    if not tests:
        return Verdict("missing") if refused is None else Verdict("refused", reason=refused)
    worst = min(outcomes, key=lambda outcome: _WORST_FIRST.index(outcome.result))
    if refused is not None and worst.result != "fail":
        return Verdict("refused", tests[0], refused)  # such a test checks the text of the refusal
    return Verdict(worst.result, tests[0], worst.reason)


def _test(node: str) -> str:
    return node.partition("[")[0]


def _shown(verdict: Verdict) -> str:
    name = verdict.test.rpartition("::")[2]
    return f"{name} ({verdict.reason})" if verdict.reason and name else name or verdict.reason
