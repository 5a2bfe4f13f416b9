"""A frame and its flow answer as messages, both ways; opens no socket and decodes no picture."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter

# 256 KiB - 4 KiB: clear of edgeHub's packet limit, of its routing size (a larger message is acknowledged and
# silently dropped) and of the SDK's own check (ref 2.5, 4.8).
MAX_BODY_BYTES = 258_048
MAX_SIDE = 16_384  # pixels
CONTENT_TYPES = frozenset({"image/png", "image/jpeg", "application/octet-stream"})
RAW = "application/octet-stream"  # uint8, height x width x channels

_CAMERA = re.compile(r"[A-Za-z0-9_-]{1,32}")
_RUN = re.compile(r"[0-9a-f]{16}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")  # ASCII digits only: int() also takes "1_0", " 1" and "١"
_NUMBERS = ("seq", "width", "height", "channels", "captured", "mono", "encoded")
_seven_of = itemgetter(*_NUMBERS)
_SEVEN_NUMBERS = re.compile(rf"(?:{_NUMBER.pattern})(?:,(?:{_NUMBER.pattern})){{6}}")
_MAX_TEXT = 128  # characters of boot and truth


class BadFrame(ValueError):
    """The message is no frame of ours. Its sender is at fault; counted, never retried."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        #: a metric's label: `properties`, `identity`, `content_type`, `size` or `flow`
        self.reason = reason


class FrameTooLarge(ValueError):
    """The body is over MAX_BODY_BYTES: encode the picture smaller or leave it out."""


# Nothing that is made for every frame is frozen: that would take two to three times as long.
@dataclass(slots=True)
class Message:
    """One message on an input or output, without anything of the SDK's."""

    body: bytes = field(repr=False)
    properties: Mapping[str, str]
    message_id: str = ""
    content_type: str = ""
    content_encoding: str = ""


@dataclass(slots=True, order=True, unsafe_hash=True)
class FrameId:
    """Who took the frame, in which life of its process, and the how-many-eth it was (from 0).

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


@lru_cache(maxsize=64)  # frame after frame is of the same few; one that is refused is not remembered
def _check_stream(camera: str, run: str) -> None:
    if not _CAMERA.fullmatch(camera):
        raise BadFrame("identity", "camera must match [A-Za-z0-9_-]{1,32}")
    if not _RUN.fullmatch(run):
        raise BadFrame("identity", "run must be 16 hexadecimal digits")


@dataclass(slots=True)
class Frame:
    """One picture with its identity and the stamps of its first stages."""

    id: FrameId
    image: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    channels: int
    captured: int  # ns since the epoch
    mono: int  # CLOCK_MONOTONIC ns at capture
    encoded: int  # CLOCK_MONOTONIC ns when handed to the hub client or a batch: the end of stage "encode"
    boot: str  # both monotonic stamps are of this boot
    truth: str | None = None  # what a simulated source knows

    def to_message(self) -> Message:
        """The frame as a message for output `frames`. Raises FrameTooLarge."""
        if len(self.image) > MAX_BODY_BYTES:
            raise FrameTooLarge(f"frame {self.id}: {len(self.image)} bytes, at most {MAX_BODY_BYTES}")
        message_id, properties = str(self.id), self.properties()
        return Message(self.image, properties, message_id=message_id, content_type=self.content_type)

    def properties(self) -> dict[str, str]:
        """What is said of the picture beside it."""
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
        if self.truth is not None:
            properties["truth"] = self.truth
        return properties

    @classmethod
    def from_message(cls, message: Message) -> "Frame":
        """The frame in a message from anybody. Raises BadFrame with a reason fit for a metric's label."""
        return cls.of(message.properties, message.body, message.content_type)

    @classmethod
    def of(cls, properties: Mapping[str, str], image: bytes, content_type: str) -> "Frame":
        """The frame with these `properties`, as `from_message`."""
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
            _text(properties, "truth") if "truth" in properties else None,
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
    """What `inference` tells a camera: every frame of this run up to `seq` is settled."""

    camera: str
    run: str
    seq: int

    @classmethod
    def fresh(cls) -> "Flow":
        """`inference` has just started: nothing that any camera sent before is still under way."""
        return cls("*", "", -1)

    @property
    def is_fresh(self) -> bool:
        """Whether this is the word of an inference process that has just started."""
        return self == Flow.fresh()

    def to_message(self) -> Message:
        """The answer as a message for output `flow`."""
        body = json.dumps({"camera": self.camera, "run": self.run, "seq": self.seq}, separators=(",", ":"))
        return Message(body.encode(), {}, content_type="application/json", content_encoding="utf-8")

    @classmethod
    def from_message(cls, message: Message) -> "Flow":
        """The answer in a message from anybody. Raises BadFrame("flow")."""
        try:
            fields = json.loads(message.body)
        except (ValueError, RecursionError) as error:
            raise BadFrame("flow", "the body is not JSON") from error
        match fields:
            case {"camera": str(camera), "run": str(run), "seq": int(seq)} if not isinstance(seq, bool):
                return cls(camera, run, seq)
        raise BadFrame("flow", "the body is not {camera, run, seq}")


def _text(properties: Mapping[str, str], name: str) -> str:
    value = properties.get(name)
    if value is None:
        raise BadFrame("properties", f"{name} is missing")
    if len(value) > _MAX_TEXT:
        raise BadFrame("properties", f"{name} is longer than {_MAX_TEXT} characters")
    return value


def _numbers(properties: Mapping[str, str]) -> list[int]:
    # All at once: one by one takes three times as long, for every frame. A text with a comma in it makes
    # eight of the seven, or leaves one empty; which one is wrong is looked for only then.
    try:
        texts = _seven_of(properties)
    except KeyError:
        texts = ()
    if _SEVEN_NUMBERS.fullmatch(",".join(texts)):
        return list(map(int, texts))
    return [_number(properties, name) for name in _NUMBERS]


def _number(properties: Mapping[str, str], name: str) -> int:
    value = properties.get(name, "")
    if not _NUMBER.fullmatch(value):
        _text(properties, name)  # that it is missing or endless says more
        raise BadFrame("properties", f"{name} is not a whole number")
    return int(value)
