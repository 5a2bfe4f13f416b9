"""A measurement in a process of its own."""

import os
import sys

from twinship.bench.rig.own_process import own_process


def test_nothing_of_this_process_is_in_its_way() -> None:
    """Another process, started anew: what is loaded here is not loaded there."""
    assert own_process(os.getpid) != os.getpid()
    assert _loaded("_pytest.tmpdir")
    assert not own_process(_loaded, "_pytest.tmpdir")


def _loaded(module: str) -> bool:
    return module in sys.modules
