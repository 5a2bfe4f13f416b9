"""The maximum rate of the SDK alone on this machine: both modules without camera, picture, model or ledger.

A module that uses the unmodified SDK cannot answer more messages here, whatever else it does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import rates
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.scenarios.modules.frames import POLL_S, WARM_FRAMES, PredictionCounter
from twinship.bench.scenarios.modules.throughput import REPEATS, WINDOW

FRAMES: Final = 1_500


def measure(bench: Bench) -> Mapping[str, Any]:
    """Answered messages per second, for both delivery windows."""
    return run(bench, FRAMES, REPEATS)


def run(bench: Bench, frames: int, repeats: int) -> Mapping[str, Any]:
    """`repeats` times `frames` messages. Raises BenchFailed when one is not answered."""
    windows = {"strict": 1, f"window_{WINDOW}": WINDOW}
    return {name: _per_s(bench, window, frames, repeats) for name, window in windows.items()}


def _per_s(bench: Bench, window: int, frames: int, repeats: int) -> dict[str, Any]:
    settings = RigSettings(
        bench.folder / f"rig-{window}",
        bench.pictures,
        delivery_window=window,
        program="twinship.bench.peers.sdk",
    )
    with Rig(settings) as rig:
        rig.start()
        counter = PredictionCounter(rig.upstream)
        _rate(rig, counter, WARM_FRAMES)
        return rates([_rate(rig, counter, WARM_FRAMES + frames * number) for number in range(1, repeats + 1)])


def _rate(rig: Rig, counter: PredictionCounter, total: int) -> float:
    """Answers per second, from the twin's patch to the answer that makes the total."""
    began, before = time.monotonic(), counter.count
    rig.patch("camera_sim", {"frames": total})
    counter.wait(total)
    return round((total - before) / (time.monotonic() - began - POLL_S / 2), 1)
