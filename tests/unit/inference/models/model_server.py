"""A TLS server for models, whose answer to a request is a function that the test chooses."""

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from twinship.simulator.certificates import Authority

Request = BaseHTTPRequestHandler
Answer = Callable[[Request], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may refuse the certificate or hang up."""


@dataclass
class ModelServer:
    """`with` starts it. `answer` may be changed at any time; `requests` holds the headers of all requests."""

    folder: Path
    answer: Answer
    names: tuple[str, ...] = ("127.0.0.1", "localhost")
    address: str = "127.0.0.1"
    requests: list[dict[str, str]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)  # releases answers that wait

    def __enter__(self) -> "ModelServer":
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                self.request.do_handshake()
                super().setup()

            def do_GET(self) -> None:
                served.requests.append({**self.headers, ":path": self.path})
                self.close_connection = True
                served.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Writes no log."""

        authority = Authority.create()
        self.ca_pem = self.folder / "source-ca.pem"
        self.ca_pem.write_text(authority.ca_pem)
        context: ssl.SSLContext = authority.server_context(list(self.names))
        self._server = _Server((self.address, 0), Handler)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def uri(self, path: str = "/models/tiny.tflite?sig=s3cret", name: str = "") -> str:
        """The address of a model on it."""
        return f"https://{name or self.address}:{self._server.server_address[1]}{path}"


def begin(request: Request, status: int = 200, **headers: object) -> None:
    """Status line and headers; Content_Length is Content-Length."""
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), str(value))
    request.end_headers()


def whole(data: bytes, etag: str = '"one"') -> Answer:
    """Answer correctly, with ranges and If-Range."""

    def answer(request: Request) -> None:
        wanted = request.headers.get("Range")
        if wanted and request.headers.get("If-Range") == etag:
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            of = f"bytes {first}-{len(data) - 1}/{len(data)}"
            begin(request, 206, Content_Length=len(data) - first, Content_Range=of, ETag=etag)
            request.wfile.write(data[first:])
        else:
            begin(request, Content_Length=len(data), ETag=etag)
            request.wfile.write(data)

    return answer


def cut(data: bytes, after: int, etag: str = '"one"') -> Answer:
    """Break the connection after so many bytes, whatever Content-Length is."""

    def answer(request: Request) -> None:
        begin(request, Content_Length=len(data), ETag=etag)
        request.wfile.write(data[:after])

    return answer


def only(status: int, **headers: object) -> Answer:
    """Answer with a status and an HTML page."""

    def answer(request: Request) -> None:
        begin(request, status, Content_Length=5, **headers)
        request.wfile.write(b"sorry")

    return answer
