"""Converts frames and flow acknowledgements to messages and back. It does not decode pictures.

>>> frame = Frame(
...     FrameId("camera", "0123456789abcdef", 7), bytes(12), RAW, width=2, height=2, channels=3,
...     captured=1_700_000_000_000_000_000, mono=5, encoded=6, boot="id of this boot",
... )
>>> message = frame.to_message()
>>> message.message_id
'camera-0123456789abcdef-7'
>>> Frame.from_message(message) == frame
True
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter

# 256 KiB - 4 KiB: below edgeHub's packet limit, below its routing limit (it acknowledges a larger message and
# silently drops it) and below the SDK's own check (ref 2.5, 4.8).
MAX_BODY_BYTES = 258_048
MAX_SIDE = 16_384  # pixels
CONTENT_TYPES = frozenset({"image/png", "image/jpeg", "application/octet-stream"})
RAW = "application/octet-stream"  # uint8, height x width x channels

_CAMERA = re.compile(r"[A-Za-z0-9_-]{1,32}")
_RUN = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")  # ASCII digits only: int() also accepts "1_0", " 1" and "١"
_NUMBERS = ("seq", "width", "height", "channels", "captured", "mono", "encoded")
_number_texts = itemgetter(*_NUMBERS)
_SEVEN_NUMBERS = re.compile(rf"(?:{_NUMBER.pattern})(?:,(?:{_NUMBER.pattern})){{6}}")
_MAX_TEXT = 128  # characters of camera, run and boot
MAX_TRUTH = 4096  # characters; the camera's send log has longer ones too


class BadFrame(ValueError):
    """The message is not a valid frame. The sender is at fault; a retry cannot help."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        #: a metric label: `properties`, `identity`, `content_type`, `size`, `batch`, `flow` …
        self.reason = reason


class FrameTooLarge(ValueError):
    """The body is over MAX_BODY_BYTES: make the picture smaller or skip it."""


# Classes with an instance per frame are not frozen: a frozen one takes two to three times as long to create.
@dataclass(slots=True)
class Message:
    """One message on an input or output, independent of the SDK."""

    body: bytes = field(repr=False)
    properties: Mapping[str, str]
    message_id: str = ""
    content_type: str = ""
    content_encoding: str = ""


@dataclass(slots=True, unsafe_hash=True)
class FrameId:
    """Camera, process run id, zero-based sequence number.

    Raises BadFrame("identity") unless camera matches [A-Za-z0-9_-]{1,32} and run is 16 hexadecimal digits.
    """

    camera: str
    run: str
    seq: int

    def __post_init__(self) -> None:
        _check_stream(self.camera, self.run)
        if self.seq < 0:
            raise BadFrame("identity", "seq must not be negative")

    def __str__(self) -> str:
        return f"{self.camera}-{self.run}-{self.seq}"


@lru_cache(maxsize=64)  # frames come from few streams; a refused stream raises and is not cached
def _check_stream(camera: str, run: str) -> None:
    if not _CAMERA.fullmatch(camera):
        raise BadFrame("identity", "camera must match [A-Za-z0-9_-]{1,32}")
    if not _RUN.fullmatch(run):
        raise BadFrame("identity", "run must be 16 hexadecimal digits")


