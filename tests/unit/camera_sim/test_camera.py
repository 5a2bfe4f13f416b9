"""The camera with a fake hub."""

import base64
import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest
from PIL import Image

from camera_sim import encoding
from camera_sim.camera import SEND_LOG, Camera
from camera_sim.send_log import Sent, line
from camera_sim.settings import CameraEnvironment
from camera_sim.sources.address import Address
from camera_sim.sources.folder import Folder
from camera_sim.sources.picture import Picture, Source, State
from camera_sim.sources.scene import Scene
from edgekit import clock
from edgekit.frame.batch import frames_of
from edgekit.frame.message import Flow, Frame, Message
from edgekit.hub.connection import Twin

Sending = tuple[Frame, Callable[[int], None] | None]


class FakeHub:
    """Accepts messages and acknowledges them at once, unless `stores` is False."""

    def __init__(self) -> None:
        self.frames: SimpleQueue[Sending] = SimpleQueue()
        self.batches: list[int] = []  # how many frames each message held
        self.others: list[tuple[str, Message]] = []  # on other outputs
        self.reported: dict[str, Any] = {}
        self.changed = threading.Condition()
        self.stores = True
        self.full = False

    def send(self, output: str, message: Message, on_stored: Callable[[int], None] | None = None) -> bool:
        """As Hub.send."""
        if output != "frames":
            with self.changed:
                self.others.append((output, message))
                self.changed.notify_all()
            return True
        if self.full:
            return False
        frames = frames_of(message)
        self.batches.append(len(frames))
        for frame in frames:
            self.frames.put((frame, on_stored))
        if self.stores and on_stored is not None:
            on_stored(clock.mono_ns())
        return True

    def report(self, patch: Mapping[str, Any]) -> None:
        """As Hub.report."""
        with self.changed:
            self.reported |= patch
            self.changed.notify_all()

    def of(self, output: str) -> list[Message]:
        """The messages on this output."""
        return [message for name, message in self.others if name == output]

    def events(self) -> list[dict[str, Any]]:
        """The bodies of the events."""
        return [json.loads(message.body) for message in self.of("events")]

    def wait_other(self, condition: Callable[[], Any]) -> None:
        """Wait until a message on another output makes this true."""
        with self.changed:
            assert self.changed.wait_for(condition, 10), self.others

    def expect_none(self) -> None:
        """Assert that no frame comes for a tenth of a second, the time of a hundred frames."""
        with pytest.raises(Empty):
            self.frames.get(timeout=0.1)

    def wait(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The reported properties, once they meet the condition."""
        with self.changed:
            assert self.changed.wait_for(lambda: condition(self.reported), 10), self.reported
            return self.reported


class Bench:
    """A started camera with a FakeHub."""

    def __init__(
        self, folder: Path, source: Source | None, environment: CameraEnvironment | None = None
    ) -> None:
        self.folder = folder
        self.hub = FakeHub()
        self.camera = Camera(environment or CameraEnvironment("camera", Address("scene", ""), folder), source)
        self.camera.attach(self.hub)
        self.camera.start()

    def twin(self, version: int = 1, **section: object) -> None:
        """The camera receives a twin with this section."""
        self.camera.on_twin(Twin({"camera": section, "$version": version}, {"$version": 1}))

    def flow(self, flow: Flow) -> None:
        """The camera receives this flow message."""
        self.camera.on_flow(flow.to_message(), 0)

    def take(self, count: int) -> list[Frame]:
        """The next frames."""
        return [self.hub.frames.get(timeout=10)[0] for _ in range(count)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A camera with the scene as its source."""
    bench = Bench(tmp_path, Scene())
    yield bench
    bench.camera.stop(5)


def test_no_frame_before_the_first_twin(bench: Bench) -> None:
    """The twin may request a send log, which must hold every frame."""
    bench.hub.expect_none()
    bench.twin(fps=1000, frames=1)
    assert bench.take(1)[0].id.seq == 0


def test_a_run_of_n_frames_ends_and_reports_done(bench: Bench) -> None:
    """Exactly N frames, numbered from 0, with one run id, truth and timestamps; then `done`."""
    bench.twin(fps=1000, frames=5)
    status = bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))["cameraStatus"]
    frames = bench.take(5)
    bench.hub.expect_none()
    assert [frame.id.seq for frame in frames] == list(range(5))
    assert {(frame.id.camera, frame.id.run) for frame in frames} == {("camera", status["run"])}
    assert all(frame.truth in set("0123456789") for frame in frames)
    assert all(frame.mono <= frame.encoded for frame in frames)
    assert {frame.boot for frame in frames} == {clock.boot_id()}
    assert (status["sent"], status["stored"], status["dropped"]) == (5, 5, 0)
    assert status["source"] == "scene 7"


