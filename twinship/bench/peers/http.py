"""`python -m twinship.bench.peers.http MODEL`: the classifier of the common samples, a small HTTP server.

It answers each POST of a picture with the label. The samples use Flask, whose own server is built on the
standard library's; this one has no Flask around it, so it is rather too fast than too slow.
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
    """Write the port to stdout, then serve until the process is killed."""
    engine = Engine(read(Path(sys.argv[1]).read_bytes()))
    engine.warm()

    class Classifier(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            scores = engine.infer(prepare(decode_file(body, engine.input), engine.input))
            answer = json.dumps({"label": engine.labels[int(scores.argmax())]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing: a log line for each frame would be measured too."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Classifier) as server:
        print(server.server_address[1], flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
