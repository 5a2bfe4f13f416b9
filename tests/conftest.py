"""How property tests run: without a deadline, as machines are shared; on CI with the same examples each time.

There a failure must be the change's and not the dice's; everywhere else the dice go on looking.
"""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

settings.register_profile("twinship", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("twinship")

# A shell that starts this in the background has children ignore Ctrl-C, and they pass that on to theirs.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """A real hub that the verified tests cannot use is said once, before anything runs."""
    if "TWINSHIP_VERIFY_CONNECTION" in os.environ and not hasattr(config, "workerinput"):
        from tests.conformance.iot_hub import reason_in

        if (reason := reason_in(dict(os.environ))) is not None:
            raise pytest.UsageError(reason)
