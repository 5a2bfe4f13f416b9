"""A section with an https address: the real reconciler, a real download, a server on loopback."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inference.model_section import ModelState, section_at
from inference.models.download import FetchSettings
from inference.models.store import ModelStore
from tests.models import tiny_artefact
from tests.unit.inference.fixtures.device import BLIND, PROVING, Device, Publisher, eventually
from tests.unit.inference.models.model_server import ModelServer, Request, only, whole

OURS, THEIRS = Publisher(1), Publisher(2)
S = ModelState
DATA = tiny_artefact()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    with ModelServer(tmp_path, whole(DATA)) as serving:
        yield serving


@pytest.fixture
def device(server: ModelServer, tmp_path: Path) -> Iterator[Device]:
    """A device that trusts the server, which is on loopback."""
    fetch = FetchSettings(frozenset({"loopback"}), {"SSL_CERT_FILE": str(server.ca_pem)})
    settings = replace(BLIND, fetch=fetch, retry_first_s=0.01, retry_cap_s=0.05)
    with Device(tmp_path / "data", settings=settings) as started:
        yield started


def at(server: ModelServer, publisher: Publisher = OURS, version: str = "1.0.0") -> dict[str, Any]:
    """The section for a tiny model at the server's address."""
    return section_at(publisher.ref(tiny_artefact(version=version), version=version), server.uri())


def test_a_model_at_an_address_is_installed(server: ModelServer, tmp_path: Path) -> None:
    """It is downloaded, proved, loaded and stored."""
    fetch = FetchSettings(frozenset({"loopback"}), {"SSL_CERT_FILE": str(server.ca_pem)})
    with Device(tmp_path / "data", settings=replace(PROVING, fetch=fetch)) as device:
        device.install(at(server))
        assert device.active() == "1.0.0"
    assert list((tmp_path / "data" / "models").iterdir()) == [
        tmp_path / "data" / "models" / f"{hashlib.sha256(DATA).hexdigest()}.tflite"
    ]


def test_no_request_is_sent_for_an_unknown_key(device: Device, server: ModelServer) -> None:
    """The signature is verified before the download."""
    device.section(at(server, THEIRS))
    assert device.until(S.REFUSED)["error"]["code"] == "unknown-key"
    assert not server.requests


def test_a_stored_model_is_not_downloaded_again_unless_its_file_is_damaged(
    device: Device, server: ModelServer
) -> None:
    """Going back needs no network; a damaged file is downloaded again."""
    device.install(at(server))
    server.answer = whole(tiny_artefact(version="2.0.0"))
    device.install(at(server, version="2.0.0"))
    asked = len(server.requests)
    device.install(at(server))
    assert len(server.requests) == asked
    device.install(at(server, version="2.0.0"))
    path = ModelStore(device.folder).path(hashlib.sha256(DATA).hexdigest())
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    server.answer = whole(DATA)
    device.install(at(server))
    assert len(server.requests) == asked + 1
    assert path.read_bytes() == DATA


def test_a_download_from_a_failing_server_is_retried(device: Device, server: ModelServer) -> None:
    """Unavailable is not refused; no report shows the secret of the address."""
    server.answer = only(503)
    device.section(at(server))
    assert device.until(S.UNAVAILABLE)["error"]["code"] == "source-unavailable"
    server.answer = whole(DATA)
    device.until(S.PROBATION)
    assert "s3cret" not in str(device.patches)


def test_a_missing_file_is_requested_once(device: Device, server: ModelServer) -> None:
    """404 is the fault of the section, so it is not polled."""
    server.answer = only(404)
    device.section(at(server))
    assert device.until(S.REFUSED)["error"]["code"] == "source-missing"
    assert len(server.requests) == 1
    server.answer = whole(DATA)
    device.section({**at(server), "attempt": 2})
    device.until(S.PROBATION)


def test_a_newer_section_ends_the_download(device: Device, server: ModelServer) -> None:
    """It does not wait for a server that sends nothing."""

    def waits(request: Request) -> None:
        server.ended.wait(60)

    server.answer = waits
    device.section(at(server))
    eventually(lambda: server.requests)
    device.section(OURS.section("3.0.0"))
    device.until(S.PROBATION)
    assert device.active() == "3.0.0"
    assert not server.ended.is_set()
