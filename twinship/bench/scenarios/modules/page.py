"""The dashboard's share of a core at 10 frames/s, every answer sent: with a page open, and without."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from twinship import project
from twinship.bench.catalogue import Bench
from twinship.bench.peers.browser import page
from twinship.bench.rig.memory import child_pid, processor_s
from twinship.bench.rig.rig import Rig, RigSettings
from twinship.bench.scenarios.modules.frames import PredictionCounter

FPS: Final = 10
WARM_FRAMES: Final = 100
SECONDS: Final = 30.0
SETTLE_S: Final = 5.0  # the browser has loaded the page, or the module has seen it close
LISTEN: Final = "127.0.0.1:8781"  # beside a page that is open on this machine


def measure(bench: Bench) -> Mapping[str, Any]:
    """Shares of one core, 0 to 1; `reader` is what had the page open."""
    settings = RigSettings(
        bench.folder / "rig",
        bench.pictures,
        desired={
            "inference": {"telemetry": {"predictions": "all"}},
            "camera_sim": {"camera": {"fps": FPS}},
        },
        manifest=project.DASHBOARD_MANIFEST,
        environment={"dashboard": {"DASHBOARD_LISTEN": LISTEN}},
    )
    with Rig(settings) as rig:
        rig.start()
        rig.publish(bench.models[0])
        PredictionCounter(rig.upstream).wait(WARM_FRAMES)
        process = child_pid("dashboard")
        bench.progress("no page", 0.1)
        closed = _share(process)
        with page(f"http://{LISTEN}/") as reader:
            bench.progress(f"a page in {reader}", 0.5)
            opened = _share(process)
    return {"fps": FPS, "seconds": SECONDS, "reader": reader, "closed": closed, "open": opened}


def _share(process: int) -> float:
    time.sleep(SETTLE_S)
    began_s, used_s = time.monotonic(), processor_s(process)
    time.sleep(SECONDS)
    return round((processor_s(process) - used_s) / (time.monotonic() - began_s), 4)
