"""A network camera for the tests: multipart/x-mixed-replace by HTTP, which can be cut and frozen."""

import io
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


class MjpegServer:
    """`interval_s` between two pictures; no picture comes while `frozen` is set.

    It sends the JPEG `pictures` in a loop; without them it draws small ones.
    """

    def __init__(self, interval_s: float = 0.03, pictures: Sequence[bytes] = ()) -> None:
        self.interval_s = interval_s
        self._pictures = pictures
        self.frozen = threading.Event()
        self.paths: list[str] = []
        self.authorization: list[str | None] = []
        self.redirect_to = ""
        self.demands_login = False
        self.cut = threading.Event()  # every connection ends
        self.port = 0
        self.scheme = "http"

    @property
    def url(self) -> str:
        """The address of the stream."""
        return f"{self.scheme}://127.0.0.1:{self.port}/mjpeg"

    @contextmanager
    def serving(self, context: ssl.SSLContext | None = None) -> Iterator["MjpegServer"]:
        """Serve, on the same port if it served before."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            """Answers a GET with a stream or a redirect."""

            def do_GET(self) -> None:
                """Of http.server."""
                owner.paths.append(self.path)
                owner.authorization.append(self.headers.get("Authorization"))
                if owner.demands_login and not self.headers.get("Authorization"):
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if owner.redirect_to:
                    self.send_response(302)
                    self.send_header("Location", owner.redirect_to)
                    self.end_headers()
                    return
                owner.stream(self)

            def log_message(self, *_arguments: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            """Does not print the errors of connections that a client closes."""

            daemon_threads = True

            def handle_error(self, *_arguments: object) -> None:
                """Nothing."""

        self.cut.clear()
        with Server(("127.0.0.1", self.port), Handler) as server:
            if context is not None:
                self.scheme = "https"
                server.socket = context.wrap_socket(server.socket, server_side=True)
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield self
            finally:
                self.cut.set()
                server.shutdown()
                thread.join()

    def stream(self, handler: BaseHTTPRequestHandler) -> None:
        """Send pictures until the connection is cut."""
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        handler.end_headers()
        number = 0
        while not self.cut.wait(self.interval_s):
            if self.frozen.is_set():
                continue
            body = self._picture(number)
            handler.wfile.write(
                b"--next\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            handler.wfile.write(body + b"\r\n")
            number += 1

    def _picture(self, number: int) -> bytes:
        if self._pictures:
            return self._pictures[number % len(self._pictures)]
        buffer = io.BytesIO()
        Image.new("RGB", (96, 64), (number % 256, 90, 90)).save(buffer, "JPEG")
        return buffer.getvalue()
