"""Hub against a peer that is away, and one that accepts connections and never answers. No simulator."""

import json
import os
import secrets
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

WATCHDOG_S = 2
SCRIPT = textwrap.dedent(f"""
    from edgekit import log
    from edgekit.hub.connection import Hub, HubSettings
    from edgekit.lifecycle import run_module

    log.setup("test")
    hub = Hub(inputs={{}}, on_twin=lambda twin: None, settings=HubSettings(watchdog_s={WATCHDOG_S}))
    run_module(hub, start=lambda: None, stop=lambda timeout_s: {{}})
""")
KEY = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3JldA=="


@contextmanager
def black_hole() -> Iterator[str]:
    """The address of a listener at port 8883 that accepts connections (in its backlog) and never answers."""
    while True:
        address = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
        listener = socket.socket()
        try:
            listener.bind((address, 8883))
        except OSError:
            listener.close()
            continue
        listener.listen(64)
        with listener:
            yield address
        return


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA certificate: the SDK requires one, but no peer is verified with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path


def module(address: str, authority: Path) -> "subprocess.Popen[str]":
    """A module process whose environment names this address as edgeHub."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SCRIPT],
        stdout=subprocess.PIPE,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "EdgeHubConnectionString": f"HostName=hub.invalid;DeviceId=d;ModuleId=m;SharedAccessKey={KEY};"
            f"GatewayHostName={address}",
            "EdgeModuleCACertificateFile": str(authority),
        },
    )


def test_a_peer_that_never_answers_is_exit_75(authority: Path) -> None:
    """It blocks the SDK's only thread, so the module exits, and the last log line names the request."""
    with black_hole() as address:
        begin = time.monotonic()
        process = module(address, authority)
        out, _err = process.communicate(timeout=60)
        took = time.monotonic() - begin
    events = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 75
    assert took < WATCHDOG_S + 40  # the SDK alone would take 59 s
    assert "on_message_received: accepted, but not answered" in events[-1]["event"]
    assert KEY not in out


def test_a_module_waits_for_a_hub_that_is_away(authority: Path) -> None:
    """Refused connections do not mean stuck: the module retries, logs little, and exits 0 on SIGTERM."""
    with black_hole() as address:
        pass
    process = module(address, authority)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3 * WATCHDOG_S)
    process.terminate()
    out, _err = process.communicate(timeout=30)
    lines += out.splitlines()
    assert process.returncode == 0
    assert "ConnectionFailedError" in "".join(lines)
    assert len(lines) < 40
