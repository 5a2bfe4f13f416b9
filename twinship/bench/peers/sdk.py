"""`python -m twinship.bench.peers.sdk camera_sim|inference`: the SDK between the same outputs and inputs, no more.

camera_sim sends as many messages of a frame's size as its twin says, as fast as the SDK takes them; inference
sends a text of a prediction's size for each, from the thread that the SDK calls it on.
"""

from __future__ import annotations

import secrets
import sys
import threading
from typing import Any, Final

from azure.iot.device import IoTHubModuleClient, Message

from edgekit import cpu_affinity
from edgekit.clock import boot_id, mono_ns, wall_ns
from edgekit.frame.message import RAW, Frame, FrameId
from edgekit.hub import nagle

UNDER_WAY: Final = 5  # as edgekit.hub.connection
SIDE: Final = 28
PIXELS: Final = bytes(SIDE * SIDE)
RUN: Final = secrets.token_hex(8)
#: As many bytes as the answer to a frame has, and what twinship.bench.scenarios.modules.frames counts answers by.
ANSWER: Final = b'{"captured":' + b" " * 700 + b"0}"


def client() -> IoTHubModuleClient:
    """As edgekit.hub.connection makes it."""
    made = IoTHubModuleClient.create_from_edge_environment()
    nagle.switch_off(made)
    return made


def message(body: bytes, content_type: str, properties: dict[str, str]) -> Message:
    """With an id, as each has."""
    made = Message(body, content_encoding="utf-8", content_type=content_type)  # type: ignore[no-untyped-call]
    made.message_id = secrets.token_hex(16)
    made.custom_properties = properties
    return made


def camera() -> None:
    """Send until there were as many as the twin says under `frames`; it may say more later."""
    cpu_affinity.pin_to_one_core(0)
    link, changed = client(), threading.Condition()
    wanted = sent = 0

    def ask(desired: Any) -> None:
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
            link.send_message_to_output(frame(seq), "frames")

    for _ in range(UNDER_WAY):
        threading.Thread(target=send, daemon=True).start()
    link.on_twin_desired_properties_patch_received = ask
    ask(link.get_twin()["desired"])


def frame(seq: int) -> Message:
    """One without a picture worth looking at."""
    now = mono_ns()
    made = Frame(
        FrameId("camera", RUN, seq), PIXELS, RAW, SIDE, SIDE, 1, wall_ns(), now, now, boot_id()
    ).to_message()
    return message(made.body, RAW, dict(made.properties))


def inference() -> None:
    """Answer whatever comes."""
    cpu_affinity.pin_to_one_core(-1)
    link = client()

    def answer(_message: Any) -> None:
        link.send_message_to_output(message(ANSWER, "application/json", {}), "predictions")

    link.on_message_received = answer


if __name__ == "__main__":
    {"camera_sim": camera, "inference": inference}[sys.argv[1]]()
    threading.Event().wait()