def test_the_section_is_answered(bench: Bench) -> None:
    """In the form of IoT Plug and Play; an invalid section keeps the settings in force."""
    bench.twin(version=4, fps=5, paused=True)
    assert bench.hub.reported["camera"]["ac"] == 200
    bench.twin(version=5, fps=-5)
    answer = bench.hub.reported["camera"]
    assert (answer["ac"], answer["av"], answer["value"]["fps"]) == (400, 5, 5)
    assert answer["ad"].startswith("fps: ")


def test_an_unchanged_answer_is_not_reported_again(bench: Bench) -> None:
    """Each connect reads the whole twin; only a changed answer is reported."""
    bench.twin(version=4, paused=True)
    reported = {"camera": bench.hub.reported.pop("camera")}
    bench.camera.on_twin(Twin({"camera": {"paused": True}, "$version": 4}, reported))
    assert "camera" not in bench.hub.reported


def test_credit_stops_the_camera_until_a_flow_message(bench: Bench) -> None:
    """At most `credit` frames are in flight; a flow message frees them only if it names this run."""
    bench.twin(fps=1000, credit=3)
    run = bench.take(3)[-1].id.run
    bench.hub.expect_none()
    bench.flow(Flow("camera", "0" * 16, 2))
    bench.flow(Flow("other", run, 2))
    bench.camera.on_flow(Message(b"nonsense", {}), 0)
    bench.hub.expect_none()
    bench.flow(Flow("camera", run, 1))
    assert [frame.id.seq for frame in bench.take(2)] == [3, 4]
    bench.flow(Flow.fresh())
    assert [frame.id.seq for frame in bench.take(3)] == [5, 6, 7]


def test_pause_and_resume_by_method_and_by_twin(bench: Bench) -> None:
    """The last request wins; a twin whose `paused` has not changed is no request."""
    bench.twin(fps=1000, paused=True)
    bench.hub.expect_none()
    assert bench.camera.pause(False).payload == {"paused": False}
    bench.take(2)
    assert bench.camera.pause(True).status == 200
    bench.twin(version=2, fps=999, paused=True)
    bench.twin(version=3, fps=999, paused=False)
    bench.take(2)


def test_the_rate_by_method_and_by_twin(bench: Bench) -> None:
    """`set_rate` is in force until the twin changes `fps`; reading the same twin again changes nothing."""
    bench.twin(fps=0.001)
    bench.take(1)
    assert bench.camera.set_rate({"fps": 1000}).payload == {"fps": 1000}
    bench.take(3)
    bench.twin(fps=0.001)
    bench.take(3)
    bench.twin(fps=0.002)
    while not bench.hub.frames.empty():
        bench.take(1)
    with contextlib.suppress(Empty):
        bench.hub.frames.get(timeout=0.1)  # a frame that was due before the twin came
    bench.hub.expect_none()


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"fps": 0}, "fps: "),
        ({"fps": "10"}, "fps: "),
        ({"fps": 5, "frames": 1}, "frames: "),
        ("", "fps: Field required"),
        (7, "must be an object"),
    ],
)
def test_an_invalid_rate_is_refused(bench: Bench, payload: object, named: str) -> None:
    """The answer is 400 and names the field."""
    answer = bench.camera.set_rate(payload)
    assert answer.status == 400
    assert answer.payload["error"].startswith(named)


def test_a_snapshot_is_the_last_picture(bench: Bench) -> None:
    """The answer holds the bytes and the identity of the last frame; before the first frame it is 409."""
    assert bench.camera.snapshot().status == 409
    bench.twin(fps=1000, frames=3)
    last = bench.take(3)[-1]
    answer = bench.camera.snapshot()
    assert answer.status == 200
    found = answer.payload
    assert base64.b64decode(found["body"]) == last.image
    assert (found["camera"], found["run"], found["seq"]) == ("camera", last.id.run, 2)
    assert (found["contentType"], found["width"], found["height"], found["channels"]) == (
        last.content_type,
        last.width,
        last.height,
        last.channels,
    )
    assert found["scaled"] is False


