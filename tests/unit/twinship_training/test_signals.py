"""Signals while TensorFlow computes."""

import os
import signal
import threading

import pytest

from twinship_training.signals import deferred


def interrupted_while(done: list[str], *, asks: bool) -> None:
    """Ctrl-C comes inside a step; whether there is another look after it."""
    with deferred() as interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        done.append("the step")
        if asks:
            interrupted()
            done.append("another")


@pytest.mark.parametrize("asks", [True, False])
def test_ctrl_c_waits_for_the_end_of_a_step(asks: bool) -> None:
    """It is acted on between two steps, and after the last one; afterwards it is heard at once again."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_while(done, asks=asks)
    assert done == ["the step"]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_has_its_own_handler() -> None:
    """Whoever installed one gets the signal, only later."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    try:
        with deferred() as interrupted:
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == []
            interrupted()
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_changes_nothing() -> None:
    """Handlers can be set on the main thread alone."""
    told: list[str] = []

    def work() -> None:
        with deferred() as interrupted:
            interrupted()
            told.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == ["done"]
