"""dashboard.advice: what the page says when something is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dashboard.advice import DROPS, Facts, advise
from dashboard.state import State
from inference.frames import outcomes
from tests.unit.dashboard.bodies import body, latency, prediction

WELL = Facts(connected=True, up_s=100, answer_age_s=0.1, latency_age_s=3, window_s=10)


def texts(**changed: Any) -> str:
    """The notes about these facts, as one text."""
    return " ".join(note.text for note in advise(replace(WELL, **changed)))


def test_nothing_is_said_while_all_is_well() -> None:
    """Every other test's counter-proof."""
    assert advise(WELL) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"connected": False}, "no connection to edgeHub"),
        ({"answer_age_s": None, "latency_age_s": None}, "Nothing has arrived in the 100 s"),
        ({"answer_age_s": None}, "Inference reports, but no answer has arrived."),
        ({"answer_age_s": 6.0}, "No answer has arrived for 6 s."),
        ({"answer_age_s": 6.0, "closing": True}, "Inference has ended. The last answer is 6 s old."),
        ({"answer_age_s": 6.0, "grown": {"suppressed": 9}}, "its answer has been the same for 6 s"),
        ({"grown": {"overload": 1}}, "1 frame was dropped in the last 10 s because frames arrive faster"),
        (
            {"answer_age_s": None, "grown": {"no_model": 20}},
            "20 frames were dropped in the last 10 s because",
        ),
        ({"unreadable": 2, "reason": "body: x"}, "could not be read: 2. The last one: body: x"),
    ],
)
def test_each_trouble_has_its_sentence_and_a_cure(changed: dict[str, Any], said: str) -> None:
    """One note, with what to do."""
    notes = advise(replace(WELL, **changed))
    assert len(notes) == 1
    assert said in notes[0].text
    assert notes[0].cure.endswith(".")


def test_five_seconds_without_an_answer_are_silence() -> None:
    """Less is not."""
    assert texts(answer_age_s=4.9) == ""
    assert texts(answer_age_s=5.0) == "No answer has arrived for 5 s."


def test_old_drops_are_not_a_present_trouble() -> None:
    """The counters of a window that ended long ago, or of a process that has ended, are history."""
    assert texts(grown={"overload": 9}, latency_age_s=26) == ""
    assert texts(grown={"overload": 9}, latency_age_s=24) != ""
    assert texts(grown={"overload": 9}, closing=True) == ""


def test_every_reason_to_drop_a_frame_has_words_except_an_orderly_stop() -> None:
    """The reasons are inference's own."""
    assert DROPS.keys() == {str(each) for each in outcomes.DROPS} - {"stopped"}


def test_only_what_a_window_adds_is_said() -> None:
    """Counters grow as long as a process lives; another instance begins at 0."""
    made = State(0.0)
    made.take(body(prediction()), {}, 20.0)
    for second, dropped in ((10.0, 7), (20.0, 7)):
        made.take(body(latency(dropped={"overload": dropped})), {}, second)
    assert made.view(21.0, connected=True)["notes"] == []
    made.take(body(latency(instance="b", dropped={"overload": 7})), {}, 21.0)
    assert "7 frames were dropped" in made.view(21.0, connected=True)["notes"][0]["text"]
