"""The simulator as a context manager: runs the hub and the modules of a template as processes.

One thread starts every child and lives until all have ended. The kernel kills a child when the thread that
started it ends, so `kill -9` of this process leaves no orphan; the next start in the same folder ends any
that remain. Ctrl-C reaches this process only. The `with` block ends the modules first and the hub last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from twinship.simulator import lint
from twinship.simulator.common.private_files import private_folder, write_private
from twinship.simulator.edge_agent import hub_process
from twinship.simulator.edge_agent.edge_agent import INHERITED, Device, EdgeAgent, ModuleNotReady
from twinship.simulator.edge_agent.hub_process import Addresses, Endpoints, HubNotReady
from twinship.simulator.edge_agent.processes import FolderInUse, ProcessRecord, lock_folder
from twinship.simulator.edge_agent.service_client import ConnectionString, ServiceClient, ServiceRefused
from twinship.simulator.edge_agent.supervisor import RunState, Supervised
from twinship.simulator.loopback import NoAddress
from twinship.simulator.manifest.manifest import load
from twinship.simulator.manifest.modules_content import Deployment, ManifestError
from twinship.simulator.workload.workload import SocketFolderError, socket_folder

__all__ = ["Addresses", "Endpoints", "Simulator", "SimulatorError", "SimulatorSettings"]

GRACE_S = 10.0
ADDRESS_TRIES = 3

T = TypeVar("T")


class SimulatorError(Exception):
    """The simulator cannot do the request. The text is one line with the cause and the cure."""


@dataclass(frozen=True)
class SimulatorSettings:
    """What to simulate, and where. `environment` defines the template's `$VAR`; `folder` is created."""

    template: Path
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    device: str = "twinship"
    leave_out: frozenset[str] = frozenset()  # modules that the simulator does not start
    module_environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    delivery_window: int = 1
    hub_options: Sequence[str] = ()  # more of the hub's command line (hub_options.py)
    addresses: Addresses | None = None  # None: those of the previous run, or free ones


