"""The faults that can be switched on, and their current values.

The component that a fault hits reads its value from Faults. Random choices come from one seeded generator, so
the same traffic meets the same faults again. All faults end with the hub process.

>>> faults = Faults()
>>> faults.set("link-delay")
0.1
>>> faults.active
{'link-delay': 0.1}
>>> faults.set("link-delay", 0)
0
>>> faults.set("late-twin", -1)
Traceback (most recent call last):
twinship.simulator.faults.faults.FaultRefused: late-twin is 0 to 3600 (seconds), not -1
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

SEED: Final = 1


class FaultRefused(ValueError):
    """Unknown fault or invalid value. The text names the valid ones."""


@dataclass(frozen=True)
class Knob:
    """A fault that stays on until it is set to 0. `usual` is its value when the caller gives none."""

    unit: str
    usual: float
    largest: float
    effect: str


DUPLICATE_DELIVERY: Final = "duplicate-delivery"
DELAY_PUBACK: Final = "delay-puback"
LATE_TWIN: Final = "late-twin"
EXPIRE_TOKENS: Final = "expire-tokens"
CUT_UPSTREAM: Final = "cut-upstream"
BLACK_HOLE: Final = "black-hole"
LINK_RATE: Final = "link-rate"
LINK_DELAY: Final = "link-delay"
DROP_CONNECTIONS: Final = "drop-connections"
RESTART_HUB: Final = "restart-hub"

KNOBS: Final[Mapping[str, Knob]] = {
    DUPLICATE_DELIVERY: Knob("share", 1.0, 1.0, "this share of the messages to module inputs comes twice"),
    DELAY_PUBACK: Knob(
        "seconds", 5.0, 3600.0, "a message is stored at once and acknowledged this much later"
    ),
    LATE_TWIN: Knob("seconds", 5.0, 3600.0, "twin answers and desired patches come this much later"),
    EXPIRE_TOKENS: Knob("seconds", 86_400.0, 1e9, "the hub's clock is this far ahead when it checks tokens"),
    CUT_UPSTREAM: Knob(
        "on/off", 1.0, 1.0, "no message leaves the edge for the cloud; messages wait in the store"
    ),
    BLACK_HOLE: Knob("on/off", 1.0, 1.0, "the edge accepts TCP and neither reads nor answers"),
    LINK_RATE: Knob("bytes/s", 10_000.0, 1e9, "each connection carries this many bytes a second each way"),
    LINK_DELAY: Knob("seconds", 0.1, 60.0, "every byte takes this much longer each way"),
}
#: Faults that happen once.
ACTS: Final[Mapping[str, str]] = {
    DROP_CONNECTIONS: "every module's connection ends now with a TCP reset",
    RESTART_HUB: "kill -9 of the hub now; `twinship simulate` starts it again",
}


def fault_value(text: str | None) -> float | None:
    """Parse a number, "on" (None: the usual value), "off" (0) or None. Raises FaultRefused.

    >>> fault_value("off"), fault_value("0.5"), fault_value("on")
    (0.0, 0.5, None)
    """
    if text is None or text == "on":
        return None
    try:
        return 0.0 if text == "off" else float(text)
    except ValueError:
        raise FaultRefused(f"{text[:40]!r} is not a number, on or off") from None


class Faults:
    """The values of all faults. `on_change` callbacks run after each change."""

    def __init__(self, seed: int = SEED) -> None:
        self.on_change: list[Callable[[], None]] = []
        self._values: dict[str, float] = {}
        self._random = random.Random(seed)

    @property
    def active(self) -> Mapping[str, float]:
        """The faults that are on, with their values."""
        return dict(self._values)

    def value(self, name: str) -> float:
        """The value of a fault; 0 means off."""
        return self._values.get(name, 0.0)

    def set(self, name: str, value: float | None = None) -> float:
        """Switch a fault on (None: with its usual value) or, with 0, off; returns its value.

        Raises FaultRefused and changes nothing.
        """
        if name in ACTS:
            raise FaultRefused(f"{name} happens once and takes no value")
        if (knob := KNOBS.get(name)) is None:
            raise FaultRefused(f"there is no fault {name[:40]!r}; there are {', '.join((*KNOBS, *ACTS))}")
        value = knob.usual if value is None else value
        if not (math.isfinite(value) and 0 <= value <= knob.largest):
            raise FaultRefused(f"{name} is 0 to {knob.largest:g} ({knob.unit}), not {value:g}")
        if value:
            self._values[name] = value
        else:
            self._values.pop(name, None)
        self._notify()
        return value

    def end(self) -> None:
        """Switch all faults off."""
        self._values.clear()
        self._notify()

    def strikes(self, name: str) -> bool:
        """Whether a fault whose value is a share hits this time."""
        share = self._values.get(name)
        return share is not None and self._random.random() < share

    def _notify(self) -> None:
        for callback in self.on_change:
            callback()
