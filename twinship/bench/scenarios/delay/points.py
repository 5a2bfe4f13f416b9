"""The measured points of scenario `delay`: deviations from the formulas, and break-even bandwidths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from twinship.bench.scenarios.delay.formulas import break_even, deviation

MAX_DEVIATION: Final = 0.15
MIN_CROWDED_DEVIATION: Final = 0.30
SLOWER_S: Final = (0.0, 0.02, 0.1)  # additional time per frame of slower edge devices


@dataclass(frozen=True)
class Point:
    """One link. Bandwidth in bytes/s, times in seconds; `data_bytes` on the wire per frame or model."""

    bandwidth: float
    delay_s: float  # each way
    data_bytes: float
    processing_s: float
    predicted_s: float
    measured_s: float

    @property
    def deviation(self) -> float:
        """The prediction's deviation as a share of the measured time."""
        return deviation(self.predicted_s, self.measured_s)

    def to_json(self) -> dict[str, float]:
        """The entry in the report."""
        plain = {name: round(value, 6) for name, value in asdict(self).items()}
        return plain | {"deviation": round(self.deviation, 4)}


def shortcomings(frames: Sequence[Point], models: Sequence[Point], crowded: Point) -> list[str]:
    """Where a formula is wrong, and where it is right although the link has a second flow; one line each."""
    found = [
        f"{what} at {point.bandwidth:g} bytes/s and {point.delay_s * 1e3:g} ms: {point.deviation:.0%} off"
        for what, points in (("a frame", frames), ("a model", models))
        for point in points
        if point.deviation > MAX_DEVIATION
    ]
    if crowded.deviation <= MIN_CROWDED_DEVIATION:
        found.append(f"with a second flow on the link the deviation is only {crowded.deviation:.0%}")
    return found


def break_evens(points: Sequence[Point], edge_s: float) -> list[dict[str, float | None]]:
    """For each latency, and for this and slower edge devices: the bandwidth above which the cloud is faster.

    `bandwidth` is in bytes/s, and None if the cloud is never faster.
    """
    found: list[dict[str, float | None]] = []
    for point in {each.delay_s: each for each in points}.values():
        for slower_s in SLOWER_S:
            bandwidth = break_even(point.data_bytes, edge_s + slower_s, point.processing_s)
            found.append(
                {
                    "delay_s": point.delay_s,
                    "edge_ms": round((edge_s + slower_s) * 1e3, 3),
                    "bandwidth": None if math.isinf(bandwidth) else round(bandwidth),
                }
            )
    return found
