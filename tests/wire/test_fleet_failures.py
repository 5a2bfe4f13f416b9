"""What an operator reads when a hub does not answer as it should: the real SDK against real sockets."""

import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from twinship.fleet import FleetError, service
from twinship.fleet.connection import Connection, NotConfigured
from twinship.fleet.methods import invoke
from twinship.fleet.service import HubRefused, HubUnavailable, NotFound, PreconditionFailed, ServiceHub
from twinship.simulator.certificates import Authority

KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(scope="module")
def authority() -> Authority:
    """An authority that nobody trusts by default."""
    return Authority.create()


class Server(ThreadingHTTPServer):
    """One whose clients may refuse its certificate or hang up."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing."""


class Served:
    """A TLS server on loopback that gives every request the same answer; remembers what it was asked."""

    def __init__(self, authority: Authority, folder: Path, answer: Answer) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                served.requests.append((self.command, self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            do_GET = do_PUT = do_PATCH = do_POST = handle_any

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.socket = authority.server_context(["127.0.0.1"]).wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        ca = folder / "ca.pem"
        ca.write_text(authority.ca_pem)
        self.connection = Connection(f"127.0.0.1:{self.server.server_port}", "iothubowner", KEY, ca)


@contextmanager
def serving(authority: Authority, folder: Path, answer: Answer) -> Iterator[Served]:
    """Serve until the block ends."""
    served = Served(authority, folder, answer)
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        thread.join()
        served.server.server_close()


def status(code: int, body: object = None, **headers: str) -> Answer:
    """Answers with this status and JSON body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        content = json.dumps(body).encode()
        request.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def complaint(connection: Connection, kind: type[FleetError]) -> str:
    """The one line about a twin that could not be read."""
    with ServiceHub(connection) as hub, pytest.raises(kind) as caught:
        hub.module_twin("twinship", "inference")
    line = str(caught.value)
    assert "\n" not in line
    assert KEY not in line
    assert "sig=" not in line
    return line


UNAUTHORIZED = {
    "Message": "ErrorCode:IotHubUnauthorizedAccess;Unauthorized SharedAccessSignature sr=x&sig=abc"
}


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (
            401,
            HubRefused,
            "does not accept the key of policy iothubowner (401); cure: copy the connection string",
        ),
        (403, HubRefused, "does not let policy iothubowner do this (403: ErrorCode:"),
        (404, NotFound, "module twinship/inference is not on 127.0.0.1"),
        (412, PreconditionFailed, "someone else changed module twinship/inference (412)"),
        (413, HubRefused, "refuses this for module twinship/inference (413: ErrorCode:"),
        (429, HubUnavailable, "is busy or in trouble (429: ErrorCode:"),
        (500, HubUnavailable, "is busy or in trouble (500: ErrorCode:"),
        (503, HubUnavailable, "is busy or in trouble (503: ErrorCode:"),
    ],
)
def test_every_status_is_one_line(
    authority: Authority, tmp_path: Path, code: int, kind: type[FleetError], text: str
) -> None:
    """The status, whose fault, the cure; asked once, since a retry would swallow the hub's own words."""
    with serving(authority, tmp_path, status(code, UNAUTHORIZED, **{"Retry-After": "1"})) as served:
        line = complaint(served.connection, kind)
        assert text in line
        assert "abc" not in line
        assert len(served.requests) == 1


def test_a_module_that_no_method_reaches_is_not_a_module_that_is_not_there(
    authority: Authority, tmp_path: Path
) -> None:
    """404 has two meanings for a direct method, and two cures."""
    offline = {"Message": json.dumps({"errorCode": 404103, "message": "Timed out"})}
    with (
        serving(authority, tmp_path, status(404, offline)) as served,
        ServiceHub(served.connection) as hub,
        pytest.raises(HubUnavailable, match=r"d/m is not connected.*twinship status"),
    ):
        invoke(hub, "d", "m", "rollback")


@pytest.mark.parametrize("body", ["text", None, [], {"Message": {"a": 1}}, 7])
def test_an_answer_of_another_shape_is_one_line(authority: Authority, tmp_path: Path, body: object) -> None:
    """An error without an error document still is the status and no more."""
    with serving(authority, tmp_path, status(400, body)) as served:
        assert "refuses this for module twinship/inference (400" in complaint(served.connection, HubRefused)


@pytest.mark.parametrize("body", ["text", [], {"properties": 7}])
def test_a_twin_that_is_none_is_one_line(authority: Authority, tmp_path: Path, body: object) -> None:
    """Something else answers on that port: the SDK's own error about it becomes ours."""
    with serving(authority, tmp_path, status(200, body)) as served:
        assert "cannot be understood" in complaint(served.connection, HubRefused)


def test_an_etag_travels_in_quotes_and_the_token_names_the_port(authority: Authority, tmp_path: Path) -> None:
    """If-Match is what makes a write safe (ref 5.1)."""
    twin = {
        "etag": "AAAA",
        "properties": {"desired": {"$version": 2}, "reported": {}},
        "connectionState": "Connected",
    }
    with serving(authority, tmp_path, status(200, twin)) as served, ServiceHub(served.connection) as hub:
        found = hub.patch_desired("d", "m", {"model": {"a": None}}, "AAAA")
        assert (found.etag, found.desired, found.connection_state) == ("AAAA", {"$version": 2}, "Connected")
        method, path, headers = served.requests[0]
        assert (method, path.split("?")[0], headers["If-Match"]) == ("PATCH", "/twins/d/modules/m", '"AAAA"')
        assert served.connection.host.replace(":", "%3A") in headers["Authorization"]


def test_a_closed_port_is_said_at_once(tmp_path: Path) -> None:
    """The SDK alone takes five seconds to find out that nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    assert "cannot be reached; cure: start the simulator" in complaint(
        Connection(host, "p", KEY), HubUnavailable
    )
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("stage", ["TLS", "HTTP"])
def test_a_hub_that_never_answers_ends_in_time(
    authority: Authority, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that takes the connection and stays silent, before or after TLS, costs two time-outs at most."""
    assert service.CONNECT_TIMEOUT_S + service.READ_TIMEOUT_S <= 15
    monkeypatch.setattr(service, "CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setattr(service, "READ_TIMEOUT_S", 0.2)
    enough = threading.Event()
    if stage == "TLS":
        with socket.create_server(("127.0.0.1", 0)) as silent:
            connection = Connection(f"127.0.0.1:{silent.getsockname()[1]}", "p", KEY)
            assert "does not answer" in complaint(connection, HubUnavailable)
        return

    def silence(request: BaseHTTPRequestHandler) -> None:
        enough.wait(10)

    with serving(authority, tmp_path, silence) as served:
        line = complaint(served.connection, HubUnavailable)
        enough.set()
        assert "does not answer" in line


def test_an_authority_that_is_not_trusted_names_the_variable(authority: Authority, tmp_path: Path) -> None:
    """The simulator makes a new authority at each start; an old one, or none, is not the network's fault."""
    (tmp_path / "other.pem").write_text(Authority.create().ca_pem)
    with serving(authority, tmp_path, status(200, {})) as served:
        for bundle in (None, tmp_path / "other.pem"):
            connection = Connection(served.connection.host, "p", KEY, bundle)
            assert "is not trusted; cure: REQUESTS_CA_BUNDLE" in complaint(connection, NotConfigured)
        assert served.requests == []


def test_a_port_that_speaks_no_tls_is_named() -> None:
    """A wrong port is often a plain HTTP one."""
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            peer, _ = plain.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        host = f"127.0.0.1:{plain.getsockname()[1]}"
        assert "no TLS with" in complaint(Connection(host, "p", KEY), HubUnavailable)
        thread.join()


def test_a_loopback_hub_is_reached_past_every_proxy(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No proxy can reach this machine's loopback addresses, whatever the shell says."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(authority, tmp_path, status(200, {})) as served, ServiceHub(served.connection) as hub:
        assert hub.module_twin("d", "m").desired == {}


def test_a_name_that_iot_hub_cannot_have_is_not_sent(authority: Authority, tmp_path: Path) -> None:
    """A slash in a name would address something else."""
    with serving(authority, tmp_path, status(200, {})) as served, ServiceHub(served.connection) as hub:
        for device in ("", "a b", "ä", "x" * 129):
            with pytest.raises(NotConfigured, match="no name that IoT Hub allows"):
                hub.modules(device)
        assert served.requests == []


def test_no_sdk_is_loaded_before_a_hub_is_asked() -> None:
    """Help, keys and --print stay quick, and work where azure-iot-hub has no wheel."""
    modules = "connection deploy keys monitor publish service status"
    code = f"import sys\nfor name in {modules.split()!r}: __import__('twinship.fleet.' + name)\n"
    code += (
        "print([name for name in ('azure', 'uamqp', 'msrest', 'requests', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_ssl_is_real(authority: Authority, tmp_path: Path) -> None:
    """The counter-proof: the server of these tests does refuse a client that trusts nobody."""
    with serving(authority, tmp_path, status(200, {})) as served:
        host, port = served.connection.host.split(":")
        with socket.create_connection((host, int(port))) as raw, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(raw, server_hostname=host)
