"""The counter-proof: each defect that is planted in the hub makes its statements fail.

The conformance tests run in a pytest process of their own against a hub with one defect
(tests/wire/hub/defects.py), and once against a hub without a defect.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.wire.hub.defects import DEFECTS

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "tests" / "conformance"
IN_TIME_S = 600
QUICK = ("201-for-200", "200-for-204", "answers-unasked")
STATEMENTS = sorted({number for defect in DEFECTS.values() for number in defect.statements})


def nodes(numbers: Iterable[int]) -> list[str]:
    """The pytest arguments for the tests of these statements."""
    tests = {
        int(found[2]): f"{path.relative_to(ROOT)}::{found[1]}"
        for path in sorted(FOLDER.glob("test_*.py"))
        for found in re.finditer(r"^def (test_(\d+)_\w+)", path.read_text(), re.MULTILINE)
    }
    return [tests[number] for number in numbers]


def verdicts(folder: Path, numbers: Iterable[int], defect: str | None) -> dict[int, tuple[str, str]]:
    """Result and reason of these statements against a hub with this defect."""
    table = folder / "conformance.json"
    ours = ("PYTEST_", "TWINSHIP_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment |= {"TWINSHIP_TEST_PATIENCE_S": "30"} | ({"TWINSHIP_TEST_DEFECT": defect} if defect else {})
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-p", "no:cacheprovider"]
    command += [f"--conformance={table}", f"--basetemp={folder / 'tmp'}", *nodes(numbers)]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=IN_TIME_S, check=False
    )
    assert table.exists(), ended.stdout + ended.stderr
    (folder / "output").write_text(ended.stdout)
    found = json.loads(table.read_text())
    return {
        number: (found[str(number)]["result"], found[str(number)].get("reason", "")) for number in numbers
    }


@pytest.mark.parametrize(
    "defect", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in DEFECTS]
)
def test_a_planted_defect_makes_its_statements_fail(defect: str, tmp_path: Path) -> None:
    """Each fails in the call of the test: the hub has started, and the test finds its defect."""
    planted = DEFECTS[defect]
    found = verdicts(tmp_path, planted.statements, defect)
    assert found == dict.fromkeys(planted.statements, ("fail", ""))
    assert planted.output in (tmp_path / "output").read_text()


@pytest.mark.long
def test_without_a_defect_the_same_statements_pass(tmp_path: Path) -> None:
    """In the same way and with the same time limits, so only the defects make them fail."""
    assert verdicts(tmp_path, STATEMENTS, None) == dict.fromkeys(STATEMENTS, ("pass", ""))
