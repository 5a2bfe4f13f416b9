"""`python -m twinship.bench.scenarios.delay.sender`: the camera's stand-in of scenario `delay`, a process with the real SDK.

Sends a frame, waits for its answer, sends the next: from where its environment says, the edge device or IoT
Hub itself. Answers come as edgeHub's messages on input `answers`, or as calls of method `answer`. Each line
on stdin is an Order; each gets one line on stdout. What it means is delay.py's.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from threading import Condition, Event
from typing import Any, Final

from edgekit import clock
from edgekit.frame.message import RAW, Frame, FrameId, Message
from edgekit.hub.connection import Hub, MethodAnswer, Twin

RUN: Final = secrets.token_hex(8)
CONNECT_S: Final = 60.0
ANSWER_S: Final = 60.0
EMPTY: Final = "twinship/empty"  # the content type of a message without a picture
NOISE_BYTES: Final = 20_000  # of each message of the second flow


@dataclass(frozen=True)
class Order:
    """What to send: so many frames of side × side raw grey pixels, 0: no picture; what else meanwhile."""

    frames: int
    side: int
    second_flow: bool = False


class Sender:
    """One connection, one frame under way."""

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
        """Connect. Raises SystemExit when nobody answers."""
        self._hub.start()
        if not self._up.wait(CONNECT_S):
            raise SystemExit(f"no hub answered within {CONNECT_S:g} s")

    def carry_out(self, order: Order) -> list[float]:
        """Seconds from each frame's capture to its answer."""
        with self._noise(order.second_flow):
            return [self._frame(order.side) for _ in range(order.frames)]

    def close(self) -> None:
        """Disconnect."""
        self._hub.close(2.0)

    def _frame(self, side: int) -> float:
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
        now = clock.mono_ns()
        picture = bytes(side * side)
        return Frame(
            frame, picture, RAW, side, side, 1, clock.wall_ns(), now, now, clock.boot_id()
        ).to_message()

    def _noise(self, wanted: bool) -> Noise:
        return Noise(self._hub if wanted else None)

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


class Noise:
    """The second flow: always one message of it on its way, while entered."""

    def __init__(self, hub: Hub | None) -> None:
        self._hub = hub
        self._on = hub is not None

    def __enter__(self) -> None:
        if self._hub is not None:
            self._send(0)

    def __exit__(self, *_exception: object) -> None:
        self._on = False

    def _send(self, _stored: int) -> None:
        if self._on and self._hub is not None:
            self._hub.send("noise", Message(os.urandom(NOISE_BYTES), {}), self._send)


def orders() -> Iterator[Order]:
    """From stdin, until its end."""
    for line in sys.stdin:
        yield Order(**json.loads(line))


def main() -> None:
    """Until stdin ends."""
    sender = Sender()
    sender.start()
    print(json.dumps({"ready": True}), flush=True)  # noqa: T201
    for order in orders():
        print(json.dumps({**asdict(order), "delays_s": sender.carry_out(order)}), flush=True)  # noqa: T201
    sender.close()


if __name__ == "__main__":
    main()
