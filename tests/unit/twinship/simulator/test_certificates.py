"""The simulator's certificate authority: real TLS handshakes that succeed, and fail where they must."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from twinship.simulator.certificates import LIFETIME, RENEW_BEFORE, Authority, write_private

NOW = datetime.now(UTC)


def handshake(server: ssl.SSLContext, ca_pem: str, name: str, version: ssl.TLSVersion) -> str | None:
    """Shake hands in memory; returns the TLS version. Raises ssl.SSLError as a client would see it."""
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
    """By IP address and by name, with the device SDK's TLS 1.2 and with anything newer (ref 0)."""
    authority = Authority.create(NOW)
    server = authority.server_context(["127.16.0.9", "gateway.example"])
    assert handshake(server, authority.ca_pem, name, version) in ("TLSv1.2", "TLSv1.3")


def test_a_wrong_name_or_authority_is_refused() -> None:
    """The same handshake fails for a name that is not in the certificate, and for another authority."""
    authority = Authority.create(NOW)
    server = authority.server_context(["127.16.0.9"])
    for ca_pem, name in ((authority.ca_pem, "127.16.0.10"), (Authority.create(NOW).ca_pem, "127.16.0.9")):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server, ca_pem, name, ssl.TLSVersion.TLSv1_2)


def test_the_authority_outlives_the_process(tmp_path: Path) -> None:
    """Modules read the trust bundle once: a killed hub must come back with the same root (ref 1.4)."""
    first = Authority.open(tmp_path, NOW)
    assert Authority.open(tmp_path, NOW).ca_pem == first.ca_pem
    assert (tmp_path / "ca.pem").read_text() == first.ca_pem


@pytest.mark.parametrize("after", [LIFETIME - RENEW_BEFORE + timedelta(days=1), -timedelta(days=1)])
def test_an_old_authority_is_replaced(tmp_path: Path, after: timedelta) -> None:
    """Near its end, or when the clock has gone back before its beginning, there is a new one."""
    first = Authority.open(tmp_path, NOW)
    assert Authority.open(tmp_path, NOW + after).ca_pem != first.ca_pem


@pytest.mark.parametrize("damaged", ["ca.pem", "ca.key"])
def test_a_damaged_authority_is_replaced(tmp_path: Path, damaged: str) -> None:
    """Half an authority is none; so is a key that belongs to another certificate."""
    first = Authority.open(tmp_path, NOW)
    (tmp_path / damaged).write_text("nonsense")
    second = Authority.open(tmp_path, NOW)
    assert second.ca_pem != first.ca_pem
    (tmp_path / "ca.pem").write_text(first.ca_pem)
    assert Authority.open(tmp_path, NOW).ca_pem not in (first.ca_pem, second.ca_pem)


def test_private_keys_are_private(tmp_path: Path) -> None:
    """The key's file is its owner's alone, also when it replaces one that was not; no repr shows it."""
    authority = Authority.open(tmp_path, NOW)
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600
    assert "key" not in repr(authority)
    (tmp_path / "open").touch(mode=0o644)
    write_private(tmp_path / "open", "secret")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o600
