"""How many frames may be under way."""

import json
from pathlib import Path

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


def test_credit_comes_back_as_soon_as_the_hub_has_dropped_the_frames() -> None:
    """Not before, or the hub holds more than the credit; not much later, or a returned inference waits."""
    manifest = json.loads((Path(__file__).parents[3] / "deployment.template.json").read_text())
    route = manifest["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]["frames"]
    assert 0 < FORGET_NS - route["timeToLiveSecs"] * 10**9 < 10**9


def test_what_the_hub_has_had_for_longer_than_it_keeps_it_is_forgotten() -> None:
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
