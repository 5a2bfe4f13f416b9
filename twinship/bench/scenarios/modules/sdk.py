"""What the SDK alone lets through on this machine: both modules without camera, picture, model or ledger.

More than this no module that uses the SDK as it is can answer here, whatever it does besides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from twinship.bench.catalogue import Bench
from twinship.bench.report.figures import median, spread
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.scenarios.modules.frames import POLL_S, WARM_FRAMES, Counter
from twinship.bench.scenarios.modules.throughput import REPEATS, WINDOW

FRAMES: Final = 1_500


def measure(bench: Bench) -> Mapping[str, Any]:
    """Messages answered in a second, for both delivery windows."""
    return run(bench, FRAMES, REPEATS)


def run(bench: Bench, frames: int, repeats: int) -> Mapping[str, Any]:
    """So many of it. Raises BenchFailed when one is not answered."""
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
        counter = Counter(rig.upstream)
        _part(rig, counter, WARM_FRAMES)
        rates = [_part(rig, counter, WARM_FRAMES + frames * number) for number in range(1, repeats + 1)]
    return {"per_s": median(rates), "range_per_s": spread(rates)}


def _part(rig: Rig, counter: Counter, until: int) -> float:
    """Answers in a second, from the word to send to the last of them."""
    began, had = time.monotonic(), counter.count
    rig.patch("camera_sim", {"frames": until})
    counter.wait(until)
    return round((until - had) / (time.monotonic() - began - POLL_S / 2), 1)
