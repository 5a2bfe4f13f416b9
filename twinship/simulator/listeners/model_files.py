"""A file server over HTTPS on IoT Hub's loopback address; it stands in for a blob store.

It has no accounts and checks no signature: a program that reaches the address can read, and a program that
writes into the folder publishes. It has an authority of its own. A module that trusts this authority
(SSL_CERT_FILE) must still get the hub's from the trust bundle, as on a device.
"""

from __future__ import annotations

import logging
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from twinship.simulator.certificates import Authority
from twinship.simulator.common.private_files import private_folder, write_private
from twinship.simulator.listeners.https import STOP_WITHIN_S, serve_port
from twinship.simulator.loopback import AddressUnusable
from twinship.simulator.store import Store

logger = logging.getLogger(__name__)

PATH: Final = "/files"


@dataclass(frozen=True)
class ModelFiles:
    """The folder to put files into, and the URL below which they are served."""

    folder: Path
    url: str
    trusted_pem: Path  # the authority of this server and those of the machine, in one file


async def serve_model_files(
    folder: Path, address: str, store: Store, now: datetime, running: AsyncExitStack
) -> ModelFiles:
    """Serve `folder`/files until `running` ends; raises AddressUnusable."""
    files = private_folder(private_folder(folder) / "files")
    authority = Authority.open(folder, now)
    application = web.Application()
    application.router.add_static(PATH, files)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=STOP_WITHIN_S)
    await runner.setup()
    running.push_async_callback(runner.cleanup)
    port = await _listen(runner, address, authority.server_context([address]), store)
    return ModelFiles(files, f"https://{address}:{port}{PATH}", _trusted(folder, authority))


async def _listen(runner: web.AppRunner, address: str, context: ssl.SSLContext, store: Store) -> int:
    """Use the port of the previous run: model URLs in twins contain it."""
    previous = store.documents("model_files").get("port", 0)
    try:
        await serve_port(runner, address, previous, context)
    except AddressUnusable as error:
        logger.warning("model files get another port than before: %s", error)
        await serve_port(runner, address, 0, context)
    port = int(runner.addresses[-1][1])
    if port != previous:
        store.put("model_files", "port", port)
    return port


def _trusted(folder: Path, authority: Authority) -> Path:
    """SSL_CERT_FILE replaces the machine's file, so the new file contains that one too."""
    path = folder / "trusted.pem"
    machine = ssl.get_default_verify_paths().cafile
    others = Path(machine).read_text(encoding="utf-8") if machine else ""
    write_private(path, f"{authority.ca_pem}\n{others}")
    return path
