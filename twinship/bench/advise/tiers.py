"""IoT Hub's daily message quotas: how many units of each tier a stream of messages needs. No prices.

Source: learn.microsoft.com/azure/iot-hub/iot-hub-devguide-quotas-throttling and the IoT Hub pricing page.
Each unit has a daily quota. A message counts once for every started block: 4 KB, on the free tier 0.5 KB.

>>> [need.units for need in needs((Stream(10_000, 1_100),))]
[None, 1, 1, 1]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from inference.frames.budget import DAY_S, blocks

__all__ = ["DAY_S", "TIERS", "Need", "Stream", "Tier", "needs"]


@dataclass(frozen=True)
class Tier:
    """A tier of IoT Hub."""

    name: str
    per_unit: int  # messages a day
    block: int  # bytes that count as one message
    max_units: int | None = None


TIERS: Final = (
    Tier("F1", 8_000, 512, max_units=1),
    Tier("S1", 400_000, 4_096),
    Tier("S2", 6_000_000, 4_096),
    Tier("S3", 300_000_000, 4_096),
)


@dataclass(frozen=True)
class Stream:
    """The messages of one kind from one device."""

    per_day: float
    size: int  # bytes: body and properties


@dataclass(frozen=True)
class Need:
    """The load on one tier. `units` is None if the tier does not offer so many."""

    tier: str
    metered: int  # messages a day, as this tier counts them
    units: int | None


def needs(streams: Sequence[Stream]) -> tuple[Need, ...]:
    """The load of all streams together, for each tier."""
    return tuple(_need(tier, streams) for tier in TIERS)


def _need(tier: Tier, streams: Sequence[Stream]) -> Need:
    metered = math.ceil(sum(stream.per_day * blocks(stream.size, tier.block) for stream in streams))
    units = max(1, -(-metered // tier.per_unit))
    fits = tier.max_units is None or units <= tier.max_units
    return Need(tier.name, metered, units if fits else None)
