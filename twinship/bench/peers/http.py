"""`python -m twinship.bench.peers.http FOLDER MODEL`: the classifier of the common samples, a small HTTP server.

A picture is POSTed, its label is the answer. The samples use Flask, whose own server is built on the standard
library's; here it is that one without Flask around it, so what is measured is rather too quick.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from inference.artefact import read
from inference.engine import Engine
from inference.frames.preprocess import decode_file, prepare


def main() -> None:
    """Write the port into FOLDER/port, then answer until killed."""
    folder, model = Path(sys.argv[1]), Path(sys.argv[2])
    engine = Engine(read(model.read_bytes()))
    engine.warm()

    class Classifier(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            scores = engine.infer(prepare(decode_file(body), engine.input))
            answer = json.dumps({"label": engine.labels[int(scores.argmax())]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *words: object) -> None:
            """Says nothing: a log line for each frame is no part of the path."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Classifier) as server:
        beside = folder / "port.new"
        beside.write_text(str(server.server_address[1]))
        beside.replace(folder / "port")
        server.serve_forever()


if __name__ == "__main__":
    main()
