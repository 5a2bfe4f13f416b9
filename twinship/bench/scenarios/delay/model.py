"""The second formula of scenario `delay`: the time until a model serves that arrives over a slow link.

The model travels inside the twin, as `twinship publish` sends it. It serves from the beginning of its
probation, and the module reports when that was by its own clock. Every publish has a new version: the module
does not prove a version again that it has in its store.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from inference.artefact import pack, read
from inference.model_section import ModelState
from twinship.bench.rig.rig import DEVICE, Rig
from twinship.bench.rig.waiting import until
from twinship.bench.scenarios.delay.formulas import model_s
from twinship.bench.scenarios.delay.points import Point
from twinship.fleet import keys
from twinship.fleet.signed_artefact import sign
from twinship.simulator import LINK_DELAY, LINK_RATE, end_faults, set_fault, show_faults

MODULE: Final = "inference"
PROMOTED_S: Final = 60.0
POLL_S: Final = 0.1
MODEL_BANDWIDTHS: Final = (8_000.0, 12_500.0, 25_000.0, 50_000.0)  # bytes/s, as of low-power radio links


class ModelLink:
    """Publishes over the rig's link. `rtt_s`: delay of the link → additional time of an empty round trip."""

    def __init__(self, rig: Rig, model: Path, scratch: Path, rtt_s: Mapping[float, float]) -> None:
        self._rig = rig
        self._artefact = read(model.read_bytes())
        self._scratch = scratch
        self._rtt_s = rtt_s
        self._key = keys.signing_key(rig.settings.folder / "keys")
        self._numbers = itertools.count()

    def points(self, bandwidths: tuple[float, ...], delays_s: tuple[float, ...]) -> list[Point]:
        """Measure each latency with each bandwidth, and before each a publish without a limit.

        The time of a proof depends on the load of the machine. Publishes with and without a limit alternate,
        so that both meet the same load.
        """
        unlimited, measured = [], []
        for delay, bandwidth in itertools.product(delays_s, bandwidths):
            unlimited.append(self._publish()[1])
            measured.append((bandwidth, delay, *self._limited(bandwidth, delay)))
        processing_s = statistics.median(unlimited)
        return [self._point(processing_s, *each) for each in measured]

    def _limited(self, bandwidth: float, delay: float) -> tuple[int, float]:
        simulator = self._rig.simulator_folder
        set_fault(simulator, LINK_DELAY, delay)
        set_fault(simulator, LINK_RATE, bandwidth)
        published = self._publish()
        end_faults(simulator)
        return published

    def _point(
        self, unlimited_s: float, bandwidth: float, delay: float, data_bytes: int, took_s: float
    ) -> Point:
        processing_s = unlimited_s + self._rtt_s[delay]
        predicted_s = model_s(data_bytes, bandwidth, processing_s)
        return Point(bandwidth, delay, data_bytes, processing_s, predicted_s, took_s)

    def _carried(self) -> int:
        """Bytes that the hub has sent to the module, the model among them."""
        return int(show_faults(self._rig.simulator_folder)["carried"][f"{DEVICE}/{MODULE}"][1])

    def _publish(self) -> tuple[int, float]:
        """Publish a new version: bytes on the wire, and seconds from the twin's patch to the promotion."""
        version = f"0.{next(self._numbers)}.0"
        section = sign(self._version(version), self._key).section()
        self._rig.patch(MODULE, {"model": None})  # so that nothing of an older one is left in the twin
        self._wait("unassigned", lambda: self._status()["state"] == ModelState.UNASSIGNED)
        before, begun = self._carried(), time.time()
        self._rig.patch(MODULE, {"model": section})
        self._wait(f"running {version}", lambda: promoted(self._status(), version))
        return self._carried() - before, promoted(self._status(), version) - begun

    def _version(self, version: str) -> Path:
        artefact = self._artefact
        manifest = artefact.manifest.model_copy(update={"version": version})
        path = self._scratch / f"{version}.tflite"
        path.write_bytes(pack(artefact.tflite, manifest, artefact.labels, artefact.probes))
        return path

    def _status(self) -> Mapping[str, Any]:
        return dict(self._rig.reported(MODULE)["modelStatus"])

    def _wait(self, what: str, condition: Callable[[], object]) -> None:
        until(condition, PROMOTED_S, f"inference to be {what}", every_s=POLL_S)


def promoted(status: Mapping[str, Any], version: str) -> float:
    """When this version began its probation, seconds since the epoch; 0 if it has not."""
    times = [
        datetime.fromisoformat(entry["at"]).timestamp()
        for entry in status["history"]
        if (entry["state"], entry.get("version")) == (ModelState.PROBATION, version)
    ]
    return times[-1] if times else 0.0
