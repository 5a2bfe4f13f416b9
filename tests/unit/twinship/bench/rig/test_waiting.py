"""Waiting until nothing happens any more."""

import time

import pytest

from twinship.bench.rig.waiting import quiet


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the bench reads."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_quiet_begins_again_with_each_change(clock: list[float]) -> None:
    """Neither a change nor a busy moment is quiet, and the time counts from the last of them."""
    count, busy = [0], [False]
    holds = quiet(lambda: count[0], lambda: busy[0], 2.0)
    for at, changed, is_busy, expected in (
        (101.0, 1, False, False),
        (102.9, 1, False, False),
        (103.1, 1, False, True),
        (103.2, 1, True, False),
        (105.1, 1, False, False),
        (105.3, 1, False, True),
        (105.4, 2, False, False),
    ):
        clock[0], count[0], busy[0] = at, changed, is_busy
        assert holds() is expected, at
