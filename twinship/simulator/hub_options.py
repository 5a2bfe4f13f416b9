"""The command line of the hub process, and the environment variables that edgeHub reads too."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinship.simulator.common.private_files import private_folder
from twinship.simulator.edge_hub.settings import EdgeHubSettings
from twinship.simulator.loopback import check_loopback
from twinship.simulator.store import DURABILITIES

_GROUP = r"[A-Za-z0-9][A-Za-z0-9._-]{0,49}"


class HubError(Exception):
    """The hub cannot start. The text is one line with the cure."""


@dataclass(frozen=True)
class HubOptions:
    """What one hub serves, and where."""

    folder: Path
    hub_address: str
    edges: Mapping[str, str]  # edge device -> its address
    rest_port: int
    durability: str
    upstream: Path
    retention_s: float  # of the built-in endpoint
    consumer_groups: tuple[str, ...]
    plain_amqp: bool
    twin_change_events: bool


def parse(arguments: Sequence[str] | None) -> tuple[HubOptions, EdgeHubSettings]:
    """Read the command line and the environment. Creates the folder. Raises HubError or AddressUnusable."""
    parsed = _parser().parse_args(arguments)
    return _options(parsed), _settings(parsed, os.environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twinship.simulator.hub", description="IoT Hub and edgeHub on this machine."
    )
    parser.add_argument("--folder", type=Path, required=True, help="state and files of this simulator")
    parser.add_argument("--hub-address", required=True, metavar="IP", help="loopback address of IoT Hub")
    parser.add_argument("--edge", action="append", required=True, metavar="DEVICE=IP", help="an edge device")
    parser.add_argument("--rest-port", type=int, default=8443, help="port of the service API (default 8443)")
    parser.add_argument("--delivery-window", type=int, default=1, help="unacknowledged messages per module")
    parser.add_argument(
        "--durability", choices=DURABILITIES, default="normal", help="full survives a power loss"
    )
    parser.add_argument("--upstream", type=Path, help="default: upstream.jsonl in the folder")
    parser.add_argument("--hop-delay-ms", type=float, default=0.0, help="added to each delivery to a module")
    parser.add_argument(
        "--retention-hours", type=float, default=24.0, help="of the built-in event endpoint (default 24)"
    )
    parser.add_argument(
        "--consumer-group", action="append", default=[], metavar="NAME", help="one more than $Default"
    )
    parser.add_argument(
        "--plain-amqp", action="store_true", help="AMQP without TLS on port 5672 too, as emulators have it"
    )
    parser.add_argument(
        "--twin-change-events", action="store_true", help="changes of twins go to the built-in endpoint too"
    )
    return parser


def _options(parsed: argparse.Namespace) -> HubOptions:
    edges = dict(_edge(text) for text in parsed.edge)
    if len({parsed.hub_address, *edges.values()}) <= len(edges):
        raise HubError(
            "the hub and each edge device need different addresses: IoT Hub and edgeHub answer differently"
        )
    for address in (parsed.hub_address, *edges.values()):
        check_loopback(address)
    if not parsed.retention_hours > 0:
        raise HubError("--retention-hours must be above 0")
    for name in parsed.consumer_group:
        if not re.fullmatch(_GROUP, name):
            raise HubError(f"--consumer-group {name!r}: 1 to 50 letters, digits, '.', '_' and '-'")
    private_folder(parsed.folder)
    return HubOptions(
        folder=parsed.folder,
        hub_address=parsed.hub_address,
        edges=edges,
        rest_port=parsed.rest_port,
        durability=parsed.durability,
        upstream=parsed.upstream or parsed.folder / "upstream.jsonl",
        retention_s=parsed.retention_hours * 3600,
        consumer_groups=("$Default", *parsed.consumer_group),
        plain_amqp=parsed.plain_amqp,
        twin_change_events=parsed.twin_change_events,
    )


def _edge(text: str) -> tuple[str, str]:
    device, equals, address = text.rpartition("=")
    if not equals or not device:
        raise HubError(f"--edge {text!r} is not DEVICE=IP")
    return device, address


def _settings(parsed: argparse.Namespace, environment: Mapping[str, str]) -> EdgeHubSettings:
    if parsed.delivery_window < 1 or parsed.hop_delay_ms < 0:
        raise HubError("--delivery-window must be at least 1 and --hop-delay-ms at least 0")
    default = EdgeHubSettings()
    return EdgeHubSettings(
        message_ack_timeout_s=_number(environment, "MessageAckTimeoutSecs", default.message_ack_timeout_s),
        max_connected_clients=int(_number(environment, "MaxConnectedClients", default.max_connected_clients)),
        delivery_window=parsed.delivery_window,
        hop_delay_s=parsed.hop_delay_ms / 1000,
    )


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) == 0:
        raise HubError(f"environment variable {name} is {text[:40]!r}, not a whole number above 0")
    return int(text)
