"""The hub process as the launcher sees it: its addresses, its command line and its readiness.

The hub is ready when endpoints.json in its folder contains its pid.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinship.simulator.common.private_files import write_private
from twinship.simulator.edge_agent.rotated_log import last_line
from twinship.simulator.edge_agent.supervisor import Program, Supervised
from twinship.simulator.loopback import MQTT_PORT, NoAddress, free_addresses, holder, is_free

REST_PORT = 8443
READY_WITHIN_S = 20.0
POLL_S = 0.02
RESTART_WITHIN_S = 5.0  # the longest delay: after a full disk the hub serves again within 10 s
ENDPOINTS = "endpoints.json"


class HubNotReady(Exception):
    """The hub did not start. The text is one line with the reason."""


@dataclass(frozen=True)
class Addresses:
    """Loopback addresses of IoT Hub and of the edge device; they must differ, because both use port 8883."""

    hub: str
    gateway: str


@dataclass(frozen=True)
class Endpoints:
    """Addresses and files of a ready hub."""

    hub_name: str
    gateway: str
    rest_port: int
    ca_pem: Path
    service_env: Path
    upstream: Path
    proxy: str | None  # modules need it for HTTPS if the edge device cannot use port 443
    trusted_pem: Path  # modules must trust it, besides the trust bundle, to download model files

    @classmethod
    def of(cls, folder: Path, addresses: Addresses, device: str) -> Endpoints:
        """From the hub's fixed file names and its endpoints.json."""
        endpoints = _read_endpoints(folder)
        return cls(
            hub_name=addresses.hub,
            gateway=addresses.gateway,
            rest_port=REST_PORT,
            ca_pem=folder / "ca.pem",
            service_env=folder / "service.env",
            upstream=folder / "upstream.jsonl",
            proxy=endpoints.get("proxies", {}).get(device),
            trusted_pem=Path(endpoints["model_files"]["trusted_pem"]),
        )


def choose_addresses(requested: Addresses | None, folder: Path) -> Addresses:
    """Free addresses: the requested ones, else those of the previous run, else any. Raises NoAddress."""
    if requested is None:
        hub, gateway = free_addresses(2, (MQTT_PORT, REST_PORT), prefer=_previous(folder))
        return Addresses(hub, gateway)
    if requested.hub == requested.gateway:
        raise NoAddress(f"the hub and the edge device need two addresses, not {requested.hub} for both")
    for address, port in _pairs(requested):
        if not is_free(address, port):
            found = holder(address, port)
            who = (
                f"{found} is in the way"
                if found
                else "this machine has no such address, or it cannot be bound"
            )
            raise NoAddress(f"{address}:{port} cannot be used: {who}; stop that, or choose another address")
    return requested


def hub_program(
    folder: Path,
    device: str,
    addresses: Addresses,
    *,
    delivery_window: int,
    options: Sequence[str] = (),
    environment: Mapping[str, str],
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
    given = [text for pair in arguments.items() for text in pair]
    command = (sys.executable, "-P", "-m", "twinship.simulator.hub", *given, *options)
    return Program("hub", command, environment, longest_delay_s=RESTART_WITHIN_S)


async def ready(hub: Supervised, folder: Path, *, may_end: bool) -> None:
    """Wait until the running hub has written endpoints.json; raises HubNotReady.

    `may_end`: a hub that ends is not an error, because the supervisor starts it again.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    while _ready_pid(folder) is None or _ready_pid(folder) != hub.state.pid:
        if hub.state.exited is not None and not may_end:
            raise HubNotReady(last_line(hub.log_path) or f"the hub ended with {hub.state.exit_code}")
        if time.monotonic() > deadline:
            raise HubNotReady(f"the hub was not ready within {READY_WITHIN_S:g} s; see {hub.log_path}")
        await asyncio.sleep(POLL_S)


def are_taken(addresses: Addresses) -> bool:
    """Whether another program listens there now."""
    return not all(is_free(address, port) for address, port in _pairs(addresses))


def _pairs(addresses: Addresses) -> list[tuple[str, int]]:
    return [
        (address, port) for address in (addresses.hub, addresses.gateway) for port in (MQTT_PORT, REST_PORT)
    ]


def _previous(folder: Path) -> tuple[str, ...]:
    """The addresses of the previous run in this folder, so that addresses that people noted stay valid."""
    try:
        saved = json.loads((folder / "addresses.json").read_text(encoding="utf-8"))
        return str(saved["hub"]), str(saved["gateway"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def save_addresses(folder: Path, addresses: Addresses) -> None:
    """Save the addresses for the next run in this folder."""
    write_private(folder / "addresses.json", json.dumps(addresses.__dict__))


def _ready_pid(folder: Path) -> int | None:
    pid = _read_endpoints(folder).get("pid")
    return pid if isinstance(pid, int) else None


def _read_endpoints(folder: Path) -> dict[str, Any]:
    """The content of endpoints.json; empty while no hub is ready."""
    try:
        endpoints = json.loads((folder / ENDPOINTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return endpoints if isinstance(endpoints, dict) else {}
