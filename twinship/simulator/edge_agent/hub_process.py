"""The hub as the agent sees it: a process in a folder, ready when endpoints.json names its pid.

Addresses are tried before, and others are taken when somebody was faster. What the hub does is hub.py's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinship.simulator.edge_agent.rotated_log import last_line
from twinship.simulator.edge_agent.supervisor import Program, Supervised
from twinship.simulator.loopback import MQTT_PORT, NoAddress, free_addresses, holder, is_free

REST_PORT = 8443
READY_WITHIN_S = 20.0
LOOK_EVERY_S = 0.02
ENDPOINTS = "endpoints.json"


class HubNotReady(Exception):
    """The hub did not start; one line says why."""


@dataclass(frozen=True)
class Addresses:
    """Loopback addresses of IoT Hub and of the edge device; never the same (both answer for themselves)."""

    hub: str
    gateway: str


@dataclass(frozen=True)
class Endpoints:
    """Where everything is, once the hub is ready."""

    hub_name: str
    gateway: str
    rest_port: int
    ca_pem: Path
    service_env: Path
    upstream: Path
    proxy: str | None  # what modules must use for HTTPS, where the edge device cannot have port 443
    trusted_pem: Path  # what modules must trust besides the trust bundle, to fetch model files

    @classmethod
    def of(cls, folder: Path, addresses: Addresses, device: str) -> Endpoints:
        """By the names that the hub gives its files, and what it says in one of them."""
        said = _said(folder)
        return cls(
            hub_name=addresses.hub,
            gateway=addresses.gateway,
            rest_port=REST_PORT,
            ca_pem=folder / "ca.pem",
            service_env=folder / "service.env",
            upstream=folder / "upstream.jsonl",
            proxy=said.get("proxies", {}).get(device),
            trusted_pem=Path(said["model_files"]["trusted_pem"]),
        )


def choose_addresses(asked: Addresses | None, folder: Path) -> Addresses:
    """Free addresses: those asked for, else those of the last time, else any. Raises NoAddress."""
    if asked is None:
        hub, gateway = free_addresses(2, (MQTT_PORT, REST_PORT), prefer=_last_time(folder))
        return Addresses(hub, gateway)
    if asked.hub == asked.gateway:
        raise NoAddress(f"the hub and the edge device need two addresses, not {asked.hub} for both")
    for address, port in _pairs(asked):
        if not is_free(address, port):
            found = holder(address, port)
            who = f"{found} is in the way" if found else "not an address of this machine, or not to be bound"
            raise NoAddress(f"{address}:{port} cannot be used: {who}; stop that, or ask for another address")
    return asked


def hub_program(
    folder: Path, device: str, addresses: Addresses, *, delivery_window: int, environment: Mapping[str, str]
) -> Program:
    """The command line of the hub process."""
    arguments = {
        "--folder": str(folder),
        "--hub-address": addresses.hub,
        "--edge": f"{device}={addresses.gateway}",
        "--rest-port": str(REST_PORT),
        "--delivery-window": str(delivery_window),
        "--upstream": str(folder / "upstream.jsonl"),
    }
    options = [text for pair in arguments.items() for text in pair]
    return Program("hub", (sys.executable, "-P", "-m", "twinship.simulator.hub", *options), environment)


async def ready(hub: Supervised, folder: Path, *, may_end: bool) -> None:
    """Wait until the hub that runs now has written endpoints.json; raises HubNotReady.

    `may_end`: whether it may have ended before, to be started again.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while _ready_pid(folder) is None or _ready_pid(folder) != hub.state.pid:
        if hub.state.exited is not None and not may_end:
            raise HubNotReady(last_line(hub.log_path) or f"the hub ended with {hub.state.exit_code}")
        if time.monotonic() > deadline:
            raise HubNotReady(f"the hub was not ready within {READY_WITHIN_S:g} s; see {hub.log_path}")
        await asyncio.sleep(LOOK_EVERY_S)


def are_taken(addresses: Addresses) -> bool:
    """Whether somebody else listens there now."""
    return not all(is_free(address, port) for address, port in _pairs(addresses))


def _pairs(addresses: Addresses) -> list[tuple[str, int]]:
    return [
        (address, port) for address in (addresses.hub, addresses.gateway) for port in (MQTT_PORT, REST_PORT)
    ]


def _last_time(folder: Path) -> tuple[str, ...]:
    """The addresses of the last start in this folder, so that what people wrote down stays true."""
    try:
        kept = json.loads((folder / "addresses.json").read_text(encoding="utf-8"))
        return str(kept["hub"]), str(kept["gateway"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def keep_addresses(folder: Path, addresses: Addresses) -> None:
    """For the next start in this folder."""
    (folder / "addresses.json").write_text(json.dumps(addresses.__dict__), encoding="utf-8")


def _ready_pid(folder: Path) -> int | None:
    pid = _said(folder).get("pid")
    return pid if isinstance(pid, int) else None


def _said(folder: Path) -> dict[str, Any]:
    """What is in endpoints.json; nothing while no hub is ready."""
    try:
        said = json.loads((folder / ENDPOINTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}
