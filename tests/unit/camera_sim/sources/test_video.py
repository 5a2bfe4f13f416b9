"""Video files, decoded by a real child process."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("av", reason="PyAV is not installed: camera_sim[video]")

from camera_sim.sources import video as video_module
from camera_sim.sources.address import Address
from camera_sim.sources.decoder import fitted
from camera_sim.sources.picture import Picture
from camera_sim.sources.settings import SceneDials, VideoSettings
from camera_sim.sources.video import Video
from edgekit import clock
from tests.unit.camera_sim.sources.videos import until, write_video

Open = Callable[..., Video]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens videos, and closes them after the test."""
    videos: list[Video] = []

    def open_video(path: Path, **settings: object) -> Video:
        videos.append(Video(Address("file", str(path)), VideoSettings.model_validate(settings)))
        return videos[-1]

    yield open_video
    for each in videos:
        each.close()


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("libx265", "a.mkv"), ("mjpeg", "a.avi")])
def test_a_file_is_played_in_a_loop(opened: Open, tmp_path: Path, codec: str, name: str) -> None:
    """H.264, H.265 and MJPEG; brightness falls when the file begins again."""
    video = opened(write_video(tmp_path / name, frames=15, codec=codec))
    grey: list[int] = []

    def restarted(pictures: list[Picture]) -> bool:
        grey[:] = [each.image.tobytes()[0] for each in pictures]
        return any(after < before - 60 for before, after in pairwise(grey))

    pictures = until(video, restarted)
    assert {picture.image.size for picture in pictures} == {(64, 48)}
    assert all(picture.lossy and picture.truth is None for picture in pictures)
    assert video.state.name == "streaming"
    assert str(video) == f"video file:{tmp_path / name}"


def test_captured_is_the_time_at_which_the_picture_was_read(opened: Open, tmp_path: Path) -> None:
    """In both clocks, before `next` returns it and after it was asked for the first time; each comes once."""
    begin = clock.mono_ns(), clock.wall_ns()
    video = opened(write_video(tmp_path / "a.mp4"))
    pictures = until(video, lambda found: len(found) >= 8)
    stamps = [picture.captured for picture in pictures if picture.captured is not None]
    assert len(stamps) == len(pictures)
    monos = [mono for _wall, mono in stamps]
    assert monos == sorted(set(monos))
    assert begin[0] < monos[0] <= monos[-1] <= clock.mono_ns()
    assert begin[1] < stamps[0][0] <= clock.wall_ns()


def test_a_slow_camera_gets_the_latest_picture_and_no_backlog(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder goes on meanwhile: the next picture is new, also if an older one was asked for in vain."""
    video = opened(write_video(tmp_path / "a.mp4", frames=600))
    until(video, lambda found: found)
    monkeypatch.setattr(video_module, "_WAIT_S", 0.0)
    assert video.next() is None
    monkeypatch.undo()
    time.sleep(1.5)  # forty-five pictures of the file
    asked = clock.mono_ns()
    later = until(video, lambda found: found)[0]
    assert later.captured is not None
    assert asked - later.captured[1] < 1_000_000_000


def test_a_file_that_is_played_once_ends_and_may_begin_again(opened: Open, tmp_path: Path) -> None:
    """`ended` is no loss; nothing opens the file again until the twin says `loop`."""
    video = opened(write_video(tmp_path / "a.mp4", frames=5), loop=False)
    until(video, lambda _found: video.state.name == "ended")
    assert (video.state.reason, video.losses) == ("the file has been played", 0)
    assert video.next() is None
    video.configure(SceneDials(), VideoSettings(loop=True))
    until(video, lambda found: len(found) > 8)
    assert video.state.name == "streaming"


def test_large_pictures_are_scaled_by_the_decoder(opened: Open, tmp_path: Path) -> None:
    """The proportions stay; the twin changes the size at run time; small pictures stay as they are."""
    video = opened(write_video(tmp_path / "a.mp4", frames=10, size=(320, 180)), maxSide=160)
    assert until(video, lambda found: found)[0].image.size == (160, 90)
    video.configure(SceneDials(), VideoSettings(max_side=640))
    assert until(video, lambda found: found and found[-1].image.width > 160)[-1].image.size == (320, 180)
    assert fitted(3, 2_000, 640) == (1, 640)


def test_a_change_of_the_resolution_is_followed(opened: Open, tmp_path: Path) -> None:
    """Two streams of different size in one file, as a camera sends when its settings change."""
    whole = tmp_path / "a.h264"
    small = write_video(tmp_path / "b.h264", frames=10, size=(64, 48)).read_bytes()
    large = write_video(tmp_path / "c.h264", frames=10, size=(128, 96)).read_bytes()
    whole.write_bytes(small + large)
    video = opened(whole)
    until(video, lambda found: {each.image.size for each in found} == {(64, 48), (128, 96)})
    assert video.losses == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        (b"", "Invalid data found when processing input"),
        (b"\0" * 1_000_000, "Invalid data found when processing input"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "Invalid argument"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n", "Invalid"),
    ],
    ids=["none", "empty", "zeros", "concat", "playlist"],
)
def test_a_file_without_video_is_lost_with_its_reason(
    opened: Open, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """Playlists, which could name other files, are not followed. A whole file is found soon after."""
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    video = opened(path)
    until(video, lambda _found: video.state.name == "lost")
    assert video.state.reason.startswith(reason)
    write_video(tmp_path / "whole.mp4").rename(path)
    until(video, lambda found: found)
    assert (video.state.name, video.losses) == ("streaming", 1)


def test_a_sound_file_has_no_video(opened: Open, tmp_path: Path) -> None:
    """The reason says so."""
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=8_000)
        frame.sample_rate = 8_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    video = opened(path)
    until(video, lambda _found: video.state.name == "lost")
    assert video.state.reason == "there is no video in it"


def child_of(video: Video) -> int:
    """The process id of the decoder."""
    child = video._child
    assert child is not None
    return child.pid


def test_a_crash_of_the_decoder_is_a_loss_and_no_end(opened: Open, tmp_path: Path) -> None:
    """Another child decodes a moment later."""
    video = opened(write_video(tmp_path / "a.mp4"))
    until(video, lambda found: found)
    os.kill(child_of(video), signal.SIGSEGV)
    until(video, lambda _found: video.state.name == "lost")
    assert video.state.reason == "the decoder has crashed"
    until(video, lambda found: found)
    assert video.losses == 1


def test_a_decoder_that_hangs_is_replaced(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg may wait where no time-out reaches it."""
    monkeypatch.setattr(video_module, "_GRACE_S", 1.0)
    video = opened(write_video(tmp_path / "a.mp4"), timeoutS=1.0)
    until(video, lambda found: found)
    hung = child_of(video)
    os.kill(hung, signal.SIGSTOP)
    until(video, lambda _found: video.state.name == "lost")
    assert video.state.reason == "no picture for 2 s"
    until(video, lambda found: found)
    assert child_of(video) != hung


def test_close_leaves_no_process(opened: Open, tmp_path: Path) -> None:
    """Neither the decoder nor the thread."""
    video = opened(write_video(tmp_path / "a.mp4"))
    until(video, lambda found: found)
    child = child_of(video)
    video.close()
    assert not video._thread.is_alive()
    assert not Path(f"/proc/{child}").exists()
