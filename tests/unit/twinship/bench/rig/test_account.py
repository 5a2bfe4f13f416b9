"""The account of a soak: every frame is in exactly one count, and what is not shows."""

from __future__ import annotations

import json
from typing import Any

from twinship.bench.rig.account import Account, account


def frame(seq: int) -> dict[str, Any]:
    """The identity of a frame."""
    return {"camera": "c", "run": "r", "seq": seq}


def sent(*seqs: int) -> list[str]:
    """The camera's send log."""
    return [json.dumps(frame(seq)) + "\n" for seq in seqs]


def upstream(**body: Any) -> str:
    """One message of the inference module."""
    return json.dumps({"Body": body}) + "\n"


def answer(seq: int) -> str:
    """The prediction for one frame."""
    return upstream(schema="twinship.prediction.v1", frame=frame(seq))


def counters(instance: str, *, repeats: int = 0, lost: int | None = None, **dropped: int) -> str:
    """The latency message of one inference process; `lost` is its count lost_in_restart."""
    new = {} if lost is None else {"lost_in_restart": lost}
    return upstream(schema="twinship.latency.v1", instance=instance, repeats=repeats, dropped=dropped, **new)


def summed(logged: list[str], messages: list[str], *, expired: int = 0, waiting: int = 0) -> Account:
    """The account, which always adds up."""
    found = account(logged, messages, expired=expired, waiting=waiting)
    counted = found.answered + sum(found.dropped.values()) + found.lost_in_restart + found.expired
    assert found.frames == counted + found.waiting + found.lost - found.counted_twice
    return found


def test_every_kind_of_end_is_in_one_count() -> None:
    """Answered alone or in a batch, dropped, lost in a restart, expired and waiting: nothing is left."""
    batch = upstream(schema="twinship.predictions.v1", predictions=[{"frame": frame(1)}, {"frame": frame(2)}])
    messages = [answer(0), batch, counters("a", overload=1), counters("b", lost=2)]
    found = summed(sent(*range(8)), messages, expired=1, waiting=1)
    assert (found.frames, found.answered, found.dropped) == (8, 3, {"overload": 1})
    assert (found.lost_in_restart, found.lost, found.counted_twice) == (2, 0, 0)


def test_a_frame_in_no_count_is_lost() -> None:
    """Without the count of the new process the frames of the killed one are lost."""
    assert summed(sent(0, 1, 2), [answer(0), counters("a"), counters("b")]).lost == 2
    assert summed(sent(0, 1, 2), [answer(0), counters("a"), counters("b", lost=2)]).lost == 0


def test_a_frame_in_two_counts_shows() -> None:
    """An answered frame that is also counted as lost in a restart, or as expired, is one too many."""
    assert summed(sent(0), [answer(0), counters("a", lost=1)]).counted_twice == 1
    assert summed(sent(0), [answer(0)], expired=1).counted_twice == 1
    assert summed(sent(0), [answer(0)]).counted_twice == 0


def test_an_answered_frame_that_is_named_as_lost_is_answered() -> None:
    """The killed process sent the answer and did not see its PUBACK; the other named frame has no answer."""
    lost = [{"camera": "c", "run": "r", "first": 1, "last": 2}]
    named = upstream(
        schema="twinship.latency.v1",
        instance="b",
        repeats=0,
        dropped={"lost_in_restart": 2},
        lost_frames=lost,
    )
    found = summed(sent(0, 1, 2), [answer(0), answer(1), named])
    assert (found.answered, found.lost_in_restart, found.lost, found.counted_twice) == (2, 1, 0, 0)
    unnamed = [answer(0), answer(1), counters("b", lost_in_restart=2)]
    assert summed(sent(0, 1, 2), unnamed).counted_twice == 1


def test_a_cut_line_spoils_no_other_line() -> None:
    """A full disk or a kill may cut any line."""
    assert summed([*sent(0), '{"camera": "c"\n', *sent(1)], ['{"Body\n', answer(0), answer(1)]).answered == 2


def test_repeats_are_no_frames() -> None:
    """An answer that arrives again, and a frame that inference receives again, count as repeats only."""
    found = summed(sent(0), [answer(0), answer(0), counters("a", repeats=3)])
    assert (found.frames, found.answered, found.repeats, found.lost) == (1, 1, 4, 0)


def test_an_answered_frame_without_a_line_is_a_frame() -> None:
    """The camera was killed between the PUBACK and its send log; its last line may be incomplete."""
    found = summed([*sent(0), '{"camera": "c", "run'], [answer(0), answer(1), '{"Body": {"sche'])
    assert (found.frames, found.answered, found.unlogged, found.lost) == (2, 2, 1, 0)


def test_the_newest_counters_of_each_process_count() -> None:
    """Counters begin at 0 in each process: the processes add up, the messages of one do not."""
    messages = [counters("a", overload=1), counters("a", overload=2), counters("b", overload=1)]
    assert summed(sent(0, 1, 2), messages).dropped == {"overload": 3}
