"""The camera in its own process, with the real simulator."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.wire.simulated_hub import SimulatedHub, minimal_environment

ROUTES = {"frames": "FROM /messages/modules/camera_sim/outputs/frames INTO $upstream"}


class Camera:
    """`python -m camera_sim` with the environment that edgeAgent provides."""

    def __init__(self, simulated: SimulatedHub, folder: Path, **environment: str) -> None:
        self.simulated = simulated
        self.data = folder / "data"
        self._log = folder / "camera.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "camera_sim"],
                stdout=log,
                stderr=log,
                env={
                    **minimal_environment(),
                    **simulated.environment("camera_sim"),
                    "DATA_FOLDER": str(self.data),
                    **environment,
                },
            )

    def status(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The reported `cameraStatus`, once it meets the condition."""
        deadline = time.monotonic() + 60
        while True:
            status: dict[str, Any] = self.simulated.twin("camera_sim")["reported"].get("cameraStatus", {})
            if condition(status):
                return status
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, status
            time.sleep(0.05)

    def stop(self) -> tuple[int, float]:
        """Send SIGTERM. Returns the exit status and the seconds until the exit."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60), time.monotonic() - begin

    def events(self) -> list[dict[str, Any]]:
        """The events of its log."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    def send_log(self) -> list[dict[str, Any]]:
        """The lines of its send log."""
        return [json.loads(line) for line in (self.data / "sent.jsonl").read_text().splitlines()]


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[SimulatedHub]:
    """A hub that routes frames upstream."""
    with SimulatedHub(tmp_path, modules=("camera_sim",), routes=ROUTES) as hub:
        yield hub


@pytest.fixture
def camera(simulated: SimulatedHub, tmp_path: Path) -> Iterator[Camera]:
    """A camera with a folder of three pictures, one of them broken."""
    pictures = tmp_path / "pictures"
    for name in ("3/a.png", "4/b.jpg"):
        (pictures / name).parent.mkdir(parents=True)
        Image.effect_noise((28, 28), 80).save(pictures / name)
    (pictures / "z.png").write_bytes(b"broken")
    camera = Camera(simulated, tmp_path, CAMERA_FOLDER=str(pictures))
    yield camera
    camera.process.kill()
    camera.process.wait()


def test_all_frames_of_a_run_arrive_and_are_in_the_send_log(camera: Camera, simulated: SimulatedHub) -> None:
    """Each frame is upstream with its properties and has a line in the send log; SIGTERM ends the process."""
    simulated.desire("camera_sim", camera={"fps": 100, "frames": 30, "ledger": True, "encoding": "as_is"})
    status = camera.status(lambda status: status.get("done"))
    assert (status["sent"], status["stored"], status["dropped"], status["unreadable"]) == (30, 30, 0, 1)
    assert status["source"].endswith("3 pictures")
    answer = simulated.twin("camera_sim")["reported"]["camera"]
    assert (answer["ac"], answer["value"]["frames"], answer["av"]) == (200, 30, 3)
    upstream = simulated.upstream()
    assert [int(line["Properties"]["seq"]) for line in upstream] == list(range(30))
    assert [line["Properties"]["truth"] for line in upstream[:2]] == ["3", "4"]
    assert [line["SystemProperties"]["contentType"] for line in upstream[:2]] == ["image/png", "image/jpeg"]
    assert upstream[7]["SystemProperties"]["messageId"] == f"camera-{status['run']}-7"
    # in the order of the PUBACKs, which on a busy machine is not that of the frames
    assert sorted(each["seq"] for each in camera.send_log()) == list(range(30))
    status_code, seconds = camera.stop()
    assert status_code == 0
    assert seconds < 45  # the SDK's threads alone delay the exit by a minute
    assert camera.events()[-1]["event"] == "stopped: SIGTERM"
    assert camera.events()[-1]["left"] == {"frames": 0, "unsent": 0}


def test_an_invalid_section_keeps_the_camera_running(camera: Camera, simulated: SimulatedHub) -> None:
    """The reported answer names each invalid field; the camera goes on sending frames."""
    simulated.desire("camera_sim", camera={"fps": "fast", "credit": 0, "colour": "red"})
    before = camera.status(lambda status: status.get("stored", 0) > 3)["stored"]
    answer = simulated.twin("camera_sim")["reported"]["camera"]
    assert answer["ac"] == 400
    assert "fps: " in answer["ad"]
    assert "colour: " in answer["ad"]
    camera.status(lambda status: status.get("stored", 0) > before)


def test_a_killed_hub_loses_no_frame_of_the_send_log(camera: Camera, simulated: SimulatedHub) -> None:
    """Every frame in the send log was stored, and is upstream although the hub was killed."""
    simulated.desire("camera_sim", camera={"fps": 100, "frames": 200, "credit": 0, "ledger": True})
    camera.status(lambda status: status.get("stored", 0) > 20)
    simulated.kill()
    simulated.start()
    status = camera.status(lambda status: status.get("done"))
    assert (status["sent"], status["stored"], status["dropped"]) == (200, 200, 0)
    recorded = {each["seq"] for each in camera.send_log()}
    assert recorded == set(range(200))
    assert recorded <= {int(line["Properties"]["seq"]) for line in simulated.upstream()}
