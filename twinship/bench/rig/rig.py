"""The real path on this machine for one measurement: simulator, modules, a key, a model by twin.

Starts and steers; measures nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twinship import project
from twinship.bench import BenchFailed
from twinship.fleet import connection as connections
from twinship.fleet import keys
from twinship.fleet.publish import PublishResult, publish
from twinship.fleet.service import ServiceHub
from twinship.simulator import Simulator, SimulatorSettings
from twinship.simulator.edge_agent.edge_agent import INHERITED
from twinship.simulator.edge_agent.processes import dying_with_parent

DEVICE = "twinship"
VERDICT_S = 60.0
MODULES = ("inference", "camera_sim")
GRACE_S = 10.0


@dataclass(frozen=True)
class RigSettings:
    """`folder` is the rig's own. `desired`: module → patch of its desired properties, before it starts."""

    folder: Path
    pictures: Path
    desired: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    leave_out: frozenset[str] = frozenset()  # modules that the measurement stands in for
    delivery_window: int = 1
    #: a Python module that is started with each of the manifest's names in place of the modules themselves
    program: str = ""


class Rig:
    """Entering starts the hub; modules start when asked for. Leaving ends every process.

    A second rig in the same folder finds the twins, the models and the queue that the first one left.
    """

    def __init__(self, settings: RigSettings) -> None:
        self.settings = settings
        self._exits = ExitStack()
        self._started: list[subprocess.Popen[bytes]] = []
        self._keys = settings.folder / "keys"

    def __enter__(self) -> Self:
        if not self._keys.exists():  # else a rig that was here before starts again, with all that it had
            keys.new(self._keys)
        settings = self.settings
        variables = {
            "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(self._keys),
            "CAMERA_FOLDER": str(settings.pictures.resolve()),
        }
        simulator = Simulator(
            SimulatorSettings(
                project.manifest(),
                settings.folder / "simulator",
                variables,
                device=DEVICE,
                leave_out=frozenset(MODULES) if settings.program else settings.leave_out,
                delivery_window=settings.delivery_window,
            )
        )
        self.simulator = self._exits.enter_context(simulator)
        self.connection = connections.find({}, simulator.endpoints.service_env)
        for module, patch in settings.desired.items():
            self.patch(module, patch)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def start(self) -> None:
        """Start the modules that are not left out."""
        self.simulator.start_modules()
        if self.settings.program:
            for name in MODULES:
                self._exits.callback(self._stop, self._start(name))

    def stop(self) -> None:
        """End the modules, in good order and before the hub."""
        self.simulator.stop_modules()
        for process in self._started:
            self._stop(process)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = dying_with_parent((sys.executable, "-P", "-m", self.settings.program, name))
        inherited = {each: os.environ[each] for each in INHERITED if each in os.environ}
        with (self.settings.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**inherited, **self.simulator.module_environment(name)},
                stdout=log,
                stderr=log,
            )
        self._started.append(process)
        return process

    @staticmethod
    def _stop(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def upstream(self) -> Path:
        """What has left for the cloud, one message a line."""
        return self.simulator.endpoints.upstream

    @property
    def sent(self) -> Path:
        """The camera's ledger: the frames that are stored. It keeps one where its twin asks for it."""
        return self.settings.folder / "simulator" / "modules" / "camera_sim" / "sent.jsonl"

    def patch(self, module: str, desired: Mapping[str, Any]) -> None:
        """Merge into a module's desired properties."""
        with ServiceHub(self.connection) as hub:
            hub.patch_desired(DEVICE, module, desired, "*")

    def reported(self, module: str) -> dict[str, Any]:
        """What a module says of itself."""
        with ServiceHub(self.connection) as hub:
            return dict(hub.module_twin(DEVICE, module).reported)

    def publish(self, model: Path, *, until_active: bool = False) -> PublishResult:
        """Ship a model by twin and wait until it answers, or has passed probation. Raises BenchFailed."""
        key = keys.signing_key(self._keys)
        result = publish(
            self.connection, model, key, DEVICE, "inference", wait_s=VERDICT_S, until_active=until_active
        )
        if not result.ok:
            raise BenchFailed(f"{result.ref} was not taken by the module: {result.verdict.state}")
        return result
