"""How many frames may be under way."""

from camera_sim.credit import FORGET_NS, Credit


def under_way(*seqs: int, stored_ns: int | None = 0) -> Credit:
    """Frames that were taken, and stored unless None."""
    credit = Credit()
    for seq in seqs:
        credit.took(seq)
        if stored_ns is not None:
            credit.stored(seq, stored_ns)
    return credit


def test_no_more_than_the_credit_is_under_way() -> None:
    """At most that many unanswered frames; an answer up to a seq frees all of them."""
    credit = under_way(0, 1, 2)
    assert not credit.allows(3, now_ns=0)
    credit.settled(1)
    assert len(credit) == 1
    assert credit.allows(3, now_ns=0)


def test_no_credit_means_free_running() -> None:
    """0 switches it off."""
    assert under_way(*range(1000)).allows(0, now_ns=0)


def test_what_the_hub_has_had_for_15_s_is_forgotten() -> None:
    """The route keeps a message for 10 s: an inference that is gone must not stop the camera for ever."""
    credit = under_way(0, 1, stored_ns=100)
    assert not credit.allows(2, now_ns=100 + FORGET_NS)
    assert credit.allows(2, now_ns=101 + FORGET_NS)


def test_what_is_still_in_the_outbox_is_not_forgotten() -> None:
    """While the hub is away, age frees nothing: the outbox would fill up."""
    credit = under_way(0, 1, stored_ns=None)
    assert not credit.allows(2, now_ns=100 * FORGET_NS)
    credit.dropped(0)
    assert credit.allows(2, now_ns=0)


def test_a_fresh_inference_clears_the_account() -> None:
    """It will never answer what its predecessor was sent."""
    credit = under_way(0, 1)
    credit.clear()
    assert len(credit) == 0


def test_a_late_acknowledgement_brings_nothing_back() -> None:
    """The answer may overtake the PUBACK."""
    credit = under_way(0, stored_ns=None)
    credit.settled(0)
    credit.stored(0, 5)
    assert len(credit) == 0
