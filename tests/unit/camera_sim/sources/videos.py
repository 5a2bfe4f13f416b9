"""Makes video files with PyAV, and runs a source until a condition holds."""

import time
from collections.abc import Callable
from pathlib import Path

import av
from PIL import Image

from camera_sim.sources.picture import Picture
from camera_sim.sources.video import Video


def write_video(
    path: Path, frames: int = 30, size: tuple[int, int] = (64, 48), codec: str = "libx264", rate: int = 30
) -> Path:
    """A video whose pictures become brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            grey = 40 + 170 * number // max(1, frames)
            image = Image.new("RGB", size, (grey, grey, grey))
            picture = av.VideoFrame.from_image(image)  # type: ignore[no-untyped-call]
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def until(video: Video, condition: Callable[[list[Picture]], object], timeout_s: float = 40) -> list[Picture]:
    """The pictures that came until the condition held."""
    pictures: list[Picture] = []
    deadline = time.monotonic() + timeout_s
    while not condition(pictures):
        assert time.monotonic() < deadline, (video.state, len(pictures))
        if (picture := video.next()) is not None:
            pictures.append(picture)
    return pictures
