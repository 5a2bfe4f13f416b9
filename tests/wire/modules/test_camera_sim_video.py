"""Network cameras, MJPEG by HTTP and RTSP by GStreamer: cut, frozen, restarted and slow."""

import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

pytest.importorskip("av", reason="PyAV is not installed: camera_sim[video]")

from camera_sim.sources.address import parse
from camera_sim.sources.settings import VideoSettings
from camera_sim.sources.video import Video
from edgekit import clock
from tests.unit.camera_sim.sources.videos import until
from tests.wire.modules.mjpeg_server import MjpegServer
from tests.wire.modules.rtsp_process import MISSING, RtspServer, is_installed
from tests.wire.modules.test_camera_sim import Camera
from tests.wire.simulated_hub import SimulatedHub, minimal_environment

SECRET = "hunter2-XYZ"
Open = Callable[..., Video]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens videos, and closes them after the test."""
    with ExitStack() as stack:

        def open_video(address: str, ca_file: Path | None = None, timeout_s: float = 2) -> Video:
            video = Video(
                parse(address), VideoSettings(timeout_s=timeout_s), str(ca_file) if ca_file else None
            )
            stack.callback(video.close)
            return video

        yield open_video


def streaming(video: Video) -> None:
    """Wait until pictures come."""
    until(video, lambda found: len(found) >= 3)
    assert video.state.name == "streaming"


def lost(video: Video) -> str:
    """Wait until the source is lost; returns the reason."""
    until(video, lambda _found: video.state.name == "lost")
    return video.state.reason


# MJPEG over HTTP


def test_a_camera_that_is_cut_and_comes_back(opened: Open) -> None:
    """Lost with its reason and time, opened again by itself, and counted."""
    server = MjpegServer()
    with server.serving():
        video = opened(server.url)
        streaming(video)
        begin = clock.wall_ns()
    assert lost(video)
    assert begin <= video.state.since <= clock.wall_ns()
    with server.serving():
        streaming(video)
        assert video.losses == 1


def test_a_camera_that_freezes_is_lost(opened: Open) -> None:
    """The connection stands, and no picture comes."""
    server = MjpegServer()
    with server.serving():
        video = opened(server.url, timeout_s=1)
        streaming(video)
        server.frozen.set()
        assert lost(video) == "no data for 1 s"
        server.frozen.clear()
        streaming(video)


def test_a_slow_camera_streams(opened: Open) -> None:
    """Two pictures a second are no loss, and none is returned twice."""
    server = MjpegServer(interval_s=0.5)
    with server.serving():
        video = opened(server.url)
        pictures = until(video, lambda found: len(found) >= 5)
        assert len({picture.captured for picture in pictures}) == len(pictures)
        assert video.losses == 0


def test_a_password_reaches_the_camera_and_nothing_else(
    opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in the request to the camera, and in no log, error, command line or environment of a child."""
    caplog.set_level("DEBUG")
    server = MjpegServer()
    server.demands_login = True
    with server.serving():
        video = opened(server.url.replace("127.0.0.1", f"guest:{SECRET}@127.0.0.1"))
        streaming(video)
        assert video._child is not None
        process = Path(f"/proc/{video._child.pid}")
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in (process / name).read_bytes()
    assert any(each and each.startswith("Basic ") for each in server.authorization)
    lost(video)
    assert SECRET not in f"{video} {video!r} {video.state} {caplog.text}"


def test_a_redirect_is_not_followed(opened: Open) -> None:
    """It would carry the password to another server."""
    other, server = MjpegServer(), MjpegServer()
    with other.serving(), server.serving():
        server.redirect_to = other.url
        assert lost(opened(server.url.replace("127.0.0.1", f"guest:{SECRET}@127.0.0.1")))
        assert server.paths
        assert not other.paths


def test_a_certificate_is_verified(opened: Open, tmp_path: Path) -> None:
    """With the authority's certificate the pictures come, without it none does and no request is sent."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = _server_context(authority)
    server = MjpegServer()
    with server.serving(context):
        lost(opened(server.url))
        assert not server.paths
        streaming(opened(server.url, tmp_path / "ca.pem"))


def _server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


# RTSP


@pytest.fixture(scope="module")
def gstreamer() -> None:
    """Skip unless Debian's GStreamer RTSP server is installed."""
    if not is_installed():
        pytest.skip(MISSING)


@pytest.fixture
def rtsp(gstreamer: None) -> Iterator[RtspServer]:
    """A server that has not been started."""
    server = RtspServer()
    yield server
    server.kill()


@pytest.mark.parametrize("coder", ["h264", "h265"])
def test_an_rtsp_camera_streams(opened: Open, rtsp: RtspServer, coder: str) -> None:
    """Over TCP, H.264 and H.265."""
    rtsp.start(coder)
    video = opened(rtsp.url, timeout_s=10)
    assert until(video, lambda found: len(found) >= 5)[-1].image.size == (320, 240)


