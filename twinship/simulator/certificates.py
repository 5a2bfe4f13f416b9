"""A certificate authority of the simulator's own, for its listeners' TLS names. Serves nothing.

It is kept in the simulator's private folder, so that modules that outlive a killed hub go on trusting the
next one (the SDK reads the trust bundle once, ref 1.4), and made anew when it is about to expire. Private
keys are in files of mode 0600 and nowhere else.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Authority:
    """The root certificate, and the key that signs others."""

    certificate: x509.Certificate
    key: Key = field(repr=False)
    now: datetime

    @classmethod
    def create(cls, now: datetime) -> Authority:
        """A new root; `now` must carry its time zone."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Twinship simulator root")
        builder = _builder(name, name, key.public_key(), now, key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        return cls(
            builder.add_extension(_usage(signs_certificates=True), critical=True).sign(key, hashes.SHA256()),
            key,
            now,
        )

    @classmethod
    def open(cls, folder: Path, now: datetime) -> Authority:
        """The root kept in `folder` (ca.pem and ca.key); a new one for none, a bad or an old one."""
        kept = cls._kept(folder, now)
        if kept is None:
            kept = cls.create(now)
            write_private(folder / "ca.key", _pem(kept.key))
            (folder / "ca.pem").write_text(kept.ca_pem, encoding="ascii")
        return kept

    @classmethod
    def _kept(cls, folder: Path, now: datetime) -> Authority | None:
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
            key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(key, Key) or key.public_key() != certificate.public_key():
            return None
        lasts = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
        return cls(certificate, key, now) if lasts else None

    @property
    def ca_pem(self) -> str:
        """The root certificate: what clients must trust."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def issue(self, names: Sequence[str]) -> tuple[str, str]:
        """Certificate chain and private key, both PEM, for IP addresses and DNS names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(
            _name(names[0]), self.certificate.subject, key.public_key(), self.now, self.key.public_key()
        )
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )
        chain = certificate.public_bytes(serialization.Encoding.PEM).decode("ascii") + self.ca_pem
        return chain, _pem(key)

    def server_context(self, names: Sequence[str]) -> ssl.SSLContext:
        """A TLS context, 1.2 and up, that serves a fresh certificate for these names."""
        chain, key = self.issue(names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # the device SDK speaks nothing newer (ref 0)
        # load_cert_chain reads files only, so the key passes through one of mode 0600 and is gone again
        with tempfile.TemporaryDirectory(prefix="twinship-") as folder:
            file = Path(folder) / "server.pem"
            write_private(file, key + chain)
            context.load_cert_chain(file)
        return context


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on; replaces what was there."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime,
    signer: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: Key) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")
