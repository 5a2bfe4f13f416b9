"""The errors of failed requests to a hub: the real SDK against real sockets."""

import gc
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

import pytest

from twinship.fleet import FleetError, service
from twinship.fleet.connection import Connection, NotConfigured
from twinship.fleet.methods import invoke
from twinship.fleet.service import HubRefused, HubUnavailable, NotFound, PreconditionFailed, ServiceHub
from twinship.simulator.certificates import Authority

ENDED_WITHIN_S = 10.0
KEY = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture(scope="module")
def authority() -> Authority:
    """A CA that is not trusted by default."""
    return Authority.create()


class Server(ThreadingHTTPServer):
    """A server that ignores clients that refuse its certificate or close the connection."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing."""


class Served:
    """A TLS server on loopback that answers every request in the same way, and records the requests.

    `ended` gets the number of requests of each connection when it ends.
    """

    def __init__(self, authority: Authority, folder: Path, answer: Answer) -> None:
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.ended: SimpleQueue[int] = SimpleQueue()
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            taken = 0

            def finish(self) -> None:
                super().finish()
                served.ended.put(self.taken)

            def handle_any(self) -> None:
                served.requests.append((self.command, self.path, dict(self.headers)))
                self.taken += 1
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            do_GET = do_PUT = do_PATCH = do_POST = handle_any

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.socket = authority.server_context(["127.0.0.1"]).wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        ca = folder / "ca.pem"
        ca.write_text(authority.ca_pem)
        self.connection = Connection(f"127.0.0.1:{self.server.server_port}", "iothubowner", KEY, ca)


