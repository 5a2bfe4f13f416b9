"""The table of statements: what counts as passed, refused, missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.table import STATEMENTS, Outcome, Verdict, lines, number_of, unexcused, verdicts


@pytest.mark.parametrize(
    ("node", "number"),
    [
        ("tests/conformance/test_routing.py::test_46_only_output_x", 46),
        ("tests/conformance/test_twins.py::test_62_limits[null in an array]", 62),
        ("tests/conformance/test_identity.py::test_01_connects", 1),
        ("tests/unit/test_other.py::test_words", None),
        ("tests/unit/test_other.py::test_words[test_12_no]", None),
    ],
)
def test_a_tests_name_says_which_statement_it_is_about(node: str, number: int | None) -> None:
    """The number stands first in the name; parameters do not count."""
    assert number_of(node) == number


def test_every_statement_has_a_verdict_and_the_worst_case_decides() -> None:
    """A parametrised test passes when all its cases do; a refused number is refused, tested or not."""
    table = verdicts(
        [
            Outcome("f::test_1_a", "pass"),
            Outcome("f::test_2_b[x]", "pass"),
            Outcome("f::test_2_b[y]", "fail"),
            Outcome("f::test_3_c", "skipped", "no network"),
            Outcome("f::test_5_e", "pass"),
            Outcome("f::test_6_f", "fail"),
            Outcome("f::test_7_g", "pass"),
            Outcome("f::test_7_h", "pass"),
        ],
        {4: "not here", 5: "not here", 6: "not here"},
    )
    assert list(table) == list(STATEMENTS)
    assert [table[number].result for number in range(1, 9)] == [
        *("pass", "fail", "skipped", "refused", "refused", "fail", "fail", "missing")
    ]
    assert table[3] == Verdict("skipped", "f::test_3_c", "no network")
    assert table[2].to_json() == {"result": "fail", "test": "f::test_2_b"}
    assert unexcused(table) == [2, 3, 6, 7, *range(8, 97)]
    assert lines(table)[-1] == "96 statements: 1 pass, 3 fail, 1 skipped, 2 refused, 89 missing"


@pytest.mark.parametrize(
    "workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.long)], ids=["alone", "xdist"]
)
def test_the_run_fails_until_every_statement_has_its_place(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """Status 1 and `missing` with one test only, 0 when all pass or are refused; the same under xdist."""
    table = tmp_path / "table.json"

    def run(*numbers: int) -> int:
        tests = "".join(f"def test_{number}_x() -> None: ...\n" for number in numbers)
        (tmp_path / "test_some.py").write_text(tests)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            "/dev/null",
            "-p",
            "no:cacheprovider",
            *workers,
        ]
        command += ["-p", "tests.conformance.conftest", f"--rootdir={tmp_path}", f"--conformance={table}"]
        ended = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
        assert "96 statements:" in ended.stdout, ended.stdout + ended.stderr
        return ended.returncode

    assert run(46) == 1
    written = json.loads(table.read_text())
    assert written["46"] == {"result": "pass", "test": "test_some.py::test_46_x"}
    assert written["47"] == {"result": "missing"}
    assert run(*STATEMENTS) == 0