def test_an_rtsp_camera_that_is_killed_and_started_again(opened: Open, rtsp: RtspServer) -> None:
    """Lost, tried again, and back; other code never notices."""
    rtsp.start()
    video = opened(rtsp.url, timeout_s=5)
    streaming(video)
    rtsp.kill()
    assert lost(video)
    rtsp.start()
    streaming(video)
    assert video.losses == 1


@pytest.mark.long
def test_an_rtsp_camera_that_hangs_is_lost_and_comes_back(opened: Open, rtsp: RtspServer) -> None:
    """The kernel holds the connection, and nothing comes. FFmpeg itself would wait twice as long."""
    rtsp.start()
    video = opened(rtsp.url, timeout_s=4)
    streaming(video)
    rtsp.signal(signal.SIGSTOP)
    began = clock.mono_ns()
    assert lost(video) == "no data for 4 s"
    assert clock.mono_ns() - began < 7e9
    rtsp.signal(signal.SIGCONT)
    streaming(video)


@pytest.mark.usefixtures("gstreamer")
def test_an_rtsp_camera_with_a_password(opened: Open) -> None:
    """Without it the reason says that it is missing, and holds neither user nor password."""
    server = RtspServer("guest", SECRET)
    server.start()
    try:
        assert lost(opened(server.url, timeout_s=5)).startswith("Server returned 401")
        wrong = opened(server.url.replace("127", "guest:wrong-pw@127"), timeout_s=5)
        assert "wrong-pw" not in lost(wrong)
        streaming(opened(server.url.replace("127", f"guest:{SECRET}@127"), timeout_s=5))
    finally:
        server.kill()


# The whole camera


@pytest.mark.long
def test_the_camera_sends_a_stream_and_reports_its_loss(tmp_path: Path) -> None:
    """The source comes from a mounted file; its password is in no twin, message, log or written file."""
    routes = {"frames": "FROM /messages/modules/camera_sim/outputs/frames INTO $upstream"}
    server, mounted = MjpegServer(), tmp_path / "source"
    with ExitStack() as stack:
        simulated = stack.enter_context(SimulatedHub(tmp_path, modules=("camera_sim",), routes=routes))
        with server.serving():
            mounted.write_text(server.url.replace("127.0.0.1", f"guest:{SECRET}@127.0.0.1"))
            camera = Camera(simulated, tmp_path, CAMERA_SOURCE="", CAMERA_SOURCE_FILE=str(mounted))
            stack.callback(camera.process.wait)
            stack.callback(camera.process.kill)
            simulated.desire("camera_sim", camera={"fps": 20, "ledger": True, "credit": 0})
            camera.status(lambda status: status.get("stored", 0) >= 10)
            child = _child_of(camera.process.pid)
        status = camera.status(lambda status: status["state"]["name"] == "lost")
        assert status["source"] == f"video http://127.0.0.1:{server.port}/mjpeg"
        assert status["state"]["reason"]
        log = camera.send_log()
        assert all(0 <= line["mailbox"] < 10**9 for line in log)
        upstream = simulated.upstream()
        assert all(int(line["Properties"]["mono"]) <= int(line["Properties"]["taken"]) for line in upstream)
        assert {line["SystemProperties"]["contentType"] for line in upstream} == {"image/jpeg"}
        stored = status["stored"]
        with server.serving():
            camera.status(lambda status: status["stored"] > stored)
            simulated.desire("camera_sim", camera={"fps": 20, "source": "scene:", "credit": 0})
            camera.status(lambda status: status["source"] == "scene 7")
        twin = json.dumps(simulated.twin("camera_sim"))
        camera.process.send_signal(signal.SIGKILL)  # no time to tidy up: the decoder must end by itself
        camera.process.wait()
        _gone(child)
        written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        texts = [path.read_bytes().decode(errors="replace") for path in [*written, tmp_path / "camera.log"]]
        assert SECRET not in "".join([twin, json.dumps(upstream), *texts])


def _child_of(pid: int) -> int:
    """The decoder of a camera."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for path in children for child in path.read_text().split()]
    assert len(found) == 1
    return found[0]


def _gone(pid: int) -> None:
    """Wait until the process has ended."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_wrong_source_ends_the_camera_with_one_line(tmp_path: Path) -> None:
    """It names the variable and the cure, and not the text."""
    run = subprocess.run(
        [sys.executable, "-m", "camera_sim"],
        env={**minimal_environment(), "CAMERA_SOURCE": f"gopher://u:{SECRET}@gate/"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 1
    event = json.loads(run.stdout.splitlines()[-1])
    assert event["event"].startswith("CAMERA_SOURCE: unknown kind of source; cure: one of folder:PATH")
    assert SECRET not in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
