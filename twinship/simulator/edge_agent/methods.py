"""edgeAgent's direct methods: ping, RestartModule, GetModuleLogs (ref 8), with edgeAgent's status codes."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from twinship.simulator.edge_agent.module_logs import PayloadInvalid
from twinship.simulator.edge_hub.methods import MethodAnswer

logger = logging.getLogger(__name__)

#: edgeAgent's methods that need a blob store.
UNSUPPORTED: Final = ("UploadModuleLogs", "UploadSupportBundle", "GetTaskStatus")


class NotRestarted(Exception):
    """The module is unknown or does not run. The text says which."""


Search = Callable[[Any], Awaitable[list[Any]]]
Restart = Callable[[str], Awaitable[None]]


async def answer(name: str, payload: Any, *, search: Search, restart: Restart) -> MethodAnswer:
    """Run a method; errors become statuses. Method names are case-insensitive, as in edgeAgent.

    `search` takes the payload of GetModuleLogs, `restart` the name of a module; it may raise NotRestarted.
    """
    known: Mapping[str, Callable[[], Awaitable[Any]]] = {
        "ping": _ping,
        "GetModuleLogs": lambda: search(payload),
        "RestartModule": lambda: restart(_module(payload)),
    }
    if name.casefold() in {method.casefold() for method in UNSUPPORTED}:
        return _error(501, f"{name} is not in this simulator: it needs a blob store")
    run = {method.casefold(): run for method, run in known.items()}.get(name.casefold())
    if run is None:
        return _error(400, f"Command '{name}' not found. The supported commands are - {','.join(known)}")
    try:
        return MethodAnswer(200, await run())
    except PayloadInvalid as error:
        return _error(400, str(error))
    except NotRestarted as error:
        return _error(500, str(error))
    except Exception:
        logger.exception("method %s failed", name)
        return _error(500, "the simulator failed; its log has the reason")


async def _ping() -> None:
    return None


def _module(payload: Any) -> str:
    """The module that a payload of RestartModule names; raises PayloadInvalid."""
    if not isinstance(payload, Mapping) or not payload.get("schemaVersion"):
        raise PayloadInvalid("the payload must be an object with schemaVersion")
    if not isinstance(payload.get("id"), str):
        raise PayloadInvalid("id must be the name of a module")
    return str(payload["id"])


def _error(status: int, message: str) -> MethodAnswer:
    return MethodAnswer(status, {"message": message})
