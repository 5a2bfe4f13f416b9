"""Settings of Hypothesis: no deadline, because machines are shared; in CI the same examples in each run.

In CI a failure must come from the change and not from a new random example.
"""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
from hypothesis import settings

# The libraries of TensorFlow break a tflite-runtime that the same process loads after them (vector::reserve);
# loaded before them it works. The order of the tests decides otherwise.
with contextlib.suppress(ImportError):
    import tflite_runtime.interpreter  # noqa: F401

settings.register_profile("twinship", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("twinship")

# A shell makes background processes ignore SIGINT, and their children inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """End the run before the first test if the hub of the verified tests cannot be used."""
    if "TWINSHIP_VERIFY_CONNECTION" in os.environ and not hasattr(config, "workerinput"):
        from tests.conformance.iot_hub import reason_in

        if (reason := reason_in(dict(os.environ))) is not None:
            raise pytest.UsageError(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the ledger of the fuzzing in this run, and write build/fuzz.json."""
    reports = [report for each in terminalreporter.stats.values() for report in each]
    called = [report for report in reports if getattr(report, "when", None) == "call"]
    found = [value for report in called for name, value in report.user_properties if name == "fuzz"]
    if found:
        from tests.fuzz.campaign import write_ledger

        terminalreporter.section("fuzzing")
        for line in write_ledger(found):
            terminalreporter.write_line(line)
