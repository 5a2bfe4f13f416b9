"""`python -m twinship.bench.peers.costly SECONDS`: stands in for the camera in scenario `costly`.

Each line on stdin is the number of costly frames in each second; the answer on stdout comes after SECONDS.
Camera `steady` sends FPS small frames a second. A costly frame is a progressive JPEG of 4096×4096 pixels
in one message: with the default `decodeBudgetMegapixels` nearly the most that a message may ask for.
"""

from __future__ import annotations

import io
import secrets
import sys
import time
from threading import Event
from typing import Final

from PIL import Image

from edgekit.frame.message import RAW, FrameId
from edgekit.hub.connection import Hub
from twinship.bench.peers.frames import frame_message

STEADY: Final = "steady"
COSTLY: Final = "costly"
FPS: Final = 10
SMALL, LARGE = 28, 4_096  # pixels a side
CONNECT_S: Final = 60.0


def main() -> None:
    """Run until stdin ends. Raises SystemExit if no hub answers."""
    up = Event()
    hub = Hub(inputs={}, on_twin=lambda _twin: up.set(), methods={})
    hub.start()
    if not up.wait(CONNECT_S):
        raise SystemExit(f"no hub answered within {CONNECT_S:g} s")
    run, picture, steady, costly = secrets.token_hex(8), progressive(LARGE), 0, 0
    for line in sys.stdin:
        begun_s = time.monotonic()
        for tick in range(int(sys.argv[1]) * FPS):
            if tick % FPS < int(line):
                hub.send("frames", frame_message(FrameId(COSTLY, run, costly), picture, "image/jpeg", LARGE))
                costly += 1
            frame = FrameId(STEADY, run, steady)
            hub.send("frames", frame_message(frame, bytes(SMALL * SMALL), RAW, SMALL))
            steady += 1
            time.sleep(max(0.0, begun_s + (tick + 1) / FPS - time.monotonic()))
        print(steady, costly, flush=True)  # noqa: T201
    hub.close(2.0)


def progressive(side: int) -> bytes:
    """A grey progressive JPEG: each of its scans visits all coefficients."""
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True)
    return file.getvalue()


if __name__ == "__main__":
    main()
