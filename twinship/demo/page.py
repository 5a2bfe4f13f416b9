"""The address of the dashboard's page on this machine, and a browser that shows it."""

from __future__ import annotations

import socket
import time
import webbrowser
from urllib.parse import urlsplit

from twinship.simulator import SimulatorSettings
from twinship.simulator.manifest.manifest import load

MODULE = "dashboard"
LISTEN = "127.0.0.1:8780"  # the module's default
OPEN_S = 20.0  # for the module to listen
_POLL_S = 0.1


def page_address(settings: SimulatorSettings) -> str:
    """The page's address; "" if the simulator does not run the module."""
    module = load(settings.template, settings.environment).modules.get(MODULE)
    if module is None or MODULE in settings.leave_out:
        return ""
    given = {**module.environment, **settings.module_environment.get(MODULE, {})}
    listen = given.get("DASHBOARD_LISTEN", "")
    port = (listen if ":" in listen else LISTEN).rpartition(":")[2]
    scheme = "https" if given.get("DASHBOARD_CERTIFICATE") else "http"
    return f"{scheme}://127.0.0.1:{port}/"


def open_page(address: str, patience_s: float = OPEN_S) -> bool:
    """Open the page in a browser once its module listens; False if it does not, or there is no browser."""
    parts = urlsplit(address)
    deadline = time.monotonic() + patience_s
    while not _listens(str(parts.hostname), parts.port or 80):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return webbrowser.open(address)


def _listens(host: str, port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((host, port)) == 0
