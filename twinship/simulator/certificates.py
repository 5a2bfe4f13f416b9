"""The certificate authority of the simulator, made with trustme.

The authority stays in the simulator's private folder: modules outlive a killed hub, read the trust bundle
once (ref 1.4) and must trust the next hub too. Private keys are only in files of mode 0600.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from twinship.simulator.common.private_files import write_private

logger = logging.getLogger(__name__)

RENEW_BEFORE = timedelta(days=30)


class Authority:
    """A root certificate and the key that signs server certificates.

    >>> authority = Authority.create()
    >>> context = authority.server_context(["127.0.0.1", "hub.example"])
    >>> context.minimum_version.name
    'TLSv1_2'
    """

    def __init__(self, ca: trustme.CA) -> None:
        self._ca = ca

    @classmethod
    def create(cls) -> Authority:
        """A new authority, in memory only."""
        return cls(trustme.CA(organization_name="Twinship", organization_unit_name="Twinship simulator root"))

    @classmethod
    def open(cls, folder: Path, now: datetime) -> Authority:
        """The authority in `folder` (ca.pem, ca.key). A missing, damaged or expiring one is replaced."""
        authority = cls._load(folder, now)
        if authority is None:
            authority = cls.create()
            write_private(folder / "ca.key", _text(authority._ca.private_key_pem))
            write_private(folder / "ca.pem", authority.ca_pem)
        return authority

    @classmethod
    def _load(cls, folder: Path, now: datetime) -> Authority | None:
        try:
            certificate_pem, key_pem = (folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes()
            certificate = x509.load_pem_x509_certificate(certificate_pem)
            key = load_pem_private_key(key_pem, password=None)
        except (FileNotFoundError, ValueError):
            return None
        if key.public_key() != certificate.public_key():
            return None
        valid = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
        return cls(trustme.CA.from_pem(certificate_pem, key_pem)) if valid else None

    @property
    def ca_pem(self) -> str:
        """The root certificate, which clients must trust."""
        return _text(self._ca.cert_pem)

    def issue(self, names: Sequence[str]) -> tuple[str, str]:
        """Certificate chain and private key, both PEM, for IP addresses and DNS names."""
        leaf = self._issue(names)
        return "".join(map(_text, leaf.cert_chain_pems)) + self.ca_pem, _text(leaf.private_key_pem)

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """A server context for TLS 1.2 and newer with a new certificate; it logs each refused handshake."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # the device SDK supports no newer version (ref 0)
        context.sslobject_class = _LoggedHandshake
        self._issue(names).configure_cert(context)
        return context

    def _issue(self, names: Sequence[str]) -> trustme.LeafCert:
        return self._ca.issue_cert(*names, common_name=names[0][:64])


class _LoggedHandshake(ssl.SSLObject):
    """asyncio drops a connection silently when its handshake fails; this logs the reason in one line."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            logger.info("TLS handshake failed: %s", error)
            raise


def _text(pem: trustme.Blob) -> str:
    return pem.bytes().decode("ascii")
