"""edgeAgent's direct methods: ping, RestartModule, GetModuleLogs (ref 8), with edgeAgent's status codes."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from twinship.simulator.edge_agent.log_search import LogSearch
from twinship.simulator.edge_agent.module_logs import PayloadInvalid
from twinship.simulator.edge_hub.methods import MethodAnswer

logger = logging.getLogger(__name__)

#: edgeAgent's methods that need a blob store.
UNSUPPORTED: Final = ("UploadModuleLogs", "UploadSupportBundle", "GetTaskStatus")


class NotRestarted(Exception):
    """The module is unknown or does not run. The text says which."""


class Modules(Protocol):
    """The part of the agent that the methods use."""

    @property
    def hub_name(self) -> str: ...

    @property
    def device_name(self) -> str: ...

    @property
    def log_search(self) -> LogSearch: ...

    def logs(self) -> Mapping[str, Path]:
        """The log file of each module and of edgeHub."""

    async def restart(self, name: str) -> None:
        """Restart a module; raises NotRestarted."""


async def answer(modules: Modules, name: str, payload: Any) -> MethodAnswer:
    """Run a method; errors become statuses. Method names are case-insensitive, as in edgeAgent."""
    known = {method.casefold(): handler for method, handler in _METHODS.items()}
    if name.casefold() in {method.casefold() for method in UNSUPPORTED}:
        return _error(501, f"{name} is not in this simulator: it needs a blob store")
    if (handler := known.get(name.casefold())) is None:
        return _error(400, f"Command '{name}' not found. The supported commands are - {','.join(_METHODS)}")
    try:
        return MethodAnswer(200, await handler(modules, payload))
    except PayloadInvalid as error:
        return _error(400, str(error))
    except NotRestarted as error:
        return _error(500, str(error))
    except Exception:
        logger.exception("method %s failed", name)
        return _error(500, "the simulator failed; its log has the reason")


async def _ping(_modules: Modules, _payload: Any) -> None:
    return None


async def _restart(modules: Modules, payload: Any) -> None:
    if not isinstance(payload, Mapping) or not payload.get("schemaVersion"):
        raise PayloadInvalid("the payload must be an object with schemaVersion")
    if not isinstance(payload.get("id"), str):
        raise PayloadInvalid("id must be the name of a module")
    await modules.restart(payload["id"])


async def _logs(modules: Modules, payload: Any) -> list[Any]:
    return await modules.log_search.run(
        payload, time.time(), modules.logs(), hub=modules.hub_name, device=modules.device_name
    )


_METHODS: Final[Mapping[str, Callable[[Modules, Any], Awaitable[Any]]]] = {
    "ping": _ping,
    "GetModuleLogs": _logs,
    "RestartModule": _restart,
}


def _error(status: int, message: str) -> MethodAnswer:
    return MethodAnswer(status, {"message": message})
