"""The tools of the images: pinning the base, and the bill of materials."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.tools.pin_base import NoDigest, digest, pin
from tests.tools.sbom import bill

DIGEST = "sha256:" + "ab" * 32
KNOWN = "/v2/library/python/manifests/3.11-slim-bookworm"
TEXT = "# a comment\nARG BASE=python:3.11-slim-bookworm\nFROM ${BASE}\n"


class Registry(BaseHTTPRequestHandler):
    """Knows one image."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == KNOWN else 404)
        if "index" in self.headers["Accept"]:
            self.send_header("Docker-Content-Digest", DIGEST)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def registry() -> Iterator[str]:
    """The address of a registry on loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_every_dockerfile_gets_the_digest_of_the_registry(tmp_path: Path) -> None:
    """A second run renews the digest, and other lines stay."""
    file = tmp_path / "Dockerfile.amd64"
    file.write_text(TEXT)
    with registry() as address:
        for _ in range(2):
            assert pin([file], partial(digest, registry=address)) == [f"python:3.11-slim-bookworm@{DIGEST}"]
    assert file.read_text() == TEXT.replace("bookworm\n", f"bookworm@{DIGEST}\n")


def test_no_file_changes_if_a_base_is_unknown(tmp_path: Path) -> None:
    """The error names the image."""
    files = [tmp_path / "a", tmp_path / "b"]
    files[0].write_text(TEXT)
    files[1].write_text(TEXT.replace("python:3.11", "python:3.99"))
    with registry() as address, pytest.raises(NoDigest, match=r"python:3\.99-slim-bookworm"):
        pin(files, partial(digest, registry=address))
    assert files[0].read_text() == TEXT


def test_the_bill_of_materials_names_every_distribution() -> None:
    """With package URL, and the licence where the metadata has one."""
    listed: list[dict[str, str | None]] = [
        {"name": "Pillow", "version": "13.0.0", "license": "MIT-CMU"},
        {"name": "six", "version": "1", "license": None},
    ]
    found = bill("registry.local:5000/inference:0.2.0-amd64", listed)
    assert found["metadata"]["component"] == {
        "type": "container",
        "name": "registry.local:5000/inference",
        "version": "0.2.0-amd64",
    }
    assert [each["purl"] for each in found["components"]] == ["pkg:pypi/pillow@13.0.0", "pkg:pypi/six@1"]
    assert [each.get("licenses") for each in found["components"]] == [[{"expression": "MIT-CMU"}], None]
