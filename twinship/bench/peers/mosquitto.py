"""mosquitto as a process for one measurement: TLS, NODELAY, a window of messages. Measures nothing."""

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
from twinship.simulator.certificates import Authority, write_private

HOST: Final = "127.0.0.1"
READY_S: Final = 20.0


@dataclass(frozen=True)
class Broker:
    """Where it listens, and the file with the root that its clients must trust."""

    port: int
    ca: Path
    inflight: int


def program() -> str | None:
    """Where mosquitto is; None where it is not installed. Debian keeps it where only root looks."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def version(mosquitto: str) -> str:
    """What it calls itself."""
    said = subprocess.run([mosquitto, "-h"], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].strip()


@contextmanager
def running(mosquitto: str, folder: Path, inflight: int) -> Iterator[Broker]:
    """A broker on a free port of the loopback interface. Raises BenchFailed when it does not come up."""
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
    user = pwd.getpwuid(os.getuid()).pw_name  # started by root it would become another, and not read its key
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


def _wait_ready(process: subprocess.Popen[bytes], broker: Broker, log: Path) -> None:
    context = ssl.create_default_context(cafile=str(broker.ca))
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with (
                socket.create_connection((HOST, broker.port), 1.0) as plain,
                context.wrap_socket(plain, server_hostname=HOST),
            ):
                return
        except OSError:
            time.sleep(0.05)
    said = " ".join(log.read_text(errors="replace").split())[-300:]
    raise BenchFailed(f"mosquitto did not come up: {said}; cure: leave it uninstalled, or mend it")
