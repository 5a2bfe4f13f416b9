"""What the event `model` says of the reconciler's real states."""

import itertools
from pathlib import Path
from typing import Any

from inference.model_section import ModelState
from inference.models.status import model_event
from tests.models import LABELS
from tests.unit.inference.fixtures.device import PROVING, Device, Publisher

S = ModelState
OURS = Publisher(1)


def events(device: Device) -> list[dict[str, Any]]:
    """The events of all patches; equal ones in a row are sent once."""
    return [event for event, _ in itertools.groupby(model_event(patch) for patch in device.patches)]


def test_every_step_of_a_model_is_an_event_that_names_it(tmp_path: Path) -> None:
    """From the offer to the end of probation, and back."""
    with Device(tmp_path, settings=PROVING) as device:
        device.install(OURS.section("1.0.0"))
        device.install(OURS.section("2.0.0"))
        device.reconciler.rollback()
        device.until(S.WITHDRAWN)
    found = [(each["state"], each["version"]) for each in events(device)]
    steps = [S.CHECKING, S.PROVING, S.LOADING, S.PROBATION, S.ACTIVE]
    assert found == [
        (S.EMPTY, None),
        *((state, "1.0.0") for state in steps),
        *((state, "2.0.0") for state in steps),
        (S.WITHDRAWN, "2.0.0"),
    ]
    last = events(device)[-1]
    assert (last["reason"]["code"], last["active"]["version"]) == ("rolled-back", "1.0.0")


def test_a_refused_model_is_named_with_its_reason(tmp_path: Path) -> None:
    """The model that serves is another one, and stays `active`."""
    with Device(tmp_path, settings=PROVING) as device:
        device.install(OURS.section("1.0.0"))
        device.section(OURS.section("2.0.0", expected=LABELS[::-1]))
        device.until(S.REFUSED)
    last = events(device)[-1]
    assert (last["state"], last["version"], last["reason"]["code"]) == (S.REFUSED, "2.0.0", "wrong-answers")
    assert last["active"]["version"] == "1.0.0"
