"""Loopback addresses for the hub and its edge devices: which are free, and who holds a port.

The SDK's MQTT port is fixed (ref 0), so two simulators need different addresses. A program that listens on
every address (0.0.0.0) blocks all of them.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import random
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

MQTT_PORT: Final = 8883  # fixed in the device SDK (ref 0)
HTTPS_PORT: Final = 443  # fixed in the device SDK (ref 0)
TRIES: Final = 16
WILDCARDS: Final = ("0.0.0.0", "::")
_LISTEN: Final = "0A"


class NoAddress(Exception):
    """No loopback address has the ports free. The text names who holds them and the cure."""


class AddressUnusable(Exception):
    """A listener cannot be opened. The text names the address and the cure."""


def free_addresses(count: int, ports: Sequence[int], *, prefer: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns `count` loopback addresses whose ports are all free, `prefer` first. Raises NoAddress."""
    found: list[str] = []
    for address in (*prefer, *_random_addresses(TRIES + count)):
        if len(found) == count:
            break
        if address not in found and all(is_free(address, port) for port in ports):
            found.append(address)
    if len(found) < count:
        raise NoAddress(_obstacle(ports))
    return tuple(found)


def is_free(address: str, port: int) -> bool:
    """Whether a server can listen there now. Connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def holder(address: str, port: int) -> str | None:
    """Who listens there or on every address, as "0.0.0.0:8883 (mosquitto, pid 12)"; None if nobody does."""
    for listening, inode in _listeners(port):
        if listening in (address, *WILDCARDS):
            return f"{listening}:{port}{_owner(inode)}"
    return None


def check_loopback(address: str) -> None:
    """Raise AddressUnusable for an address that other machines can reach."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).is_loopback:
            return
    raise AddressUnusable(f"{address} is not a loopback address; the simulator listens on 127.x.y.z only")


def explain(error: OSError, address: str, port: int) -> str:
    """Why a listener could not be opened, and the cure."""
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{address} is not an address of this machine; on macOS: sudo ifconfig lo0 alias {address}"
    if error.errno == errno.EACCES:
        return f"port {port} needs a privilege that this process lacks; choose a port above 1023"
    if error.errno != errno.EADDRINUSE:
        return f"{address}:{port} cannot be opened: {error.strerror or error}"
    who = holder(address, port) or f"{address}:{port}, held by another program,"
    return f"{who} is in the way of {address}:{port}; stop it while the simulator runs"


def _random_addresses(count: int) -> Iterator[str]:
    # 127.16.0.0/12 is away from 127.0.0.x, which people assign by hand. Random, so that simulators started at
    # the same moment choose different addresses.
    generator = random.SystemRandom()
    for _ in range(count):
        yield f"127.{generator.randrange(16, 32)}.{generator.randrange(256)}.{generator.randrange(1, 255)}"


def _obstacle(ports: Sequence[int]) -> str:
    for port in ports:
        if found := holder("", port):
            return f"port {port} is taken on every address by {found}: stop it while the simulator runs"
    return (
        f"no loopback address in 127.16.0.0/12 lets ports {', '.join(map(str, ports))} be bound; is 'lo' up?"
    )


def _listeners(port: int) -> Iterator[tuple[str, str]]:
    """Address and socket inode of every listener on a port, from /proc/net."""
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for columns in (line.split() for line in lines):
            address, _, number = columns[1].partition(":")
            if columns[3] == _LISTEN and int(number, 16) == port:
                yield _readable(address, family), columns[9]


def _readable(address: str, family: socket.AddressFamily) -> str:
    # 32-bit words in the machine's own byte order
    raw = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
    return socket.inet_ntop(family, raw).removeprefix("::ffff:")  # IPv4 through an IPv6 socket


def _owner(inode: str) -> str:
    """The process that holds a socket, if this user may see it."""
    link_target = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) == link_target for link in (process / "fd").iterdir()):
                return f" ({(process / 'comm').read_text(encoding='utf-8').strip()}, pid {process.name})"
        except OSError:
            continue
    return ""
