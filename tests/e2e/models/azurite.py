"""Azurite, Microsoft's emulator of Azure Storage, as a process with TLS; installed from npm into build/."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from twinship.simulator.certificates import Authority
from twinship.simulator.common.private_files import write_private

VERSION = "3.35.0"
BUILD = Path(__file__).parents[3] / "build" / "azurite"


@dataclass(frozen=True)
class Azurite:
    """A running Azurite with one account."""

    port: int
    ca_pem: Path
    key: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(64)).decode(), repr=False)

    def connection_string(self, scheme: str = "https", key: str | None = None) -> str:
        """A value of AZURE_STORAGE_CONNECTION_STRING."""
        return (
            f"DefaultEndpointsProtocol={scheme};AccountName=twinship;AccountKey={key or self.key};"
            f"BlobEndpoint={scheme}://127.0.0.1:{self.port}/twinship;"
        )


def program() -> Path:
    """The path of azurite-blob, which is installed if needed. Skips the test if that fails."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs Node.js and npm for Azurite")
    BUILD.mkdir(parents=True, exist_ok=True)
    found = BUILD / "node_modules" / ".bin" / "azurite-blob"
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            command = [
                npm,
                "install",
                "--no-audit",
                "--no-fund",
                "--prefix",
                str(BUILD),
                f"azurite@{VERSION}",
            ]
            installed = subprocess.run(command, capture_output=True, text=True)
            if installed.returncode:
                pytest.skip(f"needs azurite@{VERSION} from npm, and npm cannot install it")
    return found


@contextmanager
def running(folder: Path) -> Iterator[Azurite]:
    """Run Azurite until the `with` block ends; its files are in `folder`."""
    command = program()
    authority = Authority.create()
    chain, key = authority.issue(["127.0.0.1"])
    for name, text in (("chain.pem", chain), ("key.pem", key), ("storage-ca.pem", authority.ca_pem)):
        write_private(folder / name, text)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    azurite = Azurite(port, folder / "storage-ca.pem")
    options = ["--cert", str(folder / "chain.pem"), "--key", str(folder / "key.pem"), "--blobPort", str(port)]
    process = subprocess.Popen(
        [
            command,
            *options,
            "--location",
            str(folder),
            "--skipApiVersionCheck",
            "--disableTelemetry",
            "--silent",
        ],
        env={**os.environ, "AZURITE_ACCOUNTS": f"twinship:{azurite.key}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        output = []
        for line in process.stdout:
            output.append(line)
            if "successfully listen" in line:
                break
        else:
            raise AssertionError("".join(output))
        yield azurite
    finally:
        process.kill()
        process.communicate()
