"""The hub's control socket: switches faults on and off, and shows the hub's counters.

It is not part of the service's REST API. The unix socket has mode 0600 and lies in the private socket folder,
so only this user can open it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from twinship.simulator.faults.faults import FaultRefused, Faults

SOCKET: Final = "control.sock"


def control_path(folder: Path) -> Path:
    """The path of the socket in the folder of the workload sockets."""
    return folder / SOCKET


async def serve_control(
    folder: Path,
    faults: Faults,
    acts: Mapping[str, Callable[[], None]],
    counters: Callable[[], Mapping[str, Any]],
) -> web.AppRunner:
    """Serve the socket; `await runner.cleanup()` ends it. `acts` has a function for each of ACTS."""
    path = control_path(folder)
    path.unlink(missing_ok=True)  # a killed hub leaves it
    application = control_api(faults, acts, counters)

    async def remove(_application: web.Application) -> None:
        path.unlink(missing_ok=True)

    application.on_cleanup.append(remove)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    before = os.umask(0o177)
    try:
        await web.UnixSite(runner, str(path)).start()
    finally:
        os.umask(before)
    return runner


def control_api(
    faults: Faults, acts: Mapping[str, Callable[[], None]], counters: Callable[[], Mapping[str, Any]]
) -> web.Application:
    """GET / shows all; PUT /faults/NAME with {"value": …} sets or triggers one; DELETE /faults ends all."""

    def state() -> web.Response:
        return web.json_response({"faults": dict(faults.active), **counters()})

    async def show(_request: web.Request) -> web.Response:
        return state()

    async def put(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            value = _value(await request.read())
            if name in acts and value is None:
                acts[name]()
            else:
                faults.set(name, value)
        except FaultRefused as refused:
            return web.json_response({"message": str(refused)}, status=400)
        return state()

    async def end(_request: web.Request) -> web.Response:
        faults.end()
        return state()

    application = web.Application()
    application.router.add_get("/", show)
    application.router.add_put("/faults/{name}", put)
    application.router.add_delete("/faults", end)
    return application


def _value(body: bytes) -> float | None:
    try:
        value = json.loads(body)["value"] if body else None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FaultRefused('the body is not {"value": a number or null}') from None
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise FaultRefused('the body is not {"value": a number or null}')
    return None if value is None else float(value)
