"""`python -m twinship.bench.scenarios.delay.cloud`: the cloud side of scenario `delay`.

It reads the messages that arrive at IoT Hub, classifies each frame with the inference module's code, and
calls the sender's direct method `answer`. A message without a picture is answered at once: an empty round
trip.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, TextIO

from inference.artefact import read
from inference.engine import Engine
from inference.frames.prediction import best
from inference.frames.preprocess import decode, prepare
from twinship.bench.rig.rig import DEVICE
from twinship.bench.scenarios.delay.sender import EMPTY
from twinship.fleet.connection import read_env_file
from twinship.simulator.edge_agent.service_client import ConnectionString, ServiceClient

POLL_S: Final = 0.001
CALL_S: Final = 60.0
SENDER: Final = "camera_sim"  # the module identity of the sender


async def serve(upstream: TextIO, service: ConnectionString, ca: Path, engine: Engine) -> None:
    """Answer all messages until the process ends."""
    client = ServiceClient(service, ca)
    print("ready", flush=True)  # noqa: T201
    async with asyncio.TaskGroup() as calls:
        async for message in follow(upstream):
            if (seq := answered(message, engine)) is not None:
                body = {
                    "methodName": "answer",
                    "payload": {"seq": seq},
                    "responseTimeoutInSeconds": int(CALL_S),
                }
                path = ("twins", DEVICE, "modules", SENDER, "methods")
                calls.create_task(client.call("POST", *path, body=body, timeout_s=CALL_S))


async def follow(upstream: TextIO) -> AsyncIterator[dict[str, Any]]:
    """Each message that is appended to the file from now on."""
    rest = ""
    while True:
        *lines, rest = (rest + upstream.read()).split("\n")
        for line in lines:
            yield json.loads(line)
        await asyncio.sleep(POLL_S)


def answered(message: dict[str, Any], engine: Engine) -> int | None:
    """Classify the picture of a message and return its seq; None for a message that is not the sender's."""
    properties, kind = message["Properties"], message["SystemProperties"].get("contentType", "")
    if "seq" not in properties:
        return None
    if kind != EMPTY:
        width, height, channels = (int(properties[name]) for name in ("width", "height", "channels"))
        spec = engine.input
        pixels = decode(base64.b64decode(message["Body"]), kind, width, height, channels, spec=spec)
        best(engine.infer(prepare(pixels, spec)), engine.labels, 3)
    return int(properties["seq"])


def main() -> None:
    """Parse the command line, load the model and serve."""
    parser = argparse.ArgumentParser()
    for option in ("--upstream", "--service-env", "--ca", "--model"):
        parser.add_argument(option, type=Path, required=True)
    found = parser.parse_args()
    engine = Engine(read(found.model.read_bytes()))
    engine.warm()
    settings = read_env_file(found.service_env)
    service = ConnectionString.parse(settings["IOTHUB_CONNECTION_STRING"])
    with found.upstream.open(encoding="utf-8") as upstream:
        upstream.seek(0, 2)
        asyncio.run(serve(upstream, service, found.ca, engine))


if __name__ == "__main__":
    main()
