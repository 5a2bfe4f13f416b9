"""Settings of Hypothesis: no deadline, because machines are shared; in CI the same examples in each run.

In CI a failure must come from the change and not from a new random example.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.clients import table

# The libraries of TensorFlow break a tflite-runtime that the same process loads after them (vector::reserve);
# loaded before them it works. The order of the tests decides otherwise.
with contextlib.suppress(ImportError):
    import tflite_runtime.interpreter  # noqa: F401

settings.register_profile("twinship", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("twinship")

# A shell makes background processes ignore SIGINT, and their children inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--clients FILE`: write the table of clients of this run there."""
    parser.addoption("--clients", type=Path, metavar="FILE", help="write the table of clients there")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note the cells of the table of clients that the test fills, also in the workers of pytest-xdist."""
    item.user_properties += [("client", cell) for cell in table.cells(item)]


def pytest_configure(config: pytest.Config) -> None:
    """End the run before the first test if the hub of the verified tests cannot be used."""
    if "TWINSHIP_VERIFY_CONNECTION" in os.environ and not hasattr(config, "workerinput"):
        from tests.conformance.peers.iot_hub import reason_in

        if (reason := reason_in(dict(os.environ))) is not None:
            raise pytest.UsageError(reason)


def _reports(config: pytest.Config) -> list[Any]:
    """Everything that the run has reported; with pytest-xdist, of all workers."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return [report for each in reporter.stats.values() for report in each] if reporter else []


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With --clients, a cell that no test filled fails the run."""
    asked = session.config.getoption("--clients") is not None and not hasattr(session.config, "workerinput")
    if (
        asked
        and session.exitstatus == pytest.ExitCode.OK
        and table.missing(table.filled(_reports(session.config)))
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write and print the ledger of the fuzzing in this run (build/fuzz.json), and the table of --clients."""
    reports = _reports(config)
    if (path := config.getoption("--clients")) is not None:
        terminalreporter.section("clients")
        for line in table.write(path, table.filled(reports)):
            terminalreporter.write_line(line)
    called = [report for report in reports if getattr(report, "when", None) == "call"]
    found = [value for report in called for name, value in report.user_properties if name == "fuzz"]
    if found:
        from tests.fuzz.campaign import write_ledger

        terminalreporter.section("fuzzing")
        for line in write_ledger(found):
            terminalreporter.write_line(line)