class Simulator:
    """Entering raises SimulatorError and leaves nothing running. Methods raise SimulatorError too."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self._folder = settings.folder.absolute()
        self._record = ProcessRecord(self._folder)
        self._exits = contextlib.ExitStack()
        self._thread = _LoopThread()
        self._hub: Supervised | None = None
        self._client: ServiceClient | None = None
        self._agent: EdgeAgent | None = None
        self._endpoints: Endpoints | None = None

    def __enter__(self) -> Self:
        with _one_line_errors(), contextlib.ExitStack() as exits:
            self._start(exits)
            self._exits = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    @property
    def endpoints(self) -> Endpoints:
        """The addresses of the hub and the edge device, and the files for clients."""
        if self._endpoints is None:
            raise SimulatorError("the simulator has not been started")
        return self._endpoints

    @property
    def connection_string(self) -> str:
        """The service's connection string, with its key: a secret."""
        return _connection_string(self.endpoints.service_env)

    def module_environment(self, name: str) -> dict[str, str]:
        """The environment that a module gets, to start it by hand."""
        return self._call(self._edge_agent().environment(name))

    def write_env_file(self, name: str) -> Path:
        """Write a module's environment to `modules/<name>.env` (0600), for `docker run --env-file`.

        DATA_FOLDER is left out, because an image has its own.
        """
        variables = {
            key: value for key, value in self.module_environment(name).items() if key != "DATA_FOLDER"
        }
        for key, value in variables.items():
            if "\n" in value:
                raise SimulatorError(
                    f"{name}: {key} has several lines, which docker run --env-file cannot read"
                )
        path = self._folder / "modules" / f"{name}.env"
        write_private(path, "".join(f"{key}={value}\n" for key, value in variables.items()))
        return path

    def states(self) -> dict[str, RunState]:
        """The state of each module that was started."""
        return self._edge_agent().states()

    def start_modules(self) -> None:
        """Start the manifest's modules in startup order, except those in `leave_out`."""
        self._call(self._edge_agent().start_modules())

    def stop_modules(self, timeout_s: float = GRACE_S) -> None:
        """SIGTERM, the last started first; SIGKILL for those that still run after `timeout_s`."""
        self._call(self._edge_agent().stop_modules(timeout_s))

    def kill_hub(self) -> None:
        """SIGKILL the hub, as a crash. The simulator starts it again; `wait_hub` waits for that."""

        async def kill() -> None:
            if self._hub is not None:
                await self._hub.crash()

        self._call(kill())

    def wait_hub(self) -> None:
        """Wait until the hub is ready (again)."""

        async def wait() -> None:
            if self._hub is not None:
                await hub_process.ready(self._hub, self._folder, may_end=True)

        self._call(wait())

    def _start(self, exits: contextlib.ExitStack) -> None:
        deployment = self._deployment()
        private_folder(private_folder(self._folder) / "logs")
        exits.callback(os.close, lock_folder(self._folder))
        self._record.reap()
        (self._folder / hub_process.ENDPOINTS).unlink(missing_ok=True)
        sockets = socket_folder(self._folder)
        self._record.add_folder(sockets)
        exits.callback(self._remove_files, sockets)
        self._thread.start()
        exits.callback(self._thread.close)
        exits.callback(self._end)
        self._call(self._begin(deployment, sockets))

    def _deployment(self) -> Deployment:
        deployment = load(self._settings.template, self._settings.environment)
        for error in lint.errors(deployment):
            raise SimulatorError(f"{self._settings.template.name}: {error}")
        named = self._settings.leave_out | self._settings.module_environment.keys()
        if unknown := sorted(named - deployment.modules.keys()):
            known = ", ".join(sorted(deployment.modules))
            raise SimulatorError(
                f"{self._settings.template.name} has no module {unknown[0]!r}; it has {known}"
            )
        return deployment

    async def _begin(self, deployment: Deployment, sockets: Path) -> None:
        addresses = await self._start_hub()
        assert self._hub is not None
        self._endpoints = Endpoints.of(self._folder, addresses, self._settings.device)
        connection = ConnectionString.parse(_connection_string(self._endpoints.service_env))
        self._client = ServiceClient(connection, self._endpoints.ca_pem)
        device = Device(
            name=self._settings.device,
            folder=self._folder,
            sockets=sockets,
            endpoints=self._endpoints,
            leave_out=self._settings.leave_out,
            module_environment=self._settings.module_environment,
        )
        self._agent = EdgeAgent(device, self._hub, self._client, self._record)
        await self._agent.apply(deployment)

    async def _start_hub(self) -> Addresses:
        """Start the hub and wait for it. If another program takes an address first, try other ones."""
        attempts = ADDRESS_TRIES if self._settings.addresses is None else 1
        for attempt in range(1, attempts + 1):
            addresses = hub_process.choose_addresses(self._settings.addresses, self._folder)
            self._hub = self._supervised_hub(addresses)
            self._hub.start()
            try:
                await hub_process.ready(self._hub, self._folder, may_end=False)
            except HubNotReady:
                await self._hub.stop(GRACE_S)
                if attempt == attempts or not hub_process.are_taken(addresses):
                    raise
            else:
                hub_process.save_addresses(self._folder, addresses)
                return addresses
        raise AssertionError("the last attempt returns or raises")

    def _supervised_hub(self, addresses: Addresses) -> Supervised:
        program = hub_process.hub_program(
            self._folder,
            self._settings.device,
            addresses,
            delivery_window=self._settings.delivery_window,
            options=self._settings.hub_options,
            environment={
                name: os.environ[name] for name in (*INHERITED, "SSL_CERT_FILE") if name in os.environ
            },
        )
        return Supervised(program, self._folder / "logs", self._record, self._hub_changed)

    def _hub_changed(self) -> None:
        if self._agent is not None:
            self._agent.hub_changed()

    def _end(self) -> None:
        """End the modules first, the hub last. A second Ctrl-C kills all at once."""
        try:
            self._call(self._shut_down())
        except BaseException:
            self._call(self._kill_all())
            raise

    async def _shut_down(self) -> None:
        if self._agent is not None:
            await self._agent.close(GRACE_S)
        if self._client is not None:
            await self._client.close()
        if self._hub is not None:
            await self._hub.stop(GRACE_S)

    async def _kill_all(self) -> None:
        if self._agent is not None:
            self._agent.kill()
            await self._agent.stop_modules(0.0)
        if self._client is not None:
            await self._client.close()
        if self._hub is not None:
            self._hub.kill()
            await self._hub.stop(0.0)

    def _remove_files(self, sockets: Path) -> None:
        shutil.rmtree(sockets, ignore_errors=True)
        (self._folder / hub_process.ENDPOINTS).unlink(missing_ok=True)
        self._record.clear()

    def _edge_agent(self) -> EdgeAgent:
        if self._agent is None:
            raise SimulatorError("the simulator has not been started")
        return self._agent

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        with _one_line_errors():
            return self._thread.call(work)


class _LoopThread:
    """An event loop in its own daemon thread, so that it never delays the end of the process."""

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulator agent", daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the thread and wait for it. An interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel all tasks and end the thread."""
        self.call(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _one_line_errors() -> Any:
    expected = (
        FolderInUse,
        HubNotReady,
        ManifestError,
        ModuleNotReady,
        NoAddress,
        ServiceRefused,
        SocketFolderError,
    )
    try:
        yield
    except (*expected, OSError) as error:
        raise SimulatorError(str(error)) from error


def _connection_string(service_env: Path) -> str:
    for line in service_env.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name == "IOTHUB_CONNECTION_STRING":
            return value.strip().strip('"')
    raise SimulatorError(f"{service_env} has no IOTHUB_CONNECTION_STRING")
