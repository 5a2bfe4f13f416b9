"""Calls that may never return."""

import threading

import pytest

from edgekit.hub.bounded_calls import BoundedCaller, NoAnswer, TooManyUnanswered


def test_what_a_call_returns_or_raises_comes_back() -> None:
    """On another thread, but as if it were called here."""
    caller = BoundedCaller(1)
    assert caller.ask("twin", lambda: 7, timeout_s=5) == 7
    with pytest.raises(ZeroDivisionError):
        caller.ask("twin", lambda: 1 // 0, timeout_s=5)
    assert caller.hanging == 0


def test_calls_that_hang_are_bounded() -> None:
    """Each keeps a thread for ever: no more than allowed, and one that returns late makes room."""
    caller, release = BoundedCaller(2), threading.Event()
    for _ in range(2):
        with pytest.raises(NoAnswer, match="no answer in"):
            caller.ask("twin", release.wait, timeout_s=0.01)
    with pytest.raises(TooManyUnanswered, match="2 earlier"):
        caller.ask("twin", lambda: 7, timeout_s=5)
    threads = [thread for thread in threading.enumerate() if thread.name == "ask-twin"]
    release.set()
    for thread in threads:
        thread.join(5)
    assert caller.ask("twin", lambda: 7, timeout_s=5) == 7
