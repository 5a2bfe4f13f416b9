"""When a peer counts as stuck."""

from edgekit.hub.watchdog import Watchdog


def test_a_request_is_overdue_after_the_deadline() -> None:
    """Silent for longer than 40 s, while there is a connection."""
    silence = Watchdog(40)
    silence.begin("PUBACK", 100)
    assert silence.overdue(140, connected=True) is None
    late = silence.overdue(140.1, connected=True)
    assert late is not None
    assert late.what == "PUBACK"


def test_an_answer_ends_it() -> None:
    """Whatever the answer was."""
    silence = Watchdog(40)
    silence.end(silence.begin("PUBACK", 100))
    assert silence.overdue(1000, connected=True) is None


def test_without_a_connection_only_connecting_counts() -> None:
    """A send that waits for the hub to come back is no stuck peer; a connect without an answer is."""
    silence = Watchdog(40)
    silence.begin("PUBACK", 0)
    assert silence.overdue(1000, connected=False) is None
    silence.begin("connect", 10, connects=True)
    late = silence.overdue(51, connected=False)
    assert late is not None
    assert late.what == "connect"


def test_a_new_connection_starts_the_count_anew() -> None:
    """The SDK repeats what was unanswered: the new peer has its own 40 s."""
    silence = Watchdog(40)
    silence.begin("PUBACK", 0)
    silence.restart(1000)
    assert silence.overdue(1040, connected=True) is None
    assert silence.overdue(1041, connected=True) is not None


def test_the_longest_wait_is_named() -> None:
    """The reason that a person reads is the oldest one."""
    silence = Watchdog(1)
    silence.begin("new", 5)
    silence.begin("old", 2)
    late = silence.overdue(10, connected=True)
    assert late is not None
    assert late.what == "old"
