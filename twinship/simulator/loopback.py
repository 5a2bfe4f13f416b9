"""Free loopback addresses for the hub and its edge devices, and who is in the way when there are none.

The SDK's port 8883 is fixed (ref 0), so two simulators need two addresses, and a listener on every address
(0.0.0.0) leaves none. Binds to try, listens to nothing.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

TRIES = 16
WILDCARDS = ("0.0.0.0", "::")
_LISTEN = "0A"


class NoAddress(Exception):
    """No loopback address has the ports free; one line names who holds them and the cure."""


def free_addresses(count: int, ports: Sequence[int], *, prefer: Sequence[str] = ()) -> tuple[str, ...]:
    """`count` loopback addresses on which all ports can be bound now, `prefer` first. Raises NoAddress."""
    found: list[str] = []
    for address in (*prefer, *_random_addresses(TRIES + count)):
        if len(found) == count:
            break
        if address not in found and all(is_free(address, port) for port in ports):
            found.append(address)
    if len(found) < count:
        raise NoAddress(_in_the_way(ports))
    return tuple(found)


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there; lingering connections of an earlier one are no obstacle."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def holder(address: str, port: int) -> str | None:
    """Who listens there or on every address, as "0.0.0.0:8883 (mosquitto, pid 12)"; None when nobody does."""
    for listening, inode in _listeners(port):
        if listening in (address, *WILDCARDS):
            return f"{listening}:{port}{_owner(inode)}"
    return None


def _random_addresses(count: int) -> Iterator[str]:
    # 127.16.0.0/12, away from 127.0.0.x where people put things by hand; random, so that simulators which are
    # started at the same moment do not meet
    chosen = random.SystemRandom()
    for _ in range(count):
        yield f"127.{chosen.randrange(16, 32)}.{chosen.randrange(256)}.{chosen.randrange(1, 255)}"


def _in_the_way(ports: Sequence[int]) -> str:
    for port in ports:
        if found := holder("", port):
            return f"port {port} is taken on every address by {found}: stop it while the simulator runs"
    return (
        f"no loopback address in 127.16.0.0/12 lets ports {', '.join(map(str, ports))} be bound; is 'lo' up?"
    )


def _listeners(port: int) -> Iterator[tuple[str, str]]:
    """Address and socket inode of every listener on a port, as Linux lists them."""
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
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(link.readlink()) == wanted for link in (process / "fd").iterdir()):
                return f" ({(process / 'comm').read_text(encoding='utf-8').strip()}, pid {process.name})"
        except OSError:
            continue
    return ""
