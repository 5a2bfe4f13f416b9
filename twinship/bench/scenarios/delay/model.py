"""The second formula of scenario `delay`: how long until a model answers that comes over a thin link.

The model travels inside the twin, as `twinship publish` sends it, and answers from its promotion on, which
the module writes into its twin by its own clock. Every publish is of a new version: one that the device has
had before would need no proof.
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
from twinship.bench import BenchFailed
from twinship.bench.rig.rig import DEVICE, Rig
from twinship.bench.scenarios.delay.formulas import model_s
from twinship.bench.scenarios.delay.points import Point
from twinship.fleet import keys
from twinship.fleet.publish import sign
from twinship.simulator import LINK_DELAY, LINK_RATE, end_faults, set_fault, show_faults

MODULE: Final = "inference"
PROMOTED_S: Final = 60.0
LOOK_S: Final = 0.1
BANDWIDTHS: Final = (8_000.0, 12_500.0, 25_000.0, 50_000.0)  # bytes/s: as of radios for things


class ModelLink:
    """Publishes over the rig's link. `rtt_s`: by the link's delay, what an empty round trip takes longer."""

    def __init__(self, rig: Rig, model: Path, scratch: Path, rtt_s: Mapping[float, float]) -> None:
        self._rig = rig
        self._artefact = read(model.read_bytes())
        self._scratch = scratch
        self._rtt_s = rtt_s
        self._key = keys.signing_key(rig.settings.folder / "keys")
        self._numbers = itertools.count()

    def points(self, bandwidths: tuple[float, ...], delays_s: tuple[float, ...]) -> list[Point]:
        """Each latency with each bandwidth; before each, a publish without a limit.

        A proof is a process of its own, whose time depends on what else the machine does: publishes with and
        without a limit take turns, so that neither has the quiet hour to itself.
        """
        unlimited, measured = [], []
        for delay, bandwidth in itertools.product(delays_s, bandwidths):
            unlimited.append(self._publish()[1])
            measured.append((bandwidth, delay, *self._limited(bandwidth, delay)))
        processing_s = statistics.median(unlimited)
        return [self._point(processing_s, *each) for each in measured]

    def _limited(self, bandwidth: float, delay: float) -> tuple[int, float]:
        simulator = self._rig.upstream.parent
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
        """Bytes that the hub has sent to the module: the model goes that way."""
        return int(show_faults(self._rig.upstream.parent)["carried"][f"{DEVICE}/{MODULE}"][1])

    def _publish(self) -> tuple[int, float]:
        """Bytes on the wire and seconds, from the twin's patch to the promotion of an unknown version."""
        version = f"0.{next(self._numbers)}.0"
        section = sign(self._version(version), self._key).section()
        self._rig.patch(MODULE, {"model": None})  # so that no part of an older one is left
        self._wait("unassigned", lambda status: status["state"] == ModelState.UNASSIGNED)
        before, begun = self._carried(), time.time()
        self._rig.patch(MODULE, {"model": section})
        self._wait(f"running {version}", lambda status: promoted(status, version))
        return self._carried() - before, promoted(self._status(), version) - begun

    def _version(self, version: str) -> Path:
        artefact = self._artefact
        manifest = artefact.manifest.model_copy(update={"version": version})
        path = self._scratch / f"{version}.tflite"
        path.write_bytes(pack(artefact.tflite, manifest, artefact.labels, artefact.probes))
        return path

    def _status(self) -> Mapping[str, Any]:
        return dict(self._rig.reported(MODULE)["modelStatus"])

    def _wait(self, what: str, true: Callable[[Mapping[str, Any]], object]) -> None:
        deadline = time.monotonic() + PROMOTED_S
        while not true(self._status()):
            if time.monotonic() > deadline:
                raise BenchFailed(f"delay: inference was not {what} within {PROMOTED_S:g} s")
            time.sleep(LOOK_S)


def promoted(status: Mapping[str, Any], version: str) -> float:
    """When this version began to answer, seconds since the epoch; 0 while it does not."""
    times = [
        datetime.fromisoformat(happened["at"]).timestamp()
        for happened in status["history"]
        if (happened["state"], happened.get("version")) == (ModelState.PROBATION, version)
    ]
    return times[-1] if times else 0.0
