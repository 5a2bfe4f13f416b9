"""Opens and closes the workload sockets of the edge devices' modules as modules are created and removed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from pathlib import Path

from aiohttp import web

from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import Registry
from twinship.simulator.workload.workload import serve_workload

logger = logging.getLogger(__name__)


class WorkloadSockets:
    """Follows the registry. `folder` is private; `trust_bundle` is PEM."""

    def __init__(
        self, registry: Registry, folder: Path, devices: Collection[str], *, trust_bundle: str
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._devices = devices
        self._trust_bundle = trust_bundle
        self._runners: dict[Identity, web.AppRunner] = {}
        self._changes: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve every existing module and each new one."""
        for device in self._registry.devices():
            for module in self._registry.modules(device.identity.device):
                await self._serve(module.identity)
        self._registry.on_created.append(lambda identity: self._follow(identity, created=True))
        self._registry.on_removed.append(lambda identity: self._follow(identity, created=False))

    async def close(self) -> None:
        """Close every socket."""
        if self._changes is not None:
            await self._changes
        for identity in list(self._runners):
            await self._end(identity)

    def _follow(self, identity: Identity, *, created: bool) -> None:
        # one change after the other: a module that is removed and created again must end up with a socket
        before = self._changes
        self._changes = asyncio.get_running_loop().create_task(
            self._change(before, identity, created=created), name=f"workload {identity}"
        )

    async def _change(self, before: asyncio.Task[None] | None, identity: Identity, *, created: bool) -> None:
        if before is not None:
            await before
        try:
            await (self._serve(identity) if created else self._end(identity))
        except OSError as error:
            logger.error("%s: no workload socket: %s", identity, error)

    async def _serve(self, identity: Identity) -> None:
        if identity.module is None or identity.device not in self._devices or identity in self._runners:
            return
        self._runners[identity] = await serve_workload(
            self._registry, self._folder, identity, trust_bundle=self._trust_bundle
        )

    async def _end(self, identity: Identity) -> None:
        if (runner := self._runners.pop(identity, None)) is not None:
            await runner.cleanup()
