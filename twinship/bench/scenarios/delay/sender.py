"""`python -m twinship.bench.scenarios.delay.sender`: stands in for the camera in scenario `delay`.

It uses the real SDK. It sends a frame, waits for the answer, and sends the next. Its environment names the
hub: the edge device or IoT Hub itself. Answers are edgeHub's messages on input `answers`, or calls of the
direct method `answer`. Each line on stdin is a Task in JSON; each gets one line on stdout.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Condition, Event
from typing import Any, Final

from edgekit import clock
from edgekit.frame.message import RAW, FrameId, Message
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from twinship.bench.peers.frames import frame_message

RUN: Final = secrets.token_hex(8)
CONNECT_S: Final = 60.0
ANSWER_S: Final = 60.0
EMPTY: Final = "twinship/empty"  # the content type of a message without a picture
NOISE_BYTES: Final = 20_000  # of each message of the second flow


@dataclass(frozen=True)
class Task:
    """Frames to send, one after the other."""

    frames: int
    side: int  # pixels; 0: messages without a picture
    second_flow: bool = False  # other messages at the same time


class Sender:
    """One connection with one frame under way."""

    def __init__(self) -> None:
        self._hub = Hub(
            inputs={"answers": lambda message, _arrived: self._answered(json.loads(message.body)["frame"])},
            on_twin=self._connected,
            methods={"answer": self._called},
        )
        self._up = Event()
        self._changed = Condition()
        self._seq = -1
        self._answered_ns: dict[int, int] = {}

    def start(self) -> None:
        """Connect. Raises SystemExit if no hub answers."""
        self._hub.start()
        if not self._up.wait(CONNECT_S):
            raise SystemExit(f"no hub answered within {CONNECT_S:g} s")

    def run(self, task: Task) -> list[float]:
        """Send the frames; return the seconds from each frame's capture to its answer."""
        with SecondFlow(self._hub) if task.second_flow else nullcontext():
            return [self._send_frame(task.side) for _ in range(task.frames)]

    def close(self) -> None:
        """Disconnect."""
        self._hub.close(2.0)

    def _send_frame(self, side: int) -> float:
        self._seq += 1
        begun = clock.mono_ns()
        self._hub.send("frames", self._message(side))
        with self._changed:
            if not self._changed.wait_for(lambda: self._seq in self._answered_ns, ANSWER_S):
                raise SystemExit(f"frame {self._seq} was not answered within {ANSWER_S:g} s")
        return (self._answered_ns[self._seq] - begun) / 1e9

    def _message(self, side: int) -> Message:
        frame = FrameId("camera", RUN, self._seq)
        if not side:
            return Message(b"{}", {"seq": str(self._seq)}, str(frame), EMPTY)
        return frame_message(frame, bytes(side * side), RAW, side)

    def _connected(self, _twin: Twin) -> None:
        self._up.set()

    def _called(self, payload: Any) -> MethodAnswer:
        self._answered(payload)
        return MethodAnswer(200, None)

    def _answered(self, frame: dict[str, Any]) -> None:
        now = clock.mono_ns()
        with self._changed:
            self._answered_ns[int(frame["seq"])] = now
            self._changed.notify_all()


class SecondFlow:
    """Sends other messages while it is entered, one after the other."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._on = True

    def __enter__(self) -> None:
        self._send(0)

    def __exit__(self, *_exception: object) -> None:
        self._on = False

    def _send(self, _stored: int) -> None:
        if self._on:
            self._hub.send("noise", Message(os.urandom(NOISE_BYTES), {}), self._send)


def main() -> None:
    """Run the tasks until stdin ends."""
    sender = Sender()
    sender.start()
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201
    for line in sys.stdin:
        print(json.dumps({"delays_s": sender.run(Task(**json.loads(line)))}), flush=True)  # noqa: T201
    sender.close()


if __name__ == "__main__":
    main()