def test_a_large_snapshot_is_shrunk_to_fit_the_answer(tmp_path: Path) -> None:
    """A method's answer has at most 128 KB, and base64 makes a picture larger."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.effect_noise((480, 400), 90).save(pictures / "noise.png")
    bench = Bench(tmp_path, Folder(pictures))
    bench.twin(fps=1000, frames=1)
    assert len(bench.take(1)[0].image) > 128 * 1024
    found = bench.camera.snapshot().payload
    bench.camera.stop(5)
    assert found["scaled"] is True
    assert len(json.dumps(found)) <= 128 * 1024
    with Image.open(io.BytesIO(base64.b64decode(found["body"]))) as image:
        assert (image.format, *image.size) == ("JPEG", found["width"], found["height"])


def test_the_send_log_has_a_line_for_each_stored_frame(bench: Bench) -> None:
    """The demo and the bench count lost frames from it."""
    bench.twin(fps=1000, frames=4, ledger=True)
    bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))
    lines = [json.loads(text) for text in (bench.folder / SEND_LOG).read_text().splitlines()]
    frames = bench.take(4)
    assert [each["seq"] for each in lines] == [0, 1, 2, 3]
    assert [each["bytes"] for each in lines] == [len(frame.image) for frame in frames]
    assert [each["truth"] for each in lines] == [frame.truth for frame in frames]
    assert all(each["captured"] <= each["stored"] for each in lines)


def test_a_frame_that_the_outbox_refuses_is_counted_and_not_logged(bench: Bench) -> None:
    """The run still ends, and the frame no longer counts against the credit."""
    bench.hub.full = True
    bench.twin(fps=1000, frames=3, credit=1, ledger=True)
    status = bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))["cameraStatus"]
    assert (status["sent"], status["stored"], status["dropped"]) == (0, 0, 3)
    assert not (bench.folder / SEND_LOG).exists()


def test_done_waits_for_the_last_puback(bench: Bench) -> None:
    """A frame that is sent but not stored is not done."""
    bench.hub.stores = False
    bench.twin(fps=1000, frames=2)
    sendings = [bench.hub.frames.get(timeout=10) for _ in range(2)]
    assert not bench.hub.reported.get("cameraStatus", {}).get("done")
    for _frame, on_stored in sendings:
        assert on_stored is not None
        on_stored(clock.mono_ns())
    bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))


def test_stop_returns_how_many_frames_are_not_stored(bench: Bench) -> None:
    """The last line of the log shows this count."""
    bench.hub.stores = False
    bench.twin(fps=1000, frames=2)
    bench.take(2)
    assert bench.camera.stop(5) == {"frames": 2}


def test_a_picture_that_cannot_be_encoded_is_counted_with_its_reason(tmp_path: Path) -> None:
    """It gets no seq, so the seqs of the frames have no gap."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Scene().next().image.resize((600, 600)).save(pictures / "a.png")
    Scene().next().image.save(pictures / "b.png")
    bench = Bench(tmp_path, Folder(pictures))
    bench.twin(fps=1000, frames=2, encoding="raw")
    status = bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))["cameraStatus"]
    assert [frame.id.seq for frame in bench.take(2)] == [0, 1]
    assert status["refused"] == 2
    assert status["refusal"].startswith("a.png: 360000 bytes as raw")
    bench.camera.stop(5)


def test_a_source_that_fails_does_not_end_the_camera(tmp_path: Path) -> None:
    """The camera asks the source again a second later."""

    class Broken(Scene):
        failures = 1

        def next(self) -> Any:
            if self.failures:
                self.failures -= 1
                raise OSError("disk")
            return super().next()

    bench = Bench(tmp_path, Broken())
    bench.twin(fps=1000)
    assert bench.take(1)[0].id.seq == 0
    bench.camera.stop(5)


