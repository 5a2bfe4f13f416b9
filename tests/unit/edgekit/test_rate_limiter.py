"""Log lines for what may happen a thousand times a second."""

from edgekit.log import RateLimiter

S = 10**9


def test_one_line_in_the_interval_counts_those_left_out() -> None:
    """The first is said at once, the next one when due, and it says how many were not."""
    seldom = RateLimiter(interval_s=10)
    assert [seldom.allow("size", at * S) for at in (0, 1, 9, 10, 11)] == [0, None, None, 2, None]


def test_each_kind_has_its_own_turn() -> None:
    """A flood of one kind does not hide another."""
    seldom = RateLimiter()
    seldom.allow("size", 0)
    assert seldom.allow("image", 1) == 0
