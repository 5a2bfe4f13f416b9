"""`python -m twinship.bench.peers.sdk camera_sim|inference`: a module that has only the SDK in it.

camera_sim sends as many messages of a frame's size as its twin asks for, as fast as the SDK takes them.
inference answers each with a text of a prediction's size, on the SDK's callback thread.
"""

from __future__ import annotations

import secrets
import sys
import threading
from typing import Any, Final

from azure.iot.device import IoTHubModuleClient, Message

from edgekit import cpu_affinity
from edgekit.frame.message import RAW, FrameId
from edgekit.hub import nagle
from twinship.bench.peers.frames import frame_message

UNDER_WAY: Final = 5  # as edgekit.hub.connection
SIDE: Final = 28
PIXELS: Final = bytes(SIDE * SIDE)
RUN: Final = secrets.token_hex(8)
#: As long as a prediction, with the field by which twinship.bench.scenarios.modules.frames counts them.
ANSWER: Final = b'{"captured":' + b" " * 700 + b"0}"


def client() -> IoTHubModuleClient:
    """A client with the same socket option as in edgekit.hub.connection."""
    made = IoTHubModuleClient.create_from_edge_environment()
    nagle.switch_off(made)
    return made


def message(body: bytes, content_type: str, properties: dict[str, str]) -> Message:
    """A message with an id of its own."""
    made = Message(body, content_encoding="utf-8", content_type=content_type)  # type: ignore[no-untyped-call]
    made.message_id = secrets.token_hex(16)
    made.custom_properties = properties
    return made


def camera() -> None:
    """Send until the count reaches the twin's `frames`, which may grow later."""
    cpu_affinity.pin_to_one_core(0)
    link, changed = client(), threading.Condition()
    wanted = sent = 0

    def take_twin(desired: Any) -> None:
        nonlocal wanted
        with changed:
            wanted = max(wanted, desired.get("frames", 0))
            changed.notify_all()

    def send() -> None:
        nonlocal sent
        while True:
            with changed:
                while sent >= wanted:
                    changed.wait()
                sent += 1
                seq = sent
            frame = frame_message(FrameId("camera", RUN, seq), PIXELS, RAW, SIDE)
            link.send_message_to_output(message(frame.body, RAW, dict(frame.properties)), "frames")

    for _ in range(UNDER_WAY):
        threading.Thread(target=send, daemon=True).start()
    link.on_twin_desired_properties_patch_received = take_twin
    take_twin(link.get_twin()["desired"])


def inference() -> None:
    """Answer every message."""
    cpu_affinity.pin_to_one_core(-1)
    link = client()

    def answer(_message: Any) -> None:
        link.send_message_to_output(message(ANSWER, "application/json", {}), "predictions")

    link.on_message_received = answer


if __name__ == "__main__":
    {"camera_sim": camera, "inference": inference}[sys.argv[1]]()
    threading.Event().wait()