def test_an_encoder_that_fails_does_not_end_the_camera(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is counted, the reason names the exception, and the next picture is sent."""
    failures = [OSError("broken data stream")]

    def encode(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return encoding.encode(*arguments)

    monkeypatch.setattr("camera_sim.camera.encode", encode)
    bench = Bench(tmp_path, Scene())
    bench.twin(fps=1000, frames=1)
    status = bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))["cameraStatus"]
    assert [frame.id.seq for frame in bench.take(1)] == [0]
    assert (status["refused"], status["refusal"].endswith(": OSError as png")) == (1, True)
    bench.camera.stop(5)


def test_a_line_of_the_send_log() -> None:
    """The demo and the bench read these seven fields."""
    sent = Sent("camera", "0123456789abcdef", 7, None, 5, 99)
    assert json.loads(line(sent, stored=6)) == {
        "camera": "camera",
        "run": "0123456789abcdef",
        "seq": 7,
        "truth": None,
        "captured": 5,
        "stored": 6,
        "bytes": 99,
    }


def test_batches_are_full_except_the_last(bench: Bench) -> None:
    """Seven frames in batches of three are two full messages and one with the last frame."""
    bench.twin(fps=1000, frames=7, batch=3, ledger=True)
    status = bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))["cameraStatus"]
    assert [frame.id.seq for frame in bench.take(7)] == list(range(7))
    assert bench.hub.batches == [3, 3, 1]
    assert (status["sent"], status["stored"]) == (7, 7)
    lines = (bench.folder / SEND_LOG).read_text().splitlines()
    assert [json.loads(each)["seq"] for each in lines] == list(range(7))


@pytest.mark.parametrize("stops", [{"credit": 4}, {"frames": 4}])
def test_a_batch_that_cannot_become_full_is_sent(bench: Bench, stops: dict[str, int]) -> None:
    """Without credit, or after the last frame, the buffered frames would wait for ever."""
    bench.twin(fps=1000, batch=100, **stops)
    assert len(bench.take(4)) == 4
    assert bench.hub.batches == [4]


class CountedScene(Scene):
    """Signals when the camera asks for the second picture: it then holds the first."""

    def __init__(self) -> None:
        super().__init__()
        self.second = threading.Event()

    def picture(self, number: int) -> Picture:
        """As Scene."""
        if number == 1:
            self.second.set()
        return super().picture(number)


def test_a_paused_camera_sends_its_buffered_frames(tmp_path: Path) -> None:
    """A pause may last for hours."""
    scene = CountedScene()
    bench = Bench(tmp_path, scene)
    bench.twin(fps=20, batch=100)
    assert scene.second.wait(10)
    bench.camera.pause(True)
    assert bench.take(1)[0].id.seq == 0
    bench.camera.stop(5)


def test_a_stopped_camera_sends_its_buffered_frames(bench: Bench) -> None:
    """Every frame that the camera has counted is sent."""
    bench.twin(fps=1000, batch=256, credit=0)
    bench.take(256)
    bench.camera.stop(5)
    assert sum(bench.hub.batches) == bench.hub.reported["cameraStatus"]["stored"]


def test_a_batch_ends_at_the_size_limit_of_a_message(tmp_path: Path) -> None:
    """Two pictures of 100 KB fit into a message; no frame is lost."""
    Image.frombytes("L", (320, 320), bytes(320 * 320)).save(tmp_path / "a.png")
    large = Bench(tmp_path, Folder(tmp_path))
    large.twin(fps=1000, frames=5, batch=256, encoding="raw")
    assert [frame.id.seq for frame in large.take(5)] == list(range(5))
    assert large.hub.batches == [2, 2, 1]
    large.camera.stop(5)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_folder_name_that_is_not_valid_text_does_not_stop_the_camera(tmp_path: Path, batch: int) -> None:
    """Invalid characters of the truth are replaced."""
    (tmp_path / "sieben\udcff").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "sieben\udcff" / "a.png")
    bench = Bench(tmp_path / "data", Folder(tmp_path))
    bench.twin(fps=1000, frames=2, batch=batch, ledger=True)
    bench.hub.wait(lambda reported: reported.get("cameraStatus", {}).get("done"))
    assert [frame.truth for frame in bench.take(2)] == ["sieben?", "sieben?"]
    bench.camera.stop(5)


def test_a_paused_camera_still_shows_its_sign_of_life(tmp_path: Path) -> None:
    """HEALTHCHECK in the image looks at the age of the file."""
    file = tmp_path / "alive"
    camera = Camera(CameraEnvironment("camera", Address("scene", ""), tmp_path, file), Scene())
    camera.attach(FakeHub())
    camera.start()
    for _ in range(2):  # at the start, and while no frame is allowed
        deadline = clock.mono_ns() + 10_000_000_000
        while not file.exists():
            assert clock.mono_ns() < deadline
        file.unlink()
    camera.stop(5)


class Fragile(Scene):
    """A scene whose state the test sets; it holds no picture while it is lost."""

    def next(self) -> Picture | None:  # type: ignore[override]
        """None while lost."""
        return super().next() if self.state.name == "streaming" else None


def test_the_event_camera_says_each_change_of_the_source(tmp_path: Path) -> None:
    """Streaming, lost with the reason, and back; paused, and with another rate; a change is no repeat."""
    source = Fragile()
    bench = Bench(tmp_path, source)
    try:
        bench.twin(fps=50)
        bench.hub.wait_other(bench.hub.events)
        source.state = State("lost", "Connection refused", 1_700_000_000 * 10**9)
        bench.hub.wait_other(lambda: bench.hub.events()[-1]["state"] == "lost")
        source.state = State("streaming")
        bench.hub.wait_other(lambda: bench.hub.events()[-1]["state"] == "streaming")
        bench.camera.pause(True)
        bench.hub.wait_other(lambda: bench.hub.events()[-1]["paused"])
        bench.camera.set_rate({"fps": 7})
        bench.hub.wait_other(lambda: bench.hub.events()[-1]["fps"] == 7)
    finally:
        bench.camera.stop(5)
    first, lost, back = bench.hub.events()[:3]
    assert (first["paused"], first["fps"]) == (False, 50)
    assert (first["kind"], first["camera"], first["source"]) == ("camera", "camera", "scene 7")
    assert (lost["reason"], lost["since"]) == ("Connection refused", "2023-11-14T22:13:20Z")
    assert [each["repeated"] for each in (first, lost, back)] == [False, False, False]


def test_a_paused_camera_repeats_its_event(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that starts later learns the present state, without a frame."""
    monkeypatch.setattr("edgekit.events.REPEAT_NS", 0)
    bench.twin(paused=True)
    bench.hub.wait_other(lambda: [each["repeated"] for each in bench.hub.events()][-2:] == [False, True])


def test_there_is_no_preview_until_a_page_asks_for_it(bench: Bench) -> None:
    """Method `preview` starts a lease; each preview has the identity of a frame that was sent."""
    bench.twin(fps=1000, frames=50, credit=0)
    frames = bench.take(50)
    assert bench.hub.of("preview") == []
    assert bench.camera.lease_preview({"fps": 5, "leaseSeconds": 15}).status == 200
    bench.twin(fps=1000, frames=100, credit=0)
    frames += bench.take(50)
    bench.hub.wait_other(lambda: bench.hub.of("preview"))
    message = bench.hub.of("preview")[0]
    sent = {(str(frame.id.seq), frame.id.run, frame.truth) for frame in frames}
    assert (message.properties["seq"], message.properties["run"], message.properties["truth"]) in sent


def test_the_twin_forbids_previews(bench: Bench) -> None:
    """The method is answered with the reason, and a lease from before gives no more pictures."""
    assert bench.camera.lease_preview(None).status == 200
    bench.twin(fps=1000, frames=50, credit=0, preview={"allow": False})
    bench.take(50)
    assert bench.hub.of("preview") == []
    answer = bench.camera.lease_preview(None)
    assert (answer.status, answer.payload) == (
        409,
        {"error": "the camera's twin forbids it: preview.allow is false"},
    )
    assert bench.camera.lease_preview({"fps": 99}).status == 400


def test_a_preview_that_cannot_be_made_does_not_stop_the_frames(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its frame was sent before it."""

    def fail(*_arguments: object) -> None:
        raise OSError("broken")

    monkeypatch.setattr("camera_sim.camera.preview_message", fail)
    bench.twin(fps=1000, frames=20, preview={"maxFps": 5})
    assert len(bench.take(20)) == 20
