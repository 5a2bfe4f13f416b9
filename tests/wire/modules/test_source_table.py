"""How each camera source starts, is cut, freezes and comes back, and what it costs.

    .venv/bin/python -m pytest -q tests/wire/modules/test_source_table.py

prints the table of docs/camera.md and writes build/sources.json.
"""

from __future__ import annotations

import io
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="PyAV is not installed: camera_sim[video]")

import av

from camera_sim.sources.address import parse
from camera_sim.sources.picture import Source
from camera_sim.sources.settings import SceneDials, VideoSettings
from camera_sim.sources.table import Opening, open_source
from tests.wire.modules.mjpeg_server import MjpegServer
from tests.wire.modules.rtsp_process import MISSING, RtspServer, is_installed
from tests.wire.modules.test_camera_sim import ROUTES, Camera
from tests.wire.simulated_hub import SimulatedHub

pytestmark = pytest.mark.long

OUT = Path(__file__).parents[3] / "build" / "sources.json"
SIZE, RATE, BITS = (1920, 1080), 30, 6_000_000
PICTURES = 60
FPS = 10  # sent
STEADY_S = 6.0  # such a stream is opened again at once
WARM, MEASURED = 30, 150  # frames
MAX_S = 20.0  # of what takes about one second; a busy machine may take longer
TIMEOUT_S = VideoSettings().timeout_s
MAX_FROZEN_S = TIMEOUT_S + 2
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Station:
    """A camera to break. None: this cannot happen to it."""

    address: str
    start: Callable[[], None] = lambda: None
    cut: Callable[[], None] | None = None
    freeze: Callable[[], None] | None = None


@dataclass(frozen=True)
class Row:
    """The figures of one source. None: not applicable."""

    source: str
    starts_s: float
    cut_s: float | None
    back_s: float | None
    frozen_s: float | None
    cpu_percent: float
    age_ms: float | None
    encode_ms: float


def picture(number: int) -> Image.Image:
    """A picture with detail that moves, as a compressor meets it in a street."""
    rough = np.random.default_rng(0).integers(0, 256, (68, 120, 3), np.uint8)
    street = Image.fromarray(rough).resize(SIZE, Image.Resampling.BICUBIC)
    return Image.fromarray(np.roll(np.asarray(street), 8 * number, axis=1))


def video(path: Path) -> Path:
    """Two seconds of 1080p30 in H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height = SIZE
        stream.pix_fmt, stream.bit_rate = "yuv420p", BITS
        for number in range(PICTURES):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture(number)), format="rgb24"))
            )
        container.mux(stream.encode())
    return path


def jpegs(count: int) -> list[bytes]:
    """Pictures of 1080p as JPEG."""
    found = []
    for number in range(count):
        buffer = io.BytesIO()
        picture(number).save(buffer, "JPEG", quality=80)
        found.append(buffer.getvalue())
    return found


@contextmanager
def folder(place: Path) -> Iterator[Station]:
    """Eight pictures, read once."""
    (place / "pictures").mkdir()
    for number, body in enumerate(jpegs(8)):
        (place / "pictures" / f"{number:02}.jpg").write_bytes(body)
    yield Station(f"folder:{place / 'pictures'}")


@contextmanager
def scene(place: Path) -> Iterator[Station]:
    """Drawn digits of 28 × 28."""
    yield Station("scene:")


def move(old: Path, new: Path) -> None:
    """Rename a file."""
    old.rename(new)


@contextmanager
def file(place: Path) -> Iterator[Station]:
    """A video file in a loop; cut: it is gone when it should begin again."""
    made, away = video(place / "made.mp4"), place / "street.mp4"
    yield Station(f"file:{away}", partial(move, made, away), cut=partial(move, away, made))


@contextmanager
def mjpeg(place: Path) -> Iterator[Station]:
    """A network camera by HTTP."""
    server, stack = MjpegServer(1 / RATE, jpegs(8)), ExitStack()
    with server.serving():  # finds its port
        pass

    def start() -> None:
        server.frozen.clear()
        stack.enter_context(server.serving())

    with stack:
        yield Station(server.url, start, cut=stack.close, freeze=server.frozen.set)


@contextmanager
def rtsp(place: Path) -> Iterator[Station]:
    """A network camera by RTSP."""
    server = RtspServer(size=SIZE)
    try:
        yield Station(
            server.url, server.start, cut=server.kill, freeze=partial(server.signal, signal.SIGSTOP)
        )
    finally:
        server.kill()


SOURCES = {
    "folder:, JPEG": folder,
    "scene:, 28 × 28": scene,
    "file:, H.264": file,
    "http:, MJPEG": mjpeg,
    "rtsp:, H.264": rtsp,
}
H264 = ("file:, H.264", "rtsp:, H.264")


def seconds_until(source: Source, true: Callable[[bool], bool]) -> float:
    """Take pictures until the condition holds; it gets whether a picture has just come."""
    began = time.monotonic()
    while not true(source.next() is not None):
        assert time.monotonic() < began + 90, source.state
    return time.monotonic() - began


def stream(source: Source) -> None:
    """Take pictures for a while, as a camera does."""
    ends = time.monotonic() + STEADY_S
    seconds_until(source, lambda came: came and time.monotonic() > ends)


def broken(station: Station) -> tuple[float, float | None, float | None, float | None]:
    """Seconds to the first picture, until a cut is reported, until pictures are back, until a freeze is."""

    def is_lost(_came: bool) -> bool:
        return source.state.name == "lost"

    source = open_source(Opening(parse(station.address), SceneDials(), VideoSettings(), None))
    try:
        starts_s = seconds_until(source, bool)
        cut_s = back_s = frozen_s = None
        if station.cut:
            stream(source)
            station.cut()
            cut_s = seconds_until(source, is_lost)
            station.start()
            back_s = seconds_until(source, bool)
        if station.freeze:
            stream(source)
            station.freeze()
            frozen_s = seconds_until(source, is_lost)
        return starts_s, cut_s, back_s, frozen_s
    finally:
        source.close()


def processor_s(pids: Sequence[int]) -> float:
    """The processor time of these processes so far."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / CLOCK_TICKS


