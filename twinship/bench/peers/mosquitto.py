"""mosquitto as a process for one measurement: TLS, TCP_NODELAY, a window of outstanding messages."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinship.bench import BenchFailed
from twinship.simulator.certificates import Authority
from twinship.simulator.common.private_files import write_private

HOST: Final = "127.0.0.1"
READY_S: Final = 20.0


@dataclass(frozen=True)
class Broker:
    """A running broker. `ca` is the file with its root certificate."""

    port: int
    ca: Path
    inflight: int


def program() -> str | None:
    """The path of mosquitto; None if it is not installed. Debian installs it outside a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def version(mosquitto: str) -> str:
    """Its name and version."""
    text = subprocess.run([mosquitto, "-h"], capture_output=True, text=True, check=False).stdout
    return text.partition("\n")[0].strip()


@contextmanager
def running(mosquitto: str, folder: Path, inflight: int) -> Iterator[Broker]:
    """A broker on a free port of the loopback interface. Raises BenchFailed when it does not start."""
    folder.mkdir(parents=True)
    authority = Authority.create()
    chain, key = authority.issue([HOST])
    (folder / "ca.pem").write_text(authority.ca_pem)
    (folder / "server.pem").write_text(chain)
    write_private(folder / "server.key", key)
    broker = Broker(_free_port(), folder / "ca.pem", inflight)
    (folder / "mosquitto.conf").write_text(_configuration(broker, folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [mosquitto, "-c", str(folder / "mosquitto.conf")], stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_ready(process, broker, folder / "log")
        yield broker
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _configuration(broker: Broker, folder: Path) -> str:
    user = pwd.getpwuid(
        os.getuid()
    ).pw_name  # else, started by root, it changes its user and cannot read the key
    return "\n".join(
        (
            f"user {user}",
            f"listener {broker.port} {HOST}",
            "allow_anonymous true",
            f"certfile {folder / 'server.pem'}",
            f"keyfile {folder / 'server.key'}",
            "set_tcp_nodelay true",
            f"max_inflight_messages {broker.inflight}",
            "max_queued_messages 0",
            "persistence false",
            "",
        )
    )


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def accepts_tls(host: str, port: int, ca: Path) -> bool:
    """Whether a TLS server that the root in `ca` certifies listens there."""
    try:
        context = ssl.create_default_context(cafile=str(ca))
        with (
            socket.create_connection((host, port), 1.0) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _wait_ready(process: subprocess.Popen[bytes], broker: Broker, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        if accepts_tls(HOST, broker.port, broker.ca):
            return
        time.sleep(0.05)
    logged = " ".join(log.read_text(errors="replace").split())[-300:]
    raise BenchFailed(f"mosquitto did not start: {logged}; cure: repair or uninstall it")
