"""The simulator's certificate authority, with real TLS handshakes that succeed and that fail."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from twinship.simulator.certificates import RENEW_BEFORE, Authority
from twinship.simulator.common.private_files import write_private

NOW = datetime.now(UTC)


def handshake(server: ssl.SSLContext, ca_pem: str, name: str, version: ssl.TLSVersion) -> str | None:
    """Do a TLS handshake in memory; returns the TLS version. Raises the ssl.SSLError that a client sees."""
    client = ssl.create_default_context(cadata=ca_pem)
    client.minimum_version = client.maximum_version = version
    wires = [ssl.MemoryBIO() for _ in range(4)]
    ends = [
        server.wrap_bio(wires[0], wires[1], server_side=True),
        client.wrap_bio(wires[2], wires[3], server_hostname=name),
    ]
    waiting = list(ends)
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                pass
            wires[0].write(wires[3].read())
            wires[2].write(wires[1].read())
    return ends[1].version()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["127.16.0.9", "gateway.example"])
def test_clients_that_trust_the_authority_connect(version: ssl.TLSVersion, name: str) -> None:
    """A client connects by IP address and by name, with the device SDK's TLS 1.2 and with TLS 1.3 (ref 0)."""
    authority = Authority.create()
    server = authority.server_context(["127.16.0.9", "gateway.example"])
    assert handshake(server, authority.ca_pem, name, version) in ("TLSv1.2", "TLSv1.3")


def test_a_wrong_name_or_authority_is_refused() -> None:
    """The same handshake fails for a name that is not in the certificate, and for another authority."""
    authority = Authority.create()
    server = authority.server_context(["127.16.0.9"])
    for ca_pem, name in ((authority.ca_pem, "127.16.0.10"), (Authority.create().ca_pem, "127.16.0.9")):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server, ca_pem, name, ssl.TLSVersion.TLSv1_2)


def test_the_authority_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """Modules read the trust bundle once, so a restarted hub must have the same root (ref 1.4)."""
    first = Authority.open(tmp_path, NOW)
    assert Authority.open(tmp_path, NOW).ca_pem == first.ca_pem
    assert (tmp_path / "ca.pem").read_text() == first.ca_pem


@pytest.mark.parametrize("days", [-RENEW_BEFORE.days + 1, 1])
def test_an_expiring_authority_is_replaced(tmp_path: Path, days: int) -> None:
    """Open replaces an authority close to its end, and one whose validity has ended."""
    first = Authority.open(tmp_path, NOW)
    end = x509.load_pem_x509_certificate(first.ca_pem.encode()).not_valid_after_utc
    assert Authority.open(tmp_path, end - RENEW_BEFORE - timedelta(days=1)).ca_pem == first.ca_pem
    assert Authority.open(tmp_path, end + timedelta(days=days)).ca_pem != first.ca_pem


@pytest.mark.parametrize("damaged", ["ca.pem", "ca.key"])
def test_a_damaged_authority_is_replaced(tmp_path: Path, damaged: str) -> None:
    """Open replaces an unreadable file, and a key that belongs to another certificate."""
    first = Authority.open(tmp_path, NOW)
    (tmp_path / damaged).write_text("nonsense")
    second = Authority.open(tmp_path, NOW)
    assert second.ca_pem != first.ca_pem
    (tmp_path / "ca.pem").write_text(first.ca_pem)
    assert Authority.open(tmp_path, NOW).ca_pem not in (first.ca_pem, second.ca_pem)


def test_private_keys_are_private(tmp_path: Path) -> None:
    """The key file has mode 0600, also when it replaces a readable file; no repr shows the key."""
    authority = Authority.open(tmp_path, NOW)
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    assert "key" not in repr(authority)
    (tmp_path / "open").touch(mode=0o644)
    write_private(tmp_path / "open", "secret")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o600
