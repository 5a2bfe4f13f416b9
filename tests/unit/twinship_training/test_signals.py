"""Signals during training steps are handled between two steps."""

import os
import signal
import threading

import pytest

from twinship_training.signals import deferred


def interrupted_step(done: list[str], *, handles: bool) -> None:
    """Ctrl-C arrives during a step; `handles`: the loop calls the handler after it."""
    with deferred() as handle_signals:
        os.kill(os.getpid(), signal.SIGINT)
        done.append("the step")
        if handles:
            handle_signals()
            done.append("another")


@pytest.mark.parametrize("handles", [True, False])
def test_ctrl_c_is_handled_at_the_end_of_a_step(handles: bool) -> None:
    """Between two steps, or after the last one; later signals are handled at once again."""
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_step(done, handles=handles)
    assert done == ["the step"]
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_has_its_own_handler() -> None:
    """A handler of SIGTERM is called, but later."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    try:
        with deferred() as handle_signals:
            os.kill(os.getpid(), signal.SIGTERM)
            assert received == []
            handle_signals()
            assert received == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_changes_nothing() -> None:
    """In another thread no handler can be set, and the block runs as usual."""
    done: list[str] = []

    def work() -> None:
        with deferred() as handle_signals:
            handle_signals()
            done.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["done"]
