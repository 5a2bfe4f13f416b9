"""Tests of measurements in their own process."""

import os
import sys

from twinship.bench.rig.own_process import own_process


def test_a_measurement_runs_in_a_fresh_process() -> None:
    """Modules that this process has imported are not imported there."""
    assert own_process(os.getpid) != os.getpid()
    assert _loaded("_pytest.tmpdir")
    assert not own_process(_loaded, "_pytest.tmpdir")


def _loaded(module: str) -> bool:
    return module in sys.modules
