"""The address of a device's page, with the token that opens it, read where the token lies.

The token never leaves its device by itself: it is in the variable DASHBOARD_TOKEN of the manifest, else in a
file that the module `dashboard` makes in its volume. So this reads the twin of `$edgeAgent`, the folder of a
simulator on this machine, or the module's container on this machine.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from twinship.fleet import FleetError
from twinship.fleet.connection import Connection
from twinship.fleet.service import ModuleTwin, ServiceHub
from twinship.simulator.manifest.modules_content import ManifestError, Module, deployment

MODULE: Final = "dashboard"
KEPT_IN: Final = "dashboard.token"
PORT: Final = "8780"  # in the image, and by default
_AGENT: Final = "$edgeAgent"
_IN_CONTAINER: Final = ("docker", "exec", MODULE, "sh", "-c", f'cat "$DATA_FOLDER/{KEPT_IN}"')
_DOCKER_S: Final = 20.0


class NoPage(FleetError):
    """The device has no page, or its token is elsewhere; the text names the cure."""


@dataclass(frozen=True)
class Page:
    """The page of one device."""

    address: str  # as this machine sees it
    token: str = field(repr=False)  # "": none is needed

    @property
    def url(self) -> str:
        """The address that opens the page at the first visit: a secret if there is a token."""
        return f"{self.address}?token={quote(self.token, safe='')}" if self.token else self.address

    def to_json(self) -> dict[str, Any]:
        """The entry for `--json`."""
        return {"address": self.address, "token": self.token or None, "url": self.url}


def find(connection: Connection, device: str, env_file: Path) -> Page:
    """The page of a device. `env_file` lies in the simulator's folder if there is one.

    Raises NoPage and the errors of ServiceHub.
    """
    with ServiceHub(connection) as hub:
        agent = hub.module_twin(device, _AGENT)
    return page(agent, env_file.resolve().parent / "modules" / MODULE, token_in_container)


def page(agent: ModuleTwin, data: Path, in_container: Callable[[], str]) -> Page:
    """The page of the deployment in the twin of `$edgeAgent`.

    `data` is the data folder of the module where a simulator runs it as a process; `in_container`
    reads the token of a module in a container. Raises NoPage.
    """
    module = _module(agent)
    is_process = data.is_dir() and _runs(agent)
    address = _address_of_process(module) if is_process else _address_of_container(module)
    if token := _variable(module, "DASHBOARD_TOKEN"):
        return Page(address, token)
    if is_process:
        return Page(address, _token_of_process(module, data / KEPT_IN))
    return Page(address, in_container())


def _token_of_process(module: Module, file: Path) -> str:
    """The token in the data folder; "" on loopback, where none is needed. Raises NoPage."""
    if _is_loopback(_listen(module)[0]):
        return ""
    if not file.exists() or not (token := file.read_text().strip()):
        raise NoPage(f"{MODULE} has not made its token yet ({file}); cure: try again when it runs")
    return token


def token_in_container() -> str:
    """The token in the volume of the container on this machine. Raises NoPage."""
    try:
        done = subprocess.run(_IN_CONTAINER, capture_output=True, text=True, timeout=_DOCKER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _elsewhere(f"docker: {type(error).__name__}") from error
    if done.returncode or not done.stdout.strip():
        raise _elsewhere(" ".join(done.stderr.split())[:200] or "the file is empty")
    return done.stdout.strip()


def _elsewhere(reason: str) -> NoPage:
    return NoPage(
        f"the token is in the volume of the container {MODULE}, which cannot be read from here ({reason}); "
        f"cure: run this on the device, or there docker exec {MODULE} cat /data/{KEPT_IN}"
    )


def _module(agent: ModuleTwin) -> Module:
    content = {_AGENT: {"properties.desired": dict(agent.desired)}, "$edgeHub": {"properties.desired": {}}}
    try:
        found = deployment(content, file=f"twin of {_AGENT}").modules.get(MODULE)
    except ManifestError as error:
        raise NoPage(str(error)) from error
    if found is None:
        raise NoPage(
            f"{agent.device} has no module {MODULE}; "
            "cure: twinship deploy --template deployment.dashboard.template.json"
        )
    return found


def _runs(agent: ModuleTwin) -> bool:
    """Whether edgeAgent itself runs the module, and nobody beside it."""
    modules = agent.reported.get("modules")
    status = modules.get(MODULE) if isinstance(modules, Mapping) else None
    return isinstance(status, Mapping) and status.get("runtimeStatus") == "running"


def _variable(module: Module, name: str) -> str:
    """A variable of the manifest; "" also if it stayed literal, because it was not defined (ref 7.2)."""
    value = module.environment.get(name, "").strip()
    return "" if value in (f"${name}", f"${{{name}}}") else value


def _listen(module: Module) -> tuple[str, str]:
    """Address and port of a module outside a container."""
    host, _, port = (_variable(module, "DASHBOARD_LISTEN") or f"127.0.0.1:{PORT}").rpartition(":")
    return host.strip("[]").replace("localhost", "127.0.0.1"), port


def _address_of_process(module: Module) -> str:
    return _address(module, *_listen(module))


def _address_of_container(module: Module) -> str:
    """The first port binding of the manifest; without one, the module uses the network of the host."""
    port = _variable(module, "DASHBOARD_LISTEN").rpartition(":")[2] or PORT
    try:
        bound = json.loads(module.create_options)["HostConfig"]["PortBindings"][f"{port}/tcp"][0]
        return _address(module, str(bound.get("HostIp", "")), str(bound["HostPort"]))
    except (KeyError, IndexError, TypeError, AttributeError):
        return _address(module, "", port)


def _address(module: Module, host: str, port: str) -> str:
    scheme = "https" if _variable(module, "DASHBOARD_CERTIFICATE") else "http"
    return f"{scheme}://{_reachable(host)}:{port}/"


def _reachable(host: str) -> str:
    """The host as a browser names it: loopback where the module listens on all addresses."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "127.0.0.1"
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
