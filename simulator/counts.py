"""What edgeHub counts beside connections and drops: whole numbers in dictionaries, read by metrics.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from simulator.identity import Identity


@dataclass
class Counts:
    """Counted where it happens. A gateway is an edge device, None IoT Hub; a client `d` or `d/m`."""

    received: Counter[tuple[str | None, str, str]] = field(default_factory=Counter)  # gateway, client, output
    twin_gets: Counter[tuple[str | None, str]] = field(default_factory=Counter)  # gateway, client
    reported: Counter[tuple[str | None, str]] = field(default_factory=Counter)  # gateway, client
    methods: Counter[Identity] = field(default_factory=Counter)  # who was called