def with_children(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(int(child) for path in children for child in path.read_text().split())]


def cost(station: Station, place: Path) -> tuple[float, float | None, float]:
    """Percent of a core, p50 of the age of video in ms, p50 of encode in ms, at FPS frames/s."""
    with SimulatedHub(place, modules=("camera_sim",), routes=ROUTES) as simulated:
        camera = Camera(simulated, place, CAMERA_SOURCE=station.address)
        try:
            simulated.desire(
                "camera_sim", camera={"fps": FPS, "encoding": "jpeg", "ledger": True, "credit": 0}
            )
            camera.status(lambda status: status.get("stored", 0) >= WARM)
            pids = with_children(camera.process.pid)
            began, used_s = time.monotonic(), processor_s(pids)
            stored = camera.status(lambda status: True)["stored"]
            camera.status(lambda status: status["stored"] >= stored + MEASURED)
            share = (processor_s(pids) - used_s) / (time.monotonic() - began)
            ages = [line["mailbox"] / 1e6 for line in camera.send_log()[WARM:] if "mailbox" in line]
            encodes = [encode_ms(line["Properties"]) for line in simulated.upstream()[WARM:]]
        finally:
            camera.process.kill()
            camera.process.wait()
    return 100 * share, median(ages) if ages else None, median(encodes)


def encode_ms(properties: dict[str, str]) -> float:
    """From taking the picture to the encoded frame."""
    return (int(properties["encoded"]) - int(properties.get("taken", properties["mono"]))) / 1e6


def measured(name: str, place: Path) -> Row:
    """One source, broken first and then in use."""
    place.mkdir()
    with SOURCES[name](place) as station:
        station.start()
        figures = broken(station)
        if station.freeze and station.cut:  # a frozen one has to be started anew
            station.cut()
            station.start()
        return Row(name, *figures, *cost(station, place))


def table(rows: Sequence[Row]) -> str:
    """The table as docs/camera.md has it."""
    heads = ("source", "starts", "cut reported", "back", "freeze reported", "CPU", "p50 age", "p50 encode")
    units = (" s", " s", " s", " s", " %", " ms", " ms")
    lines = [heads, ("---",) * len(heads)]
    for row in rows:
        name, *figures = asdict(row).values()
        lines.append((f"`{name.replace(',', '`,', 1)}", *map(_cell, figures, units)))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(figure: Any, unit: str) -> str:
    return "–" if figure is None else f"{figure:.{0 if unit == ' %' else 1}f}{unit}"


def test_each_source_starts_reports_its_loss_and_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cut is reported within seconds, a freeze after `timeoutS`; processor and age are printed only."""
    names = [name for name in SOURCES if is_installed() or not name.startswith("rtsp")]
    rows = [measured(name, tmp_path / str(number)) for number, name in enumerate(names)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False) + "\n")
    with capsys.disabled():
        print(f"\n{table(rows)}" + ("" if is_installed() else f"\nrtsp: {MISSING}"))  # noqa: T201
    for row in rows:
        assert row.starts_s < MAX_S, row
        assert row.cut_s is None or row.cut_s < MAX_S, row
        assert row.back_s is None or row.back_s < MAX_S, row
        assert row.frozen_s is None or TIMEOUT_S - 1 < row.frozen_s < MAX_FROZEN_S, row
        if row.source in H264:
            assert row.age_ms is not None
