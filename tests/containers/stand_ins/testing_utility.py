"""Stand-in for azureiotedge-testing-utility: sends what is posted as module `input`, prints what it gets."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from azure.iot.device import IoTHubModuleClient, Message

PORT = 3000

client = IoTHubModuleClient.create_from_edge_environment()


class Handler(BaseHTTPRequestHandler):
    """POST /api/v1/messages {"inputName": …, "data": …}, as `iotedgehubdev start` prints it."""

    def do_POST(self) -> None:
        """Send `data` to the output that has the input's name."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = Message(asked["data"])  # type: ignore[no-untyped-call]
        client.send_message_to_output(message, asked["inputName"])
        self.send_response(202)
        self.end_headers()


def say(**fields: str | None) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def show(message: Message) -> None:
    """Print a message of the target module."""
    data = message.data.decode("utf-8", "backslashreplace")
    say(input=message.input_name, data=data)


if __name__ == "__main__":
    client.on_message_received = show
    client.connect()
    say(event="connected")
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
