"""dashboard.settings and .server: TLS, if the files of a certificate are named."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from dashboard.settings import DashboardEnvironment, SettingsError
from tests.unit.dashboard.serving import serving

TOKEN = "correct horse battery"


@dataclass(frozen=True)
class Files:
    """The files of a certificate for 127.0.0.1, and a client's trust in them."""

    folder: Path
    client: ssl.SSLContext

    def environment(self, **changed: str) -> dict[str, str]:
        """The module's variables."""
        named = {"CERTIFICATE": "certificate.pem", "KEY": "key.pem", **changed}
        return {f"DASHBOARD_{name}": str(self.folder / file) for name, file in named.items() if file}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate and its key, and files that are none."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    other = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    contents: Mapping[str, bytes] = {
        "certificate.pem": b"".join(each.bytes() for each in issued.cert_chain_pems),
        "key.pem": issued.private_key_pem.bytes(),
        "other.pem": other.private_key_pem.bytes(),
        "locked.pem": locked,
        "text.pem": b"no certificate\n",
        "empty.pem": b"",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Files(folder, client)


def test_with_a_certificate_the_page_speaks_tls_only_and_its_cookie_is_secure(files: Files) -> None:
    """A browser never sends the cookie in clear text."""
    environment = DashboardEnvironment.read(files.environment())
    assert environment.url == "https://127.0.0.1:8780/"
    with serving(TOKEN, environment.tls) as served:
        connection = HTTPSConnection("127.0.0.1", served.port, timeout=10, context=files.client)
        connection.request("GET", f"/?token={TOKEN.replace(' ', '%20')}")
        answer = connection.getresponse()
        assert answer.status == 303
        assert "Secure" in answer.headers["Set-Cookie"].split("; ")
        connection.close()
        with pytest.raises((HTTPException, OSError)):
            served.get("/")


def test_without_a_certificate_the_page_speaks_http(files: Files) -> None:
    """Counter-proof; a variable that stayed literal is none."""
    literal = {f"DASHBOARD_{name}": f"$DASHBOARD_{name}" for name in ("CERTIFICATE", "KEY")}
    for environment in ({}, literal):
        read = DashboardEnvironment.read(environment)
        assert (read.tls, read.url) == (None, "http://127.0.0.1:8780/")
    with serving(TOKEN) as served:
        cookie = served.get(f"/?token={TOKEN.replace(' ', '%20')}").headers["Set-Cookie"]
        assert "Secure" not in cookie.split("; ")


def test_another_address_needs_a_token_with_tls_too(files: Files, tmp_path: Path) -> None:
    """Encryption says nothing about who reads."""
    more = {"DASHBOARD_LISTEN": "0.0.0.0:8780", "DATA_FOLDER": str(tmp_path)}
    assert DashboardEnvironment.read({**files.environment(), **more}).token


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"KEY": ""}, "DASHBOARD_KEY: missing"),
        ({"CERTIFICATE": ""}, "DASHBOARD_CERTIFICATE: missing"),
        ({"KEY": "none.pem"}, "DASHBOARD_KEY: .*none.pem: No such file"),
        ({"CERTIFICATE": "none.pem"}, "DASHBOARD_CERTIFICATE: .*none.pem: No such file"),
        ({"KEY": "."}, "DASHBOARD_KEY: .*: Is a directory"),
        ({"KEY": "other.pem"}, "DASHBOARD_CERTIFICATE, DASHBOARD_KEY: KEY_VALUES_MISMATCH"),
        ({"KEY": "locked.pem"}, "DASHBOARD_CERTIFICATE, DASHBOARD_KEY: the key has a password"),
        ({"KEY": "text.pem"}, "DASHBOARD_CERTIFICATE, DASHBOARD_KEY: "),
        ({"CERTIFICATE": "text.pem"}, "DASHBOARD_CERTIFICATE, DASHBOARD_KEY: "),
        ({"CERTIFICATE": "empty.pem"}, "DASHBOARD_CERTIFICATE, DASHBOARD_KEY: "),
    ],
)
def test_files_that_cannot_be_used_are_named_with_the_cure(
    files: Files, changed: dict[str, str], named: str
) -> None:
    """In one line, without a question at the terminal and without a byte of the key."""
    with pytest.raises(SettingsError, match=f"^{named}.*cure: ") as caught:
        DashboardEnvironment.read(files.environment(**changed))
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_the_module_ends_with_one_line(files: Files) -> None:
    """Without a page in clear text instead; exit code 1."""
    environment = {**files.environment(KEY="other.pem"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "dashboard"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert (done.returncode, len([each for each in lines if "KEY_VALUES_MISMATCH" in each])) == (1, 1)
    assert not [each for each in lines if "Traceback" in each]
