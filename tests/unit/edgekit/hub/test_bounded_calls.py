"""Calls that may never return."""

import threading

import pytest

from edgekit.hub.bounded_calls import BoundedCaller, NoAnswer, TooManyUnanswered


def test_a_call_returns_or_raises_as_its_function_does() -> None:
    """The function runs on another thread."""
    caller = BoundedCaller(1)
    assert caller.call("twin", lambda: 7, timeout_s=5) == 7
    with pytest.raises(ZeroDivisionError):
        caller.call("twin", lambda: 1 // 0, timeout_s=5)


def test_calls_that_hang_are_bounded() -> None:
    """Each hanging call holds a thread; a call that returns late makes room for another."""
    caller, release = BoundedCaller(2), threading.Event()
    for _ in range(2):
        with pytest.raises(NoAnswer, match="no answer in"):
            caller.call("twin", release.wait, timeout_s=0.01)
    with pytest.raises(TooManyUnanswered, match="2 earlier"):
        caller.call("twin", lambda: 7, timeout_s=5)
    threads = [thread for thread in threading.enumerate() if thread.name == "call-twin"]
    release.set()
    for thread in threads:
        thread.join(5)
    assert caller.call("twin", lambda: 7, timeout_s=5) == 7
