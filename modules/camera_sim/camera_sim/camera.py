"""The camera: takes a frame when it is due and credit allows it, sends it and counts it."""

import base64
import functools
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Thread
from typing import Any, Protocol

from camera_sim.batch_buffer import BatchBuffer
from camera_sim.credit import Credit
from camera_sim.encoding import CannotEncode, Encoded, encode, within
from camera_sim.pacing import Pacer
from camera_sim.selector import Selector
from camera_sim.send_log import SendLog, Sent
from camera_sim.settings import CameraEnvironment, CameraSettings, RateRequest
from camera_sim.sources.address import SourceError
from camera_sim.sources.picture import Picture, Source
from camera_sim.status import DROPPED, REFUSED, SENT, STORED, Counts, camera_status
from edgekit import clock
from edgekit.frame.message import BadFrame, Flow, Frame, FrameId, Message
from edgekit.health_file import HealthFile
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from edgekit.settings import PnpAnswer, validate

logger = logging.getLogger(__name__)

SEND_LOG = "sent.jsonl"
_STATUS_NS = 2_000_000_000
_IDLE_S = 0.5  # longest sleep: a status report may become due
_FAILED_NS = 1_000_000_000  # pause after an exception of the source
_MAX_SNAPSHOT_BYTES = 96 * 1024 - 1024  # 128 KiB is a method's limit (ref 3): base64 and other fields
_MAX_TRUTH = 128  # characters that a frame may have


class HubPort(Protocol):
    """The part of edgekit.hub.connection.Hub that the camera uses."""

    def send(self, output: str, message: Message, on_stored: Callable[[int], None] | None = None) -> bool: ...
    def report(self, patch: Mapping[str, Any]) -> None: ...


