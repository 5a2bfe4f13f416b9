"""`python -m camera_sim.sources.decoder`: decodes a video, in a process that FFmpeg may crash or hang.

The main thread decodes all the time and keeps the latest picture only, so that no backlog forms. A second
thread scales and sends the latest picture when the camera asks for one. A third says that pictures come. The
process ends when its stdin does.
"""

import fcntl
import os
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any

import av
import av.logging
from av.video.frame import VideoFrame

from camera_sim.sources.child_messages import DecodingRequest, packed
from camera_sim.sources.playback import Playback

_ALIVE_S = 0.5
_PIPE_BYTES = 1 << 20
_MEMORY_BYTES = 3 << 30
_MAX_PIXELS = 50_000_000
_MAX_BROKEN = 500  # packets without a picture between them
_BROKEN = "the pictures cannot be decoded"


class Failed(Exception):
    """The video cannot be read. The text holds no address."""


class Mailbox:
    """The latest picture, with the wall and CLOCK_MONOTONIC times (ns) when it was read."""

    def __init__(self) -> None:
        self.count = 0
        self._frame: tuple[VideoFrame, int, int] | None = None
        self._changed = threading.Condition()

    def put(self, frame: VideoFrame) -> None:
        """Replace the picture."""
        with self._changed:
            self._frame = frame, time.time_ns(), time.monotonic_ns()
            self.count += 1
            self._changed.notify_all()

    def take(self) -> tuple[VideoFrame, int, int]:
        """Remove the picture; waits for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None)
            frame, self._frame = self._frame, None
        assert frame is not None
        return frame


class Output:
    """Whole messages to the camera, from several threads."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._lock = threading.Lock()

    def send(self, header: dict[str, Any], pixels: bytes | memoryview = b"") -> None:
        """Write one message."""
        with self._lock:
            for part in (packed(header, len(pixels)), pixels):
                view = memoryview(part)
                while view:
                    view = view[os.write(self._file, view) :]


def fitted(width: int, height: int, max_side: int) -> tuple[int, int]:
    """The size with the same proportions and at most `max_side`; never larger.

    >>> fitted(1920, 1080, 640), fitted(320, 200, 640)
    ((640, 360), (320, 200))
    """
    scale = min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def answer(mailbox: Mailbox, output: Output, max_side: int) -> None:
    """Send the latest picture, scaled: the only conversion, for a picture that is due."""
    frame, captured, mono = mailbox.take()
    width, height = fitted(frame.width, frame.height, max_side)
    grey = frame.format.name.startswith("gray")
    scaled = frame.reformat(width, height, "gray" if grey else "rgb24")
    plane = scaled.planes[0]
    size = {"width": width, "height": height, "stride": plane.line_size, "grey": grey}
    output.send({"captured": captured, "mono": mono, **size}, memoryview(plane).cast("B"))


def pictures(request: DecodingRequest) -> Iterator[VideoFrame]:
    """The pictures of the video from its beginning to its end. Raises Failed."""
    if request.is_file and not os.path.isfile(request.url.removeprefix("file:")):
        raise Failed("there is no such file")
    try:
        yield from _decoded(request)
    except (av.error.ExitError, TimeoutError) as error:
        raise Failed(f"no data for {request.timeout_s:g} s") from error
    except av.error.FFmpegError as error:  # its own text holds the address
        raise Failed(error.strerror or type(error).__name__) from error


def _decoded(request: DecodingRequest) -> Iterator[VideoFrame]:
    opened = av.open(
        request.url,
        format=request.format,
        options=request.options,
        timeout=request.timeout_s,
        metadata_errors="replace",
    )
    with opened as container:
        if not container.streams.video:
            raise Failed("there is no video in it")
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"  # threads for whole pictures would delay each by one picture per thread
        stream.codec_context.options = {"max_pixels": str(_MAX_PIXELS)}
        broken, asked = 0, time.monotonic()
        for packet in container.demux(stream):
            if time.monotonic() - asked > request.timeout_s:
                # The read has timed out: FFmpeg gives what its parser held, and would wait as long again.
                raise TimeoutError
            try:
                found = packet.decode()
            except av.error.InvalidDataError:  # lost packets, or the stream was joined between two key frames
                found = []
            broken = 0 if found else broken + 1
            if broken > _MAX_BROKEN:
                raise Failed(_BROKEN)
            yield from found
            asked = time.monotonic()


def decode(request: DecodingRequest, mailbox: Mailbox) -> None:
    """Decode to the end, for ever if the file is looped. Raises Failed."""
    while True:
        before, playback = mailbox.count, Playback()
        for frame in pictures(request):
            if request.is_file:
                time.sleep(playback.delay_s(frame.time, time.monotonic()))
            mailbox.put(frame)
        if mailbox.count == before:
            raise Failed("there are no pictures in it")
        if not request.is_file:
            raise Failed("the stream has ended")
        if not request.loop:
            return


def _answer_all(mailbox: Mailbox, output: Output, max_side: int) -> None:
    try:
        while os.read(0, 1):
            answer(mailbox, output, max_side)
    except Exception as error:  # without this thread no picture would come, yet the stream would look alive
        output.send({"failed": type(error).__name__})
    os._exit(0)  # the camera is gone, or starts another child


def _say_alive(mailbox: Mailbox, output: Output) -> None:
    said = 0
    while True:
        time.sleep(_ALIVE_S)
        if mailbox.count != said:
            said = mailbox.count
            output.send({"alive": said})


def _request() -> DecodingRequest:
    """The first line of stdin, read byte by byte: what follows is for another thread."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            os._exit(0)
        line += byte
    return DecodingRequest.from_line(bytes(line))


def main() -> None:
    """Decode what stdin asks for."""
    output = Output(os.dup(1))
    os.dup2(2, 1)  # a library that prints must not spoil the messages
    fcntl.fcntl(output._file, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    av.logging.set_level(None)
    request, mailbox = _request(), Mailbox()
    for target, arguments in (
        (_answer_all, (mailbox, output, request.max_side)),
        (_say_alive, (mailbox, output)),
    ):
        threading.Thread(target=target, args=arguments, daemon=True).start()
    try:
        decode(request, mailbox)
        end = {"ended": "the file has been played"}
    except Failed as error:
        end = {"failed": str(error)}
    except Exception as error:  # its text may hold the address
        end = {"failed": type(error).__name__}
    output.send(end)
    os._exit(0)


if __name__ == "__main__":
    main()
