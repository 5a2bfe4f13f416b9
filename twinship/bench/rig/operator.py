"""The operator of a measurement: publishes models by twin and leaves the processors to the frames.

A real operator works on another machine, and so does IoT Hub. On one machine their work delays frames that a
swap itself would not delay. The operator therefore signs all models and opens its connection before the
measurement, runs at SCHED_IDLE and off inference's core, and reads the twin when a frame was answered by the
new model. It does not poll the twin in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from edgekit.cpu_affinity import ALLOWED_CORES
from inference.model_section import ModelState
from twinship.bench import BenchFailed
from twinship.bench.rig.rig import DEVICE, VERDICT_S, Rig
from twinship.demo.watch import Watch
from twinship.fleet.publish import PublishResult, WaitOptions, publish_to
from twinship.fleet.service import ServiceHub
from twinship.fleet.status import ModelStatus

MODULE: Final = "inference"
REPORT_S: Final = 0.1  # the module's report reaches the twin about as late as its first answer
AGAIN_S: Final = 0.25  # between two reads after that: for a late report, and until probation ends
FALLBACK_S: Final = 2.0  # a model that answers nothing is refused: only the twin says so


def steady_camera(fps: float) -> Mapping[str, Mapping[str, Any]]:
    """Desired properties for swaps: no frame is dropped, all are logged, and the camera waits."""
    return {
        MODULE: {
            # A generous budget: a busy machine must not end a probation.
            "inference": {"overload": "all", "latencyBudgetMs": 1000},
            "telemetry": {"predictions": "all", "intervalSeconds": 1},
        },
        "camera_sim": {"camera": {"fps": fps, "ledger": True, "paused": True}},
    }


class Operator:
    """For a `with` statement in the thread that publishes."""

    def __init__(self, rig: Rig, watch: Watch, models: Sequence[Path]) -> None:
        self._connection = rig.connection
        self._watch = watch
        self._signed = {model: rig.sign(model) for model in models}
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            self.hub = exits.enter_context(ServiceHub(self._connection))
            self.hub.module_twin(DEVICE, MODULE)  # imports the SDK and makes the TLS handshake
            exits.enter_context(idle_priority())
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def publish(self, model: Path, *, until_active: bool = False) -> PublishResult:
        """Publish a model and wait until the module serves it, or with `until_active` until probation ends.

        Raises BenchFailed when the module does not accept it.
        """
        signed = self._signed[model]
        seen = False

        def wait(seconds: float) -> None:
            nonlocal seen
            if seen:
                time.sleep(AGAIN_S)
            else:
                seen = self._watch.wait_version(signed.ref.version, seconds)
                time.sleep(REPORT_S)

        options = WaitOptions(VERDICT_S, until_active, FALLBACK_S, sleep=wait)
        result = publish_to(self.hub, signed, DEVICE, MODULE, options)
        if not result.ok:
            raise BenchFailed(f"the module did not accept {result.ref}: {result.verdict.state}")
        return result

    def wait_withdrawn(self) -> None:
        """Wait until the twin shows a rollback: until then, to publish the withdrawn model changes nothing.

        Raises BenchFailed when it does not show it.
        """
        deadline = time.monotonic() + VERDICT_S
        while ModelStatus.read(self.hub.module_twin(DEVICE, MODULE)).state != ModelState.WITHDRAWN:
            if time.monotonic() >= deadline:
                raise BenchFailed("the module does not report that it went back to the earlier model")
            time.sleep(REPORT_S)


@contextmanager
def idle_priority() -> Iterator[None]:
    """Run this thread only while a processor has nothing else to do (SCHED_IDLE). Others are as before.

    It keeps off the core of inference, the last one, as the child of a proof does: a thread that wakes there
    may wait for milliseconds even behind this one.
    """
    before, cores = (os.sched_getscheduler(0), os.sched_getparam(0)), os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores - {max(ALLOWED_CORES)} or cores)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        with suppress(
            PermissionError
        ):  # where RLIMIT_NICE does not allow it, this thread stays at SCHED_IDLE
            os.sched_setscheduler(0, *before)