class Camera:
    """One run of one camera. One thread takes frames; the hub's threads call `on_flow` and `on_twin`."""

    def __init__(self, environment: CameraEnvironment, source: Source | None = None) -> None:
        self._name = environment.name
        self._sources = Selector(environment, source)
        self._run = secrets.token_hex(8)
        self._send_log = SendLog(environment.data_folder / SEND_LOG)
        self._health_file = HealthFile(environment.health_file)
        self._hub: HubPort | None = None
        self._settings = CameraSettings()
        self._configured = False  # no frame before the first twin, which may request a send log
        self._paused = False
        self._fps = self._settings.fps
        self._last: tuple[FrameId, Encoded] | None = None
        self._stopping = False
        self._changed = Condition()
        self._pacer = Pacer()
        self._credit = Credit()
        self._buffer = BatchBuffer()  # used by the camera thread only
        self._counts = Counts()
        self._no_picture_until_ns = 0
        self._refusal = ""
        self._reported: dict[str, Any] = {}
        self._reported_ns = 0
        self._thread = Thread(target=self._run_frames, name="camera", daemon=True)

    def connect(self) -> Hub:
        """Create the hub connection of this camera; it is not started yet."""
        hub = Hub(
            inputs={"flow": self.on_flow},
            on_twin=self.on_twin,
            methods={
                "pause": lambda _payload: self.pause(True),
                "resume": lambda _payload: self.pause(False),
                "set_rate": self.set_rate,
                "snapshot": lambda _payload: self.snapshot(),
            },
        )
        self.attach(hub)
        return hub

    def attach(self, hub: HubPort) -> None:
        """Send frames and reports to this hub."""
        self._hub = hub

    def start(self) -> None:
        """Start the thread; the first frame waits for the first twin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> dict[str, int]:
        """Take no more frames. Returns how many frames are sent but not stored."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._sources.close()
        self._report_status(clock.mono_ns(), at_once=True)
        counts = self._counts
        return {"frames": counts.sent - counts.stored}

    # Handlers, on the hub's threads

    def on_twin(self, twin: Twin) -> None:
        """Apply the twin's `camera` section and answer it."""
        settings, answer = validate(twin.desired.get("camera"), CameraSettings, self._settings)
        try:
            self._sources.request(settings)
        except SourceError as error:
            settings, answer = self._settings, _refused(self._settings, f"source: {error}")
        with self._changed:
            if settings.paused != self._settings.paused:
                self._paused = settings.paused
            if settings.fps != self._settings.fps:
                self._fps = settings.fps
            self._settings = settings
            self._configured = True
            self._changed.notify_all()
        patch = answer.reported("camera", int(twin.desired.get("$version", 0)))
        if twin.reported.get("camera") != patch["camera"]:
            self._report(patch)
        if not answer.accepted:
            logger.warning("twin: camera: settings unchanged: %s", answer.ad)

    def on_flow(self, message: Message, _arrival: int) -> None:
        """Free the credit of the frames that inference acknowledges."""
        try:
            flow = Flow.from_message(message)
        except BadFrame as error:
            logger.warning("input flow: %s", error)
            return
        with self._changed:
            if flow.is_fresh:
                self._credit.clear()
            elif (flow.camera, flow.run) == (self._name, self._run):
                self._credit.acknowledged(flow.seq)
            self._changed.notify_all()

    def pause(self, paused: bool) -> MethodAnswer:
        """Methods `pause` and `resume`; in force until the twin changes `paused`."""
        with self._changed:
            self._paused = paused
            self._changed.notify_all()
        return MethodAnswer(200, {"paused": paused})

    def set_rate(self, payload: Any) -> MethodAnswer:
        """Method `set_rate`, {"fps": frames per second}; in force until the twin changes `fps`."""
        section = {} if payload in (None, "") else payload  # the service SDK sends "" for no payload
        request, answer = validate(section, RateRequest, RateRequest(fps=self._fps))
        if not answer.accepted:
            return MethodAnswer(400, {"error": answer.ad})
        with self._changed:
            self._fps = request.fps
            self._changed.notify_all()
        return MethodAnswer(200, {"fps": request.fps})

    def snapshot(self) -> MethodAnswer:
        """Method `snapshot`: the last picture as it was sent, or smaller if it is too large for an answer."""
        if (last := self._last) is None:
            return MethodAnswer(409, {"error": "no picture was taken yet"})
        frame, encoded = last
        shown = within(encoded, _MAX_SNAPSHOT_BYTES)
        identity = {"camera": frame.camera, "run": frame.run, "seq": frame.seq}
        picture = {"contentType": shown.content_type, "width": shown.width, "height": shown.height}
        body = base64.b64encode(shown.body).decode()
        return MethodAnswer(
            200,
            {**identity, **picture, "channels": shown.channels, "scaled": shown is not encoded, "body": body},
        )

    # Frames

    def _run_frames(self) -> None:
        while True:
            self._health_file.touch(clock.mono_ns())
            with self._changed:
                while not self._stopping and (wait_s := self._wait_s(clock.mono_ns())) > 0:
                    if self._buffer and not self._allowed(clock.mono_ns()):
                        break  # no frame will fill the batch soon: send it
                    self._changed.wait(wait_s)
                    self._health_file.touch(clock.mono_ns())
                    if self._status_due(clock.mono_ns()):
                        break
                stopping = self._stopping
            if stopping:
                self._send_buffer()
                return
            if self._sources.apply():
                self._no_picture_until_ns = 0
            self._report_status(clock.mono_ns())
            if wait_s <= 0:
                self._take()
            elif not self._allowed(clock.mono_ns()):
                self._send_buffer()

    def _allowed(self, now_ns: int) -> bool:
        """Whether settings and credit allow a frame."""
        settings = self._settings
        complete = settings.frames and self._counts.taken >= settings.frames
        if not self._configured or self._paused or complete:
            return False
        return self._credit.allows(settings.credit, now_ns)

    def _wait_s(self, now_ns: int) -> float:
        """Seconds until the next check; 0 if a frame is due and allowed."""
        if not self._allowed(now_ns):
            return _IDLE_S
        wait_ns = max(self._pacer.wait_ns(now_ns, self._fps), self._no_picture_until_ns - now_ns)
        return min(_IDLE_S, wait_ns / 1e9)

    def _take(self) -> None:
        settings = self._settings
        if (picture := self._next_picture()) is None:
            return
        captured, mono = clock.wall_ns(), clock.mono_ns()
        self._pacer.taken(mono, self._fps, settings.pacing, settings.burst)
        if picture.dropped:
            return
        taken = None
        if picture.captured is not None:
            taken, (captured, mono) = mono, picture.captured
        try:
            encoded = encode(picture, settings.encoding)
        except CannotEncode as error:
            self._refuse(str(error))
            return
        except Exception as error:  # Pillow raises many kinds; the camera thread must not end
            logger.exception("picture %s: cannot be encoded", picture.name)
            self._refuse(f"{picture.name}: {type(error).__name__} as {settings.encoding}")
            return
        frame = Frame(
            id=FrameId(self._name, self._run, self._counts.taken),
            image=encoded.body,
            content_type=encoded.content_type,
            width=encoded.width,
            height=encoded.height,
            channels=encoded.channels,
            captured=captured,
            mono=mono,
            encoded=clock.mono_ns(),
            boot=clock.boot_id(),
            truth=_truth(picture),
            taken=taken,
        )
        self._last = frame.id, encoded
        self._add_to_buffer(frame, settings.batch)

    def _next_picture(self) -> Picture | None:
        try:
            if (picture := self._sources.next()) is not None:
                return picture
            pause_ns = self._sources.retry_ns
        except Exception:  # a disk may fail in many ways; the camera thread must not end
            logger.exception("source %s failed", self._sources)
            pause_ns = _FAILED_NS
        self._no_picture_until_ns = clock.mono_ns() + pause_ns
        return None

    def _add_to_buffer(self, frame: Frame, batch: int) -> None:
        with self._changed:
            self._counts.taken += 1
            self._credit.taken(frame.id.seq)  # before send(): the PUBACK may come before it returns
        if not self._buffer.add(frame):
            self._send_buffer()
            self._buffer.add(frame)
        if len(self._buffer) >= batch:
            self._send_buffer()

    def _send_buffer(self) -> None:
        """Send the frames in the buffer as one message."""
        if not (frames := self._buffer.frames):
            return
        message, self._buffer = self._buffer.to_message(), BatchBuffer()
        sent = [
            Sent(
                each.id.camera,
                each.id.run,
                each.id.seq,
                each.truth,
                each.captured,
                len(each.image),
                None if each.taken is None else each.taken - each.mono,
            )
            for each in frames
        ]
        assert self._hub is not None
        accepted = self._hub.send("frames", message, functools.partial(self._stored, sent))
        with self._changed:
            if accepted:
                self._counts.sent += len(frames)
            else:
                self._counts.dropped += len(frames)
                for each in frames:
                    self._credit.dropped(each.id.seq)
        (SENT if accepted else DROPPED).inc(len(frames))

    def _stored(self, sent: Sequence[Sent], stored_ns: int) -> None:
        """On the hub's threads. The send log is written before the count, so that `done` means written."""
        if self._settings.ledger:
            self._send_log.append(sent, clock.wall_of(stored_ns))
        with self._changed:
            self._counts.stored += len(sent)
            for each in sent:
                self._credit.stored(each.seq, stored_ns)
            if self._done():
                self._changed.notify_all()
        STORED.inc(len(sent))

    def _refuse(self, reason: str) -> None:
        with self._changed:
            self._counts.refused += 1
            self._refusal = reason
        REFUSED.inc()

    # Reported properties

    def _done(self) -> bool:
        counts, frames = self._counts, self._settings.frames
        return frames > 0 and counts.taken >= frames and counts.stored + counts.dropped >= counts.taken

    def _status(self) -> dict[str, Any]:
        return camera_status(self._run, self._counts, self._sources, self._refusal, done=self._done())

    def _status_due(self, now_ns: int) -> bool:
        if not self._configured:
            return False
        newly_done = self._done() and not self._reported.get("done")
        if not newly_done and now_ns - self._reported_ns < _STATUS_NS:
            return False
        return self._status() != self._reported

    def _report_status(self, now_ns: int, *, at_once: bool = False) -> None:
        with self._changed:
            if not (at_once or self._status_due(now_ns)):
                return
            self._reported, self._reported_ns = self._status(), now_ns
            status = self._reported
        self._report({"cameraStatus": status})

    def _report(self, patch: Mapping[str, Any]) -> None:
        assert self._hub is not None
        self._hub.report(patch)


def _refused(settings: CameraSettings, reason: str) -> PnpAnswer:
    return PnpAnswer(settings.model_dump(mode="json", by_alias=True), 400, reason)


def _truth(picture: Picture) -> str | None:
    # The name of a folder may hold bytes that are not valid text, which a message cannot carry.
    return None if picture.truth is None else picture.truth[:_MAX_TRUTH].encode(errors="replace").decode()
