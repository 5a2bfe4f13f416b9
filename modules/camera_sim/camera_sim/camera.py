"""The camera: takes a frame when it is due and credit allows it, sends it and counts it."""

import functools
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from threading import Condition, Thread
from typing import Any, Protocol

from camera_sim.batch_buffer import BatchBuffer
from camera_sim.credit import Credit
from camera_sim.encoding import CannotEncode, encode
from camera_sim.frames import make_frame
from camera_sim.pacing import Pacer
from camera_sim.preview import OUTPUT as PREVIEW
from camera_sim.preview import PreviewRequest, Previews, preview_message
from camera_sim.selector import Selector
from camera_sim.send_log import SendLog, Sent
from camera_sim.settings import CameraEnvironment, CameraSettings, Encoding, RateRequest
from camera_sim.snapshot import snapshot_payload
from camera_sim.sources.address import SourceError
from camera_sim.sources.picture import Encoded, Picture, Source, State
from camera_sim.status import DROPPED, REFUSED, SENT, STORED, Counts, Pace, camera_event, camera_status
from edgekit import clock
from edgekit.events import Events
from edgekit.frame.message import BadFrame, Flow, Frame, FrameId, Message
from edgekit.health_file import HealthFile
from edgekit.hub.connection import Hub, MethodAnswer, Twin
from edgekit.settings import PnpAnswer, validate

logger = logging.getLogger(__name__)

SEND_LOG = "sent.jsonl"
_STATUS_NS = 2_000_000_000
_IDLE_S = 0.5  # longest sleep: a status report may become due
_FAILED_NS = 1_000_000_000  # pause after an exception of the source


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
        self._previews = Previews()
        self._events = Events(self._send_event)
        self._events_due_ns = 0
        self._shown: State | None = None  # in the last event
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
                "preview": self.lease_preview,
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
        return MethodAnswer(200, snapshot_payload(*last))

    def lease_preview(self, payload: Any) -> MethodAnswer:
        """Method `preview`, {"fps": 0 to 5, "leaseSeconds": 1 to 60}: small pictures while a page is open."""
        section = {} if payload in (None, "") else payload
        request, answer = validate(section, PreviewRequest, PreviewRequest())
        if not answer.accepted:
            return MethodAnswer(400, {"error": answer.ad})
        if not self._settings.preview.allow:
            return MethodAnswer(409, {"error": "the camera's twin forbids it: preview.allow is false"})
        self._previews.lease(request, clock.mono_ns())
        return MethodAnswer(200, dict(answer.value))

    # Frames

    def _run_frames(self) -> None:
        while True:
            self._show_life(clock.mono_ns())
            with self._changed:
                while not self._stopping and (wait_s := self._wait_s(clock.mono_ns())) > 0:
                    if self._buffer and not self._allowed(clock.mono_ns()):
                        break  # no frame will fill the batch soon: send it
                    self._changed.wait(wait_s)
                    self._show_life(clock.mono_ns())
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
        now = clock.wall_ns(), clock.mono_ns()
        self._pacer.taken(now[1], self._fps, settings.pacing, settings.burst)
        if picture.dropped or (encoded := self._encode(picture, settings.encoding)) is None:
            return
        identity = FrameId(self._name, self._run, self._counts.taken)
        frame = make_frame(identity, picture, encoded, now)
        self._last = frame.id, encoded
        self._add_to_buffer(frame, settings.batch)
        if self._previews.due(settings.preview, now[1]):
            self._send_preview(frame, picture)

    def _encode(self, picture: Picture, encoding: Encoding) -> Encoded | None:
        try:
            return encode(picture, encoding)
        except CannotEncode as error:
            self._refuse(str(error))
        except Exception as error:  # Pillow raises many kinds; the camera thread must not end
            logger.exception("picture %s: cannot be encoded", picture.name)
            self._refuse(f"{picture.name}: {type(error).__name__} as {encoding}")
        return None

    def _send_preview(self, frame: Frame, picture: Picture) -> None:
        assert self._hub is not None
        try:
            self._hub.send(PREVIEW, preview_message(frame, picture.image))
        except Exception:  # Pillow raises many kinds; the frame itself is on its way
            logger.exception("picture %s: no preview", picture.name)

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
        sent = [Sent.of(each) for each in frames]
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

    # Reported properties and events

    def _done(self) -> bool:
        counts, frames = self._counts, self._settings.frames
        return frames > 0 and counts.taken >= frames and counts.stored + counts.dropped >= counts.taken

    def _status(self) -> dict[str, Any]:
        pace = Pace(self._paused, self._fps)
        return camera_status(self._run, self._counts, self._sources, pace, self._refusal, done=self._done())

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

    def _show_life(self, now_ns: int) -> None:
        """Touch the health file, and send the event `camera` if it changed or is due again."""
        self._health_file.touch(now_ns)
        state = self._sources.state
        if self._configured and (state is not self._shown or now_ns >= self._events_due_ns):
            self._shown, self._events_due_ns = state, now_ns + int(_IDLE_S * 1e9)
            event = camera_event(self._name, self._run, self._sources, Pace(self._paused, self._fps))
            self._events.changed("camera", event, now_ns=now_ns)
            self._events.repeat(now_ns=now_ns)

    def _send_event(self, output: str, message: Message) -> bool:
        assert self._hub is not None
        return self._hub.send(output, message)

    def _report(self, patch: Mapping[str, Any]) -> None:
        assert self._hub is not None
        self._hub.report(patch)


def _refused(settings: CameraSettings, reason: str) -> PnpAnswer:
    return PnpAnswer(settings.model_dump(mode="json", by_alias=True), 400, reason)
