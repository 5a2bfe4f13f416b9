"""When a request is overdue."""

from edgekit.hub.watchdog import Watchdog


def test_a_request_is_overdue_after_the_deadline() -> None:
    """A request that waits longer than the deadline is overdue; one that waits exactly so long is not."""
    watchdog = Watchdog(40)
    watchdog.begin("PUBACK", 100)
    assert watchdog.overdue(140, connected=True) is None
    late = watchdog.overdue(140.1, connected=True)
    assert late is not None
    assert late.request == "PUBACK"


def test_an_answered_request_is_not_overdue() -> None:
    """`end` removes the request."""
    watchdog = Watchdog(40)
    watchdog.end(watchdog.begin("PUBACK", 100))
    assert watchdog.overdue(1000, connected=True) is None


def test_without_a_connection_only_connecting_counts() -> None:
    """A send may wait for the next connection; a connect without an answer is overdue."""
    watchdog = Watchdog(40)
    watchdog.begin("PUBACK", 0)
    assert watchdog.overdue(1000, connected=False) is None
    watchdog.begin("connect", 10, connecting=True)
    late = watchdog.overdue(51, connected=False)
    assert late is not None
    assert late.request == "connect"


def test_a_new_connection_restarts_the_deadline() -> None:
    """The SDK repeats unanswered requests, and the new peer has the whole deadline to answer."""
    watchdog = Watchdog(40)
    watchdog.begin("PUBACK", 0)
    watchdog.restart(1000)
    assert watchdog.overdue(1040, connected=True) is None
    assert watchdog.overdue(1041, connected=True) is not None


def test_the_request_that_waited_longest_is_returned() -> None:
    """The oldest of several overdue requests becomes the reason in the log."""
    watchdog = Watchdog(1)
    watchdog.begin("new", 5)
    watchdog.begin("old", 2)
    late = watchdog.overdue(10, connected=True)
    assert late is not None
    assert late.request == "old"
