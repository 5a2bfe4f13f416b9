"""A video as a source: a child process decodes it, and a thread watches over the child.

The camera asks the child for a picture only when one is due. A child that ends, crashes or shows no sign of
life is replaced after a pause; nothing of it ends the camera.
"""

import contextlib
import importlib.util
import logging
import os
import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from PIL import Image

from camera_sim.sources.address import Address
from camera_sim.sources.back_off import BackOff
from camera_sim.sources.child_messages import ASK, read_message
from camera_sim.sources.ffmpeg_options import decoding_request
from camera_sim.sources.picture import Picture, State, StateName
from camera_sim.sources.settings import SceneDials, VideoSettings
from edgekit import clock
from edgekit.cpu_affinity import ALLOWED_CORES

logger = logging.getLogger(__name__)

_WAIT_S = 0.1  # of `next`
_STALE_NS = 1_000_000_000  # a picture that was asked for, but not fetched for so long, is asked for again
_GRACE_S = 5.0  # the child keeps the time-out itself, if it can
_STEADY_NS = 5_000_000_000  # a stream that lasts so long is opened again at once
_COMMAND = (sys.executable, "-I", "-m", "camera_sim.sources.decoder")


def can_decode() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


class _ChildLost(Exception):
    """The child has ended, or says nothing. The text is the reason."""


class Video:
    """Pictures of a file, a device or a network camera: always the latest one."""

    unreadable = 0
    retry_ns = 0

    def __init__(self, address: Address, settings: VideoSettings, ca_file: str | None = None) -> None:
        self.state = State("connecting", since=clock.wall_ns())
        self.losses = 0
        self._address = address
        self._settings = settings
        self._ca_file = ca_file
        self._changed = threading.Condition()
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = False
        self._picture: Picture | None = None
        self._number = 0
        self._generation = 0  # of the settings
        self._closed = False
        self._back_off = BackOff(random.Random())
        self._thread = threading.Thread(target=self._run, name="video", daemon=True)
        self._thread.start()

    def __str__(self) -> str:
        return f"video {self._address}"

    # On the camera's thread

    def next(self) -> Picture | None:
        """The latest picture, if one comes within 0.1 s; each picture is returned once."""
        with self._changed:
            if self._picture is not None and _age_ns(self._picture) > _STALE_NS:
                self._picture = None
            if self._picture is None:
                self._ask()
                self._changed.wait_for(lambda: self._picture is not None or self._closed, _WAIT_S)
            picture, self._picture = self._picture, None
            if picture is not None and _age_ns(picture) > _STALE_NS:
                return None
            return picture

    def configure(self, scene: SceneDials, video: VideoSettings) -> None:
        """Open the video again if its settings have changed."""
        with self._changed:
            if video != self._settings:
                self._settings = video
                self._generation += 1
                self._kill()
                self._changed.notify_all()

    def close(self) -> None:
        """End the child and the thread."""
        with self._changed:
            self._closed = True
            self._kill()
            self._changed.notify_all()
        self._thread.join(5)

    def _ask(self) -> None:
        if self._child is not None and not self._asked:
            assert self._child.stdin is not None
            with contextlib.suppress(OSError):  # it has just ended
                os.write(self._child.stdin.fileno(), ASK)
                self._asked = True

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    # On the thread that watches over the child

    def _run(self) -> None:
        while not self._closed:
            generation, began = self._generation, clock.mono_ns()
            try:
                name, reason = self._watch()
            except _ChildLost as error:
                name, reason = "lost", str(error)
            except Exception as error:  # the thread must not end; the text may hold the address
                logger.error("source %s: %s", self._address, type(error).__name__)
                name, reason = "lost", type(error).__name__
            with self._changed:
                if self._closed:
                    return
                if self._generation != generation:
                    self._set_state("connecting")
                    continue
                if self.state.name == "streaming" and clock.mono_ns() - began > _STEADY_NS:
                    self._back_off.reset()
                self._set_state(name, reason)
                self._changed.wait_for(
                    lambda: self._closed or self._generation != generation,  # noqa: B023 - called in this turn
                    None if name == "ended" else self._back_off.wait_s(),
                )

    def _watch(self) -> tuple[StateName, str]:
        """Run one child to its end. Returns the state that follows, or raises _ChildLost."""
        with self._changed:
            if self._closed:
                return "ended", ""
            child = subprocess.Popen(
                _COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                process_group=0,
            )
            assert child.stdin is not None
            assert child.stdout is not None
            timeout_s = self._settings.timeout_s + _GRACE_S
            request = decoding_request(self._address, self._settings, self._ca_file)
            with contextlib.suppress(OSError):  # it has just ended
                os.write(child.stdin.fileno(), request.to_line())  # before anybody asks it for a picture
            self._child, self._asked = child, False
        try:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(child.pid, ALLOWED_CORES)  # not only the core of the camera
            while True:
                header, pixels = read_message(_reader(child.stdout.fileno(), timeout_s))
                if reason := header.get("ended"):
                    return "ended", str(reason)
                if reason := header.get("failed"):
                    raise _ChildLost(str(reason))
                self._received(header, pixels)
        finally:
            with self._changed:
                self._child, self._picture = None, None
            child.kill()
            child.communicate()

    def _received(self, header: dict[str, Any], pixels: bytes) -> None:
        picture = _picture(header, pixels, f"video-{self._number}") if pixels else None
        with self._changed:
            self._set_state("streaming")
            if picture is not None:
                self._picture, self._asked = picture, False
                self._number += 1
                self._changed.notify_all()

    def _set_state(self, name: StateName, reason: str = "") -> None:
        if (name, reason) == (self.state.name, self.state.reason):
            return
        if name == "lost" and self.state.name != "lost":
            self.losses += 1
        since = self.state.since if name == self.state.name else clock.wall_ns()
        self.state = State(name, reason, since)
        log = logger.warning if name == "lost" else logger.info
        log("source %s: %s%s", self._address, name, f": {reason}" if reason else "")


def _age_ns(picture: Picture) -> int:
    return clock.mono_ns() - picture.captured[1] if picture.captured else 0


def _picture(header: dict[str, Any], pixels: bytes, name: str) -> Picture:
    mode, size = ("L" if header["grey"] else "RGB"), (header["width"], header["height"])
    image = Image.frombytes(mode, size, pixels, "raw", mode, header["stride"], 1)
    return Picture(name, image, captured=(header["captured"], header["mono"]), lossy=True)


def _reader(file: int, timeout_s: float) -> Callable[[int], bytes]:
    """A function that reads n bytes; all calls together have the time-out. Raises _ChildLost."""
    deadline = time.monotonic() + timeout_s

    def read(count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _ChildLost(f"no picture for {timeout_s:g} s")
            if not (part := os.read(file, count - len(data))):
                raise _ChildLost("the decoder has crashed")
            data += part
        return bytes(data)

    return read
