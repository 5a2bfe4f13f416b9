"""What edgeAgent reports of its modules, with a hub in memory and no processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from twinship.simulator.edge_agent.edge_agent import Device, EdgeAgent
from twinship.simulator.edge_agent.processes import ProcessRecord
from twinship.simulator.edge_agent.service_client import ServiceClient
from twinship.simulator.edge_agent.supervisor import RunState, Supervised
from twinship.simulator.manifest.modules_content import deployment

PATIENCE_S = 10


def desired(version: int, *modules: str) -> dict[str, Any]:
    """The desired properties of `$edgeAgent` with these modules."""
    settings = {"image": "registry.example/m:1", "createOptions": "{}"}
    module = {"type": "docker", "status": "running", "restartPolicy": "always", "settings": settings}
    return {
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {}},
        "systemModules": {},
        "modules": dict.fromkeys(modules, module),
        **({"$version": version} if version else {}),
    }


class Hub:
    """Its second deployment arrives while edgeAgent sends its first report."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.enough = asyncio.Event()
        self._first = asyncio.Event()
        self._applied = asyncio.Event()

    async def call(self, method: str, *path: str, body: Any = None, **query: Any) -> Any:
        """The part of ServiceClient that edgeAgent uses."""
        if method == "PATCH":
            self._first.set()
            await self._applied.wait()
            self.reports.append(body)
            if len(self.reports) == 2:
                self.enough.set()
        elif path[-1] == "methods":
            await asyncio.Event().wait()
        elif method == "GET" and query["after"] == "0":
            return desired(1, "first", "second")
        elif method == "GET" and query["after"] == "1":
            await self._first.wait()
            return desired(2, "first")
        elif method == "GET":
            self._applied.set()  # it asks again, so the second one is in force
            await asyncio.Event().wait()
        return None


def test_a_module_that_is_removed_during_a_report_leaves_the_twin(tmp_path: Path) -> None:
    """The next report has null for it; else it would be in the reported properties for ever."""

    async def run() -> list[dict[str, Any]]:
        hub = Hub()
        device = Device("edge", tmp_path, tmp_path, endpoints=cast(Any, None))
        process = cast(Supervised, type("Process", (), {"state": RunState()}))
        agent = EdgeAgent(device, process, cast(ServiceClient, hub), cast(ProcessRecord, None))
        content = {"$edgeAgent": {"properties.desired": desired(0, "first", "second")}}
        await agent.apply(deployment({**content, "$edgeHub": {"properties.desired": {}}}))
        async with asyncio.timeout(PATIENCE_S):
            await hub.enough.wait()
        await agent.close(1.0)
        return hub.reports

    first, second, *_ = asyncio.run(run())
    assert list(first["modules"]) == ["first", "second"]
    assert second["modules"]["second"] is None
    assert second["lastDesiredVersion"] == 2
