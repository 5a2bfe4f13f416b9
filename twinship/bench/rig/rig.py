"""The real path on this machine for one measurement: simulator, modules, a signing key, a model by twin."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from twinship import project
from twinship.bench import BenchFailed
from twinship.demo.report import Sent, Upstream, read_sent, read_upstream
from twinship.fleet import artefact_store, keys
from twinship.fleet import connection as connections
from twinship.fleet.publish import PublishResult, publish
from twinship.fleet.service import ServiceHub
from twinship.fleet.signed_artefact import SignedArtefact, sign
from twinship.simulator import Simulator, SimulatorSettings
from twinship.simulator.edge_agent.edge_agent import INHERITED
from twinship.simulator.edge_agent.processes import dying_with_parent

DEVICE = "twinship"
VERDICT_S = 60.0
MODULES = ("inference", "camera_sim")
GRACE_S = 10.0


@dataclass(frozen=True)
class RigSettings:
    """`folder` is used by this rig only."""

    folder: Path
    pictures: Path
    #: module → patch of its desired properties, applied before the modules start
    desired: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    leave_out: frozenset[str] = frozenset()  # modules that the measurement itself replaces
    delivery_window: int = 1
    program: str = ""  # Python module to run in place of each module, with the module's name as its argument
    manifest: str = project.MANIFEST  # of those that come with Twinship
    #: module → more of its variables
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Rig:
    """Entering starts the hub, `start` the modules; leaving ends every process.

    A second rig in the same folder finds the twins, the models and the queue of the first one.
    """

    def __init__(self, settings: RigSettings) -> None:
        self.settings = settings
        self._exits = ExitStack()
        self._started: list[subprocess.Popen[bytes]] = []
        self._keys = settings.folder / "keys"

    def __enter__(self) -> Self:
        if not self._keys.exists():  # an earlier rig in this folder has left its keys
            keys.new(self._keys)
        settings = self.settings
        variables = {
            "MODEL_TRUSTED_KEYS": keys.trusted_keys_text(self._keys),
            "CAMERA_FOLDER": str(settings.pictures.resolve()),
        }
        simulator = Simulator(
            SimulatorSettings(
                project.manifest().with_name(settings.manifest),
                self.simulator_folder,
                variables,
                device=DEVICE,
                leave_out=frozenset(MODULES) if settings.program else settings.leave_out,
                module_environment=settings.environment,
                delivery_window=settings.delivery_window,
            )
        )
        self.simulator = self._exits.enter_context(simulator)
        self.connection = connections.find({}, simulator.endpoints.service_env)
        for module, patch in settings.desired.items():
            self.patch(module, patch)
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start(self) -> None:
        """Start the modules, except those in `leave_out`."""
        self.simulator.start_modules()
        if self.settings.program:
            for name in MODULES:
                self._exits.callback(self._stop, self._start(name))

    def stop(self) -> None:
        """End the modules in their proper order; the hub goes on."""
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
        """The messages that reached IoT Hub, one JSON object in a line."""
        return self.simulator.endpoints.upstream

    @property
    def simulator_folder(self) -> Path:
        """The folder of the running simulator, for its faults and metrics."""
        return self.settings.folder / "simulator"

    @property
    def sent(self) -> Path:
        """The camera's send log: the frames that the hub stored. Its twin section must ask for it."""
        return self.simulator_folder / "modules" / "camera_sim" / "sent.jsonl"

    def records(self) -> tuple[tuple[Sent, ...], Upstream]:
        """The camera's send log and the messages upstream, parsed. Raises OSError if one is missing."""
        # a full disk can cut a line inside a character
        with self.sent.open(errors="replace") as sent, self.upstream.open(errors="replace") as upstream:
            return read_sent(sent), read_upstream(upstream)

    def patch(self, module: str, desired: Mapping[str, Any]) -> None:
        """Merge into a module's desired properties."""
        with ServiceHub(self.connection) as hub:
            hub.patch_desired(DEVICE, module, desired, "*")

    def _store(self) -> artefact_store.ArtefactStore:
        """The twin, or the simulator's folder for a model that does not fit into a twin."""
        variables = connections.read_env_file(self.simulator.endpoints.service_env)
        return artefact_store.inline_or(artefact_store.simulator_folder(variables))

    def reported(self, module: str) -> dict[str, Any]:
        """A module's reported properties."""
        with ServiceHub(self.connection) as hub:
            return dict(hub.module_twin(DEVICE, module).reported)

    def sign(self, model: Path) -> SignedArtefact:
        """The model, signed with this rig's key, for a twin that contains it."""
        return sign(model, keys.signing_key(self._keys))

    def publish(self, model: Path, *, until_active: bool = False) -> PublishResult:
        """Publish a model and wait until the module serves it, or with `until_active` until probation ends.

        Raises BenchFailed when the module does not accept it.
        """
        key = keys.signing_key(self._keys)
        result = publish(
            self.connection,
            model,
            key,
            DEVICE,
            "inference",
            store=self._store(),
            wait_s=VERDICT_S,
            until_active=until_active,
        )
        if not result.ok:
            raise BenchFailed(f"the module did not accept {result.ref}: {result.verdict.state}")
        return result
