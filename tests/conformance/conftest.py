"""The conformance table: the result of each numbered statement, as JSON and as text.

`--conformance FILE` switches it on, as `make conformance` does. It works with xdist, where only the
controlling process gets the reports of all tests.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.peers.iot_hub import VARIABLE, IotHub, reached, simulated
from tests.conformance.table import Outcome, lines, unexcused, verdicts
from tests.wire.hub_under_test import running_hub

REFUSED = Path(__file__).with_name("refused.json")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--conformance FILE`: write the table; statements without a result make the run fail."""
    parser.addoption("--conformance", type=Path, metavar="FILE", help="write the conformance table there")


def pytest_configure(config: pytest.Config) -> None:
    """Register the table in the process that gets the reports of all tests."""
    path = config.getoption("--conformance", default=None)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(ConformanceTable(path, refused()), "conformance table")


def refused() -> dict[int, str]:
    """The committed list of statements that the simulator refuses, each with the text of its refusal."""
    return {int(number): text for number, text in json.loads(REFUSED.read_text()).items()}


@pytest.fixture(scope="module")
def iot_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IotHub]:
    """The hub of TWINSHIP_VERIFY_CONNECTION, for tests marked `verified`; else that of a simulator."""
    if connection_string := os.environ.get(VARIABLE):
        with reached(connection_string) as real:
            yield real
    else:
        with running_hub(tmp_path_factory.mktemp("iot_hub")) as running, simulated(running) as iot_hub:
            yield iot_hub


class ConformanceTable:
    """Collects the results of all tests; writes and prints the table at the end of the run."""

    def __init__(self, path: Path, refused: dict[int, str]) -> None:
        self._path = path
        self._refused = refused
        self._outcomes: list[Outcome] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The call of a test counts; its set-up and end count only if they fail or skip."""
        if report.skipped:
            self._outcomes.append(Outcome(report.nodeid, "skipped", _skip_reason(report.longrepr)))
        elif report.failed:
            self._outcomes.append(
                Outcome(report.nodeid, "fail", report.when if report.when != "call" else "")
            )
        elif report.when == "call":
            self._outcomes.append(Outcome(report.nodeid, "pass"))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table; a statement that neither passes nor is refused fails the run."""
        table = verdicts(self._outcomes, self._refused)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({str(number): verdict.to_json() for number, verdict in table.items()}, indent=1)
        self._path.write_text(text + "\n")
        if unexcused(table) and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.section("conformance")
        for line in lines(verdicts(self._outcomes, self._refused)):
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"written to {self._path}")


def _skip_reason(longrepr: Any) -> str:
    """The reason in pytest's tuple (path, line, "Skipped: reason")."""
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")
