"""The limit of frames in flight."""

import json
from pathlib import Path

from camera_sim.credit import FORGET_NS, Credit


def in_flight(*seqs: int, stored_ns: int | None = 0) -> Credit:
    """Credit with these frames in flight; not stored if `stored_ns` is None."""
    credit = Credit()
    for seq in seqs:
        credit.taken(seq)
        if stored_ns is not None:
            credit.stored(seq, stored_ns)
    return credit


def test_the_frames_in_flight_are_limited() -> None:
    """An acknowledgement frees all frames up to its seq, and no other."""
    credit = in_flight(0, 1, 2)
    assert not credit.allows(3, now_ns=0)
    credit.acknowledged(1)
    assert credit.allows(2, now_ns=0)
    assert not credit.allows(1, now_ns=0)


def test_a_limit_of_zero_allows_any_number() -> None:
    """0 switches the limit off."""
    assert in_flight(*range(1000)).allows(0, now_ns=0)


def test_a_frame_is_forgotten_just_after_its_time_to_live() -> None:
    """Earlier, the hub would hold more than the limit; much later, a restarted inference would wait."""
    manifest = json.loads((Path(__file__).parents[3] / "deployment.template.json").read_text())
    route = manifest["modulesContent"]["$edgeHub"]["properties.desired"]["routes"]["frames"]
    assert 0 < FORGET_NS - route["timeToLiveSecs"] * 10**9 < 10**9


def test_frames_that_expired_at_the_hub_are_forgotten() -> None:
    """The route keeps a message for 10 s; a missing inference module must not stop the camera for ever."""
    credit = in_flight(0, 1, stored_ns=100)
    assert not credit.allows(2, now_ns=100 + FORGET_NS)
    assert credit.allows(2, now_ns=101 + FORGET_NS)


def test_frames_in_the_outbox_are_not_forgotten() -> None:
    """While the hub is away, age frees no frame: the outbox would fill up."""
    credit = in_flight(0, 1, stored_ns=None)
    assert not credit.allows(2, now_ns=100 * FORGET_NS)
    credit.dropped(0)
    assert credit.allows(2, now_ns=0)


def test_a_new_inference_process_clears_the_frames_in_flight() -> None:
    """It never acknowledges frames that were sent to the process before it."""
    credit = in_flight(0, 1)
    credit.clear()
    assert credit.allows(1, now_ns=0)


def test_a_late_puback_does_not_add_a_frame() -> None:
    """The flow message may overtake the PUBACK."""
    credit = in_flight(0, stored_ns=None)
    credit.acknowledged(0)
    credit.stored(0, 5)
    assert credit.allows(1, now_ns=5)