@contextmanager
def serving(authority: Authority, folder: Path, answer: Answer) -> Iterator[Served]:
    """Serve until the `with` block ends."""
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
    """An answer with this status and JSON body."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        content = json.dumps(body).encode()
        request.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(content)

    return answer


def error_line(connection: Connection, kind: type[FleetError]) -> str:
    """The error of reading a twin: one line without the key."""
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
        (403, HubRefused, "does not allow this for policy iothubowner (403: ErrorCode:"),
        (404, NotFound, "module twinship/inference is not on 127.0.0.1"),
        (412, PreconditionFailed, "someone else changed module twinship/inference (412)"),
        (413, HubRefused, "refuses this for module twinship/inference (413: ErrorCode:"),
        (429, HubUnavailable, "is busy or has an error (429: ErrorCode:"),
        (500, HubUnavailable, "is busy or has an error (500: ErrorCode:"),
        (503, HubUnavailable, "is busy or has an error (503: ErrorCode:"),
    ],
)
def test_every_status_is_a_one_line_error(
    authority: Authority, tmp_path: Path, code: int, kind: type[FleetError], text: str
) -> None:
    """The error has the status and the cure; the request is not repeated."""
    with serving(authority, tmp_path, status(code, UNAUTHORIZED, **{"Retry-After": "1"})) as served:
        line = error_line(served.connection, kind)
        assert text in line
        assert "abc" not in line
        assert len(served.requests) == 1


def test_404_of_a_method_distinguishes_a_missing_module_from_one_that_is_offline(
    authority: Authority, tmp_path: Path
) -> None:
    """A direct method has two kinds of 404, with different cures."""
    offline = {"Message": json.dumps({"errorCode": 404103, "message": "Timed out"})}
    with (
        serving(authority, tmp_path, status(404, offline)) as served,
        ServiceHub(served.connection) as hub,
        pytest.raises(HubUnavailable, match=r"d/m is not connected.*twinship status"),
    ):
        invoke(hub, "d", "m", "rollback")


@pytest.mark.parametrize("body", ["text", None, [], {"Message": {"a": 1}}, 7])
def test_an_error_without_an_error_document_is_one_line(
    authority: Authority, tmp_path: Path, body: object
) -> None:
    """The error has the status only."""
    with serving(authority, tmp_path, status(400, body)) as served:
        assert "refuses this for module twinship/inference (400" in error_line(served.connection, HubRefused)


@pytest.mark.parametrize("body", ["text", [], {"properties": 7}])
def test_a_malformed_twin_is_a_one_line_error(authority: Authority, tmp_path: Path, body: object) -> None:
    """The error of the SDK becomes a FleetError."""
    with serving(authority, tmp_path, status(200, body)) as served:
        assert "cannot be parsed" in error_line(served.connection, HubRefused)


def test_an_etag_is_sent_in_quotes_and_the_token_names_the_port(authority: Authority, tmp_path: Path) -> None:
    """If-Match makes a write safe (ref 5.1)."""
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


def test_a_closed_port_is_reported_at_once(tmp_path: Path) -> None:
    """The SDK alone takes five seconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    assert "cannot be reached; cure: start the simulator" in error_line(
        Connection(host, "p", KEY), HubUnavailable
    )
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("stage", ["TLS", "HTTP"])
def test_a_hub_that_never_answers_ends_in_time(
    authority: Authority, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends nothing, before or after the TLS handshake, costs at most two time-outs."""
    assert service.CONNECT_TIMEOUT_S + service.READ_TIMEOUT_S <= 15
    monkeypatch.setattr(service, "CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setattr(service, "READ_TIMEOUT_S", 0.2)
    finished = threading.Event()
    if stage == "TLS":
        with socket.create_server(("127.0.0.1", 0)) as silent:
            connection = Connection(f"127.0.0.1:{silent.getsockname()[1]}", "p", KEY)
            assert "does not answer" in error_line(connection, HubUnavailable)
        return

    def no_answer(request: BaseHTTPRequestHandler) -> None:
        finished.wait(10)

    with serving(authority, tmp_path, no_answer) as served:
        line = error_line(served.connection, HubUnavailable)
        finished.set()
        assert "does not answer" in line


def test_an_untrusted_certificate_names_the_variable(authority: Authority, tmp_path: Path) -> None:
    """The simulator makes a new CA at each start; with an old one, the error names REQUESTS_CA_BUNDLE."""
    (tmp_path / "other.pem").write_text(Authority.create().ca_pem)
    with serving(authority, tmp_path, status(200, {})) as served:
        for bundle in (None, tmp_path / "other.pem"):
            connection = Connection(served.connection.host, "p", KEY, bundle)
            assert "is not trusted; cure: REQUESTS_CA_BUNDLE" in error_line(connection, NotConfigured)
        assert served.requests == []


def test_a_port_without_tls_is_reported() -> None:
    """A wrong port is often one for plain HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            peer, _ = plain.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        host = f"127.0.0.1:{plain.getsockname()[1]}"
        assert "the TLS handshake with" in error_line(Connection(host, "p", KEY), HubUnavailable)
        thread.join()


def test_a_loopback_hub_is_reached_without_a_proxy(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy cannot reach loopback addresses, so the shell's proxy variables are ignored."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(authority, tmp_path, status(200, {})) as served, ServiceHub(served.connection) as hub:
        assert hub.module_twin("d", "m").desired == {}


@pytest.mark.parametrize("code", [200, 429])
def test_the_requests_share_a_connection_that_is_closed_at_once(
    authority: Authority, tmp_path: Path, code: int
) -> None:
    """Each client of the SDK, for devices and for deployments, has one. No garbage is collected meanwhile."""
    gc.disable()
    try:
        with serving(authority, tmp_path, status(code, [])) as served:
            with ServiceHub(served.connection) as hub:
                for read in (lambda: hub.modules("d"), lambda: hub.modules("e"), hub.configurations):
                    with suppress(HubUnavailable):
                        read()
            assert sorted(served.ended.get(timeout=ENDED_WITHIN_S) for _ in range(2)) == [1, 2]
            assert len(served.requests) == 3
    finally:
        gc.enable()


def test_a_name_that_iot_hub_does_not_allow_is_not_sent(authority: Authority, tmp_path: Path) -> None:
    """A slash in a name would address another resource."""
    with serving(authority, tmp_path, status(200, {})) as served, ServiceHub(served.connection) as hub:
        for device in ("", "a b", "ä", "x" * 129):
            with pytest.raises(NotConfigured, match="does not allow the name"):
                hub.modules(device)
        assert served.requests == []


def test_no_sdk_is_loaded_before_the_first_request() -> None:
    """Help, keys and --print start quickly, and work if azure-iot-hub has no wheel."""
    modules = "blob_store connection deploy keys monitor publish service status"
    code = f"import sys\nfor name in {modules.split()!r}: __import__('twinship.fleet.' + name)\n"
    code += (
        "print([name for name in ('azure', 'uamqp', 'msrest', 'requests', 'numpy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_ssl_is_real(authority: Authority, tmp_path: Path) -> None:
    """Counter-proof: a client that does not trust the CA cannot connect to the server of these tests."""
    with serving(authority, tmp_path, status(200, {})) as served:
        host, port = served.connection.host.split(":")
        with socket.create_connection((host, int(port))) as raw, pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(raw, server_hostname=host)
