"""The source in force, and its change by the twin."""

from pathlib import Path

import pytest
from PIL import Image

from camera_sim.selector import Selector
from camera_sim.settings import CameraEnvironment, CameraSettings, SettingsError
from camera_sim.sources import table
from camera_sim.sources.address import Address, SourceError
from tests.unit.camera_sim.test_camera import Bench


def environment(folder: Path, **variables: str) -> CameraEnvironment:
    """The camera's environment with a data folder."""
    return CameraEnvironment.read({"DATA_FOLDER": str(folder), **variables})


def test_the_environment_names_the_source(tmp_path: Path) -> None:
    """CAMERA_SOURCE, else the file, else the folder, else the scene; an undefined variable is none."""
    file = tmp_path / "source"
    file.write_text("rtsp://guest:hunter2@gate/live\n")
    pictures = {"CAMERA_FOLDER": str(tmp_path)}
    assert environment(tmp_path, CAMERA_SOURCE="scene:9").source == Address("scene", "9")
    read = environment(tmp_path, CAMERA_SOURCE="$CAMERA_SOURCE", CAMERA_SOURCE_FILE=str(file), **pictures)
    assert read.source == Address("rtsp", "rtsp://guest:hunter2@gate/live")
    assert "hunter2" not in repr(read)
    assert environment(tmp_path, **pictures).source == Address("folder", str(tmp_path))
    assert environment(tmp_path).source == Address("scene", "")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"CAMERA_SOURCE": "ftp://u:hunter2@gate/"}, "CAMERA_SOURCE: unknown kind of source; cure: "),
        ({"CAMERA_SOURCE_FILE": "/nowhere"}, "CAMERA_SOURCE_FILE=/nowhere: FileNotFoundError; cure"),
        ({"CAMERA_SOURCE": "file:/etc/passwd", "CAMERA_FOLDER": "/videos"}, "CAMERA_SOURCE: file: outside"),
    ],
)  # fmt: skip
def test_a_bad_source_of_the_environment_names_its_variable(
    tmp_path: Path, variables: dict[str, str], named: str
) -> None:
    """And never its password."""
    with pytest.raises(SettingsError) as refused:
        environment(tmp_path, **variables)
    assert str(refused.value).startswith(named)
    assert "hunter2" not in str(refused.value)


def test_without_pyav_a_video_is_refused_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the environment and by the twin."""
    monkeypatch.setattr(table, "can_decode", lambda: False)
    with pytest.raises(SettingsError, match=r"cure: install camera_sim\[video\]"):
        environment(tmp_path, CAMERA_SOURCE="rtsp://gate/live")
    with pytest.raises(SourceError, match=r"cure: install camera_sim\[video\]"):
        Selector(environment(tmp_path)).request(CameraSettings(source="rtsp://gate/live"))


def test_the_twin_exchanges_the_source_and_gives_it_back(tmp_path: Path) -> None:
    """Frames of the other source follow with the next seq; without `source` the environment's is in force."""
    pictures = tmp_path / "pictures" / "seven"
    pictures.mkdir(parents=True)
    Image.new("L", (5, 4), 9).save(pictures / "a.png")
    bench = Bench(tmp_path, None, environment(tmp_path, CAMERA_FOLDER=str(tmp_path / "pictures")))
    bench.twin(fps=200, frames=2)
    assert {frame.truth for frame in bench.take(2)} == {"seven"}
    bench.twin(version=2, fps=200, frames=4, source="scene:3")
    frames = bench.take(2)
    assert ([frame.id.seq for frame in frames], {frame.width for frame in frames}) == ([2, 3], {28})
    status = bench.hub.wait(lambda reported: reported["cameraStatus"]["source"] == "scene 3")["cameraStatus"]
    assert (status["state"]["name"], status["state"]["reason"], status["state"]["lost"]) == (
        "streaming",
        None,
        0,
    )
    assert status["state"]["since"].endswith("Z")
    bench.twin(version=3, fps=200, frames=5, source="folder:seven")
    assert bench.take(1)[0].truth is None
    bench.twin(version=4, fps=200, frames=6)
    assert bench.take(1)[0].truth == "seven"
    bench.camera.stop(5)


@pytest.mark.parametrize(
    "source", ["rtsp://u:hunter2@gate/", "file:../x.mp4", "folder:/etc", "ftp://gate", "v4l2:/dev/sda"]
)
def test_a_bad_source_of_the_twin_changes_nothing(tmp_path: Path, source: str) -> None:
    """The answer is 400 with the reason, without the password, and the camera goes on."""
    bench = Bench(tmp_path, None, environment(tmp_path, CAMERA_FOLDER=str(tmp_path), CAMERA_SOURCE="scene:"))
    bench.twin(fps=200, frames=2)
    bench.take(2)
    bench.twin(version=2, fps=100, frames=3, source=source)
    answer = bench.hub.reported["camera"]
    assert (answer["ac"], answer["value"]["fps"], answer["ad"][:8]) == (400, 200, "source: ")
    assert "hunter2" not in str(bench.hub.reported)
    bench.twin(version=3, fps=200, frames=3)
    assert bench.take(1)[0].id.seq == 2
    bench.camera.stop(5)


def test_a_folder_without_pictures_is_lost(tmp_path: Path) -> None:
    """The status names the folder; the camera lists it again until there are pictures."""
    bench = Bench(tmp_path, None, environment(tmp_path, CAMERA_FOLDER=str(tmp_path / "later")))
    bench.twin(fps=200, frames=1)
    status = bench.hub.wait(
        lambda reported: reported.get("cameraStatus", {}).get("state", {}).get("name") == "lost"
    )["cameraStatus"]
    assert status["state"]["reason"] == f"no readable picture in {tmp_path / 'later'}"
    (tmp_path / "later").mkdir()
    Image.new("L", (5, 4), 9).save(tmp_path / "later" / "a.png")
    assert bench.take(1)[0].id.seq == 0
    bench.camera.stop(5)


def test_the_dials_of_the_scene_drop_and_damage_frames(tmp_path: Path) -> None:
    """A dropped picture takes its turn without a seq; a damaged one is sent, and cannot be decoded."""
    bench = Bench(tmp_path, None, environment(tmp_path))
    bench.twin(fps=500, frames=40, credit=0, scene={"dropped": 0.5, "corrupt": 0.5})
    frames = bench.take(40)
    assert [frame.id.seq for frame in frames] == list(range(40))
    broken = sum(not frame.image.endswith(b"IEND\xaeB`\x82") for frame in frames)
    assert 8 <= broken <= 32
    bench.camera.stop(5)
