"""The workload API (ref 1.4) for modules: trust bundle and sign, on one unix socket per module.

Access to the socket is the credential, and it signs only for its own module. It lies in a folder of its own,
in a folder that only this user can enter. Any user may use the socket itself (0666, as aziot-edged makes it):
a container with the module's folder mounted may run as another user, and finds the socket of a restarted hub,
which a mounted socket file would hide.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

from aiohttp import web
from aiohttp.typedefs import Handler

from twinship.simulator import sas
from twinship.simulator.identity import Identity
from twinship.simulator.iot_hub.registry import NotFound, Registry

API_VERSION = "2021-12-07"  # modules get it as IOTEDGE_APIVERSION
API_VERSIONS = frozenset(
    {"2018-06-28", "2019-01-30", "2019-10-22", "2019-11-05", "2020-07-07", API_VERSION, "2022-08-03"}
)
MAX_SOCKET_PATH_BYTES = 107  # sun_path has 108 bytes with the final zero
MAX_BODY_BYTES = 64 * 1024
SOCKET = "workload.sock"
SOCKET_MODE = 0o666


class SocketFolderError(Exception):
    """The socket folder cannot be used. The text is one line with the cure."""


def socket_folder(simulator_folder: Path) -> Path:
    """Create the simulator's socket folder: short, private, the same at each start.

    Running modules keep the path, so it must not change when the hub restarts. Raises SocketFolderError if
    another user owns it.
    """
    digest = hashlib.sha256(os.fsencode(simulator_folder.resolve())).hexdigest()[:12]
    folder = _temporary_folder() / f"twinship-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise SocketFolderError(
            f"{folder} is not a private folder of this user: remove it, or set TMPDIR to another folder"
        )
    return folder


def remove_socket_folder(folder: Path) -> None:
    """Remove the folder if it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def socket_path(folder: Path, identity: Identity) -> Path:
    """The path of a module's socket: always the same, and short enough for a socket."""
    name = hashlib.sha256(str(identity).encode()).hexdigest()[:16]
    return folder / name / SOCKET


async def serve_workload(
    registry: Registry, folder: Path, identity: Identity, *, trust_bundle: str
) -> web.AppRunner:
    """Serve one module's socket in `folder`; `await runner.cleanup()` ends it and removes the socket."""
    path = _free_path(folder, identity)
    application = workload_api(registry, identity, trust_bundle)

    async def remove(_application: web.Application) -> None:
        _remove(path)

    application.on_cleanup.append(remove)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    path.chmod(SOCKET_MODE)
    return runner


def _free_path(folder: Path, identity: Identity) -> Path:
    path = socket_path(folder, identity)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise SocketFolderError(f"{path} is too long for a socket: set TMPDIR to a shorter path")
    folder.mkdir(mode=0o700, exist_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.parent.chmod(0o755)
    path.unlink(missing_ok=True)  # a killed hub leaves it
    return path


def _remove(path: Path) -> None:
    """Remove the socket file, which asyncio leaves, and the folder after the last one."""
    path.unlink(missing_ok=True)
    remove_socket_folder(path.parent)
    remove_socket_folder(path.parent.parent)


def workload_api(registry: Registry, identity: Identity, trust_bundle: str) -> web.Application:
    """The HTTP routes of one module's socket."""

    async def bundle(_request: web.Request) -> web.Response:
        return web.json_response({"certificate": trust_bundle})

    async def sign(request: web.Request) -> web.Response:
        if request.match_info["module"] != identity.module:
            return _error(403, f"this socket signs for module {identity.module!r} only")
        try:
            document, keys = registry.get(identity), registry.keys(identity)
        except NotFound as error:
            return _error(404, str(error))
        if keys is None or request.match_info["generation"] != document.generation_id:
            return _error(404, f"module {identity.module!r} has another generation id, or is disabled")
        return _signed(keys[0], await request.read())

    application = web.Application(middlewares=[_known_version], client_max_size=MAX_BODY_BYTES)
    application.router.add_get("/trust-bundle", bundle)
    application.router.add_post("/modules/{module}/genid/{generation}/sign", sign)
    application.router.add_route("*", "/{rest:.*}", _not_supported)
    return application


def _signed(key: str, body: bytes) -> web.Response:
    """`keyId` and `algo` are ignored, as in the real server (ref 1.4)."""
    try:
        data = base64.b64decode(json.loads(body)["data"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return _error(400, "the body must be JSON with base64 'data'")
    return web.json_response({"digest": base64.b64encode(sas.digest(key, data)).decode("ascii")})


@web.middleware
async def _known_version(request: web.Request, handler: Handler) -> web.StreamResponse:
    version = request.query.get("api-version")
    if version not in API_VERSIONS:
        return _error(400, f"api-version {version!r} is none of {', '.join(sorted(API_VERSIONS))}")
    return await handler(request)


async def _not_supported(request: web.Request) -> web.Response:
    return _error(501, f"{request.method} {quote(request.path)} of the workload API is not in this simulator")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


def _temporary_folder() -> Path:
    folder = Path(tempfile.gettempdir())
    return folder if len(os.fsencode(folder)) <= 40 else Path("/tmp")
