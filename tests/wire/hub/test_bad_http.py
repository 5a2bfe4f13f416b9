"""Requests that are not HTTP, or end early, or forge log lines: one line each, and no traceback."""

from __future__ import annotations

import json
import resource
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.hub_under_test import REST_PORT, HubUnderTest, running_hub, wait_for
from twinship.simulator import sas
from twinship.simulator.hub import MAX_DESCRIPTORS

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUnderTest]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        running.deploy("sender")
        yield running


def authorization(hub: HubUnderTest) -> bytes:
    """The header with the service's token."""
    env = dict(line.split("=", 1) for line in (hub.folder / "service.env").read_text().splitlines())
    parts = dict(part.split("=", 1) for part in env["IOTHUB_CONNECTION_STRING"].split(";"))
    expiry, policy = int(time.time()) + 60, parts["SharedAccessKeyName"]
    token = sas.sign(parts["SharedAccessKey"], parts["HostName"], expiry, policy)
    return f"Authorization: {token}\r\n".encode()


def sent(hub: HubUnderTest, data: bytes, *, answered: bool = True) -> tuple[bytes, list[str]]:
    """The status line for these bytes, and the new lines of the log."""
    before = len(hub.log())
    context = ssl.create_default_context(cafile=str(hub.folder / "ca.pem"))
    plain = socket.create_connection((hub.hub_address, REST_PORT), timeout=30)
    with context.wrap_socket(plain, server_hostname=hub.hub_address) as connection:
        connection.sendall(data)
        status = connection.recv(65536).partition(b"\r\n")[0] if answered else b""
    wait_for(lambda: len(hub.log()) > before, "a line in the log")
    return status, hub.log()[before:].splitlines()


def request(hub: HubUnderTest, path: bytes, body: bytes, length: int | None = None) -> bytes:
    """A POST with the service's token."""
    head = b"POST %s?api-version=1 HTTP/1.1\r\nHost: hub\r\n" % path + authorization(hub)
    return head + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


def test_a_path_forges_no_log_line(hub: HubUnderTest) -> None:
    """Line breaks and separators are escaped."""
    path = b"/devices/x%0a2026-01-01%2000:00:00,000%20INFO%20forged%1b%5b31m"
    status, lines = sent(hub, request(hub, path, b"{}"))
    assert status.startswith(b"HTTP/1.1 404")
    (line,) = lines
    assert "x\\n2026-01-01 00:00:00,000 INFO forged\\x1b[31m" in line


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\0 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % number for number in range(1500)) + b"\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: [\r\n\r\n",
    ],
    ids=["nul", "long header", "many headers", "length", "chunk", "address"],
)
def test_what_is_not_http_is_one_line(hub: HubUnderTest, data: bytes) -> None:
    """And is answered with 400.

    All of it fits into one TLS record, because the hub closes after its answer, and what is still being sent
    then fails.
    """
    status, lines = sent(hub, data)
    assert status.split()[1] == b"400"
    assert not any("Traceback" in line for line in lines)
    assert len(lines) == 1


def test_a_connection_that_ends_inside_the_body_is_one_line(hub: HubUnderTest) -> None:
    """The hub waits for the rest and says why it stopped."""
    _, lines = sent(hub, request(hub, b"/devices", b"[", length=99_999_999_999), answered=False)
    assert len(lines) == 1
    assert "the connection ended inside the body" in lines[0]


def test_a_lone_surrogate_in_a_payload_is_no_failure_of_the_hub(hub: HubUnderTest) -> None:
    """The module is not connected, and the answer says so."""
    body = json.dumps({"methodName": "a", "payload": "\ud800"}).encode()
    status, lines = sent(hub, request(hub, b"/twins/edge/modules/sender/methods", body))
    assert status.startswith(b"HTTP/1.1 404")
    assert not any("Traceback" in line for line in lines)


def test_a_long_query_is_refused_at_once(hub: HubUnderTest) -> None:
    """One line with the limit."""
    query = "SELECT * FROM devices WHERE a = 1" + " OR a = 1" * 100_000
    status, lines = sent(hub, request(hub, b"/devices/query", json.dumps({"query": query}).encode()))
    assert status.startswith(b"HTTP/1.1 400")
    assert "at most 8192" in lines[-1]


def test_the_hub_takes_as_many_connections_as_this_user_may_have_files(tmp_path: Path) -> None:
    """The soft limit, usually 1024, could be used up by one program's idle connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 500), hard))
    try:
        with running_hub(tmp_path) as running:
            limits = Path(f"/proc/{running.endpoints()['pid']}/limits").read_text().splitlines()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = next(int(line.split()[3]) for line in limits if line.startswith("Max open files"))
    assert found == (MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS))


def test_a_hub_that_stops_leaves_no_temporary_folder(tmp_path: Path) -> None:
    """The folder of its sockets goes with it."""
    with running_hub(tmp_path) as running:
        running.deploy("sender")
        sockets = Path(running.endpoints()["socket_folder"])
        assert sockets.is_dir()
    assert not sockets.exists()