@dataclass(slots=True)
class Frame:
    """One picture with its identity and the timestamps of its first stages."""

    id: FrameId
    image: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    channels: int
    captured: int  # ns since the epoch
    mono: int  # CLOCK_MONOTONIC ns at capture
    encoded: int  # CLOCK_MONOTONIC ns at the end of stage "encode": handed to the hub client or a batch
    boot: str  # id of the boot that both monotonic timestamps belong to
    truth: str | None = None  # the correct label or the text of boxes (`boxes`), if the source knows it
    taken: int | None = None  # CLOCK_MONOTONIC ns when a picture of a video left its mailbox

    def to_message(self) -> Message:
        """The frame as a message for output `frames`. Raises FrameTooLarge."""
        if len(self.image) > MAX_BODY_BYTES:
            raise FrameTooLarge(f"frame {self.id}: {len(self.image)} bytes, at most {MAX_BODY_BYTES}")
        message_id, properties = str(self.id), self.properties()
        return Message(self.image, properties, message_id=message_id, content_type=self.content_type)

    def properties(self) -> dict[str, str]:
        """The frame without its picture, as application properties."""
        properties = {
            "camera": self.id.camera,
            "run": self.id.run,
            "seq": str(self.id.seq),
            "width": str(self.width),
            "height": str(self.height),
            "channels": str(self.channels),
            "captured": str(self.captured),
            "mono": str(self.mono),
            "encoded": str(self.encoded),
            "boot": self.boot,
        }
        properties |= self.truth_property()
        if self.taken is not None:
            properties["taken"] = str(self.taken)
        return properties

    def truth_property(self) -> dict[str, str]:
        """The property `truth`; none if the truth is unknown or too long to travel with this picture."""
        if self.truth is None or len(self.truth) > MAX_TRUTH:
            return {}
        long = len(self.truth) > _MAX_TEXT  # percent-encoding triples each of up to four bytes
        fits = (
            not long or len(self.image) + 3 * len(self.truth.encode(errors="surrogatepass")) <= MAX_BODY_BYTES
        )
        return {"truth": self.truth} if fits else {}

    @classmethod
    def from_message(cls, message: Message) -> "Frame":
        """The frame in a message from any sender. Raises BadFrame."""
        return cls.from_properties(message.properties, message.body, message.content_type)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], image: bytes, content_type: str) -> "Frame":
        """The frame with these application properties and this picture. Raises BadFrame."""
        seq, width, height, channels, captured, mono, encoded = _numbers(properties)
        frame = cls(
            FrameId(_text(properties, "camera"), _text(properties, "run"), seq),
            image,
            content_type,
            width,
            height,
            channels,
            captured,
            mono,
            encoded,
            _text(properties, "boot"),
            _text(properties, "truth", MAX_TRUTH) if "truth" in properties else None,
            _number(properties, "taken") if "taken" in properties else None,
        )
        frame._check()
        return frame

    def _check(self) -> None:
        if self.content_type not in CONTENT_TYPES:
            raise BadFrame("content_type", f"{self.content_type[:64]!r} is none of {sorted(CONTENT_TYPES)}")
        if not (0 < self.width <= MAX_SIDE and 0 < self.height <= MAX_SIDE and self.channels in (1, 3)):
            raise BadFrame("size", f"{self.width}x{self.height}x{self.channels}")
        if not 0 < len(self.image) <= MAX_BODY_BYTES:
            raise BadFrame("size", f"{len(self.image)} bytes")
        if self.content_type == RAW and len(self.image) != self.width * self.height * self.channels:
            raise BadFrame(
                "size", f"{len(self.image)} bytes are not {self.width}x{self.height}x{self.channels}"
            )


@dataclass(frozen=True)
class Flow:
    """`inference` acknowledges to a camera that every frame of this run up to `seq` is finished."""

    camera: str
    run: str
    seq: int

    @classmethod
    def fresh(cls) -> "Flow":
        """`inference` has just started: no frame that a camera sent before is still in flight."""
        return cls("*", "", -1)

    @property
    def is_fresh(self) -> bool:
        """Whether an inference process that has just started sent this."""
        return self == Flow.fresh()

    def to_message(self) -> Message:
        """The acknowledgement as a message for output `flow`."""
        body = json.dumps({"camera": self.camera, "run": self.run, "seq": self.seq}, separators=(",", ":"))
        return Message(body.encode(), {}, content_type="application/json", content_encoding="utf-8")

    @classmethod
    def from_message(cls, message: Message) -> "Flow":
        """The acknowledgement in a message from any sender. Raises BadFrame("flow")."""
        try:
            fields = json.loads(message.body)
        except (ValueError, RecursionError) as error:
            raise BadFrame("flow", "the body is not JSON") from error
        match fields:
            case {"camera": str(camera), "run": str(run), "seq": int(seq)} if not isinstance(seq, bool):
                return cls(camera, run, seq)
        raise BadFrame("flow", "the body is not {camera, run, seq}")


def _text(properties: Mapping[str, str], name: str, most: int = _MAX_TEXT) -> str:
    value = properties.get(name)
    if value is None:
        raise BadFrame("properties", f"{name} is missing")
    if len(value) > most:
        raise BadFrame("properties", f"{name} is longer than {most} characters")
    return value


def _numbers(properties: Mapping[str, str]) -> list[int]:
    # One match checks all seven: seven matches take three times as long, for every frame. A property with a
    # comma makes eight fields or an empty one, and the match fails. Only then find the wrong property.
    try:
        texts = _number_texts(properties)
    except KeyError:
        texts = ()
    if _SEVEN_NUMBERS.fullmatch(",".join(texts)):
        return list(map(int, texts))
    return [_number(properties, name) for name in _NUMBERS]


def _number(properties: Mapping[str, str], name: str) -> int:
    value = properties.get(name, "")
    if not _NUMBER.fullmatch(value):
        _text(properties, name)  # "missing" and "too long" are clearer messages
        raise BadFrame("properties", f"{name} is not a whole number")
    return int(value)
