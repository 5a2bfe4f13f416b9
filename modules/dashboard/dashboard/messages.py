"""Reads the messages of the outputs `predictions`, `latency` and `events`.

The bodies come from other modules, so every text is cut and freed of control characters, and every number is
finite. The page shows texts with `textContent` only.

>>> read(b'{"schema": "twinship.latency.v1", "instance": "a", "window_s": 10, "frames": 0}').frames
0
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from edgekit.frame.message import MAX_TRUTH

#: The stages of a frame in their order. A video source adds `mailbox`; `publish` comes with a later message.
STAGES: Final = (
    "mailbox",
    "encode",
    "transit",
    "queue",
    "preprocess",
    "invoke",
    "postprocess",
    "publish",
)
TOTAL: Final = "total"
MAX_TEXT: Final = 128  # characters of a label or a name
MAX_SENTENCE: Final = 400
MAX_OBJECTS: Final = 100  # of one picture that are shown


class BadMessage(ValueError):
    """The body is not a message that the dashboard knows; the text says where it differs."""


def shown(text: str, most: int = MAX_TEXT) -> str:
    """Cut the text to `most` characters and replace those that would change how others are shown.

    >>> shown("a\\u202eb")
    'a\\ufffdb'
    """
    cut = text[:most]
    return cut if cut.isprintable() else "".join(each if each.isprintable() else "\ufffd" for each in cut)


Text = Annotated[str, AfterValidator(shown)]
Truth = Annotated[str, AfterValidator(lambda text: shown(text, MAX_TRUTH))]
Sentence = Annotated[str, AfterValidator(lambda text: shown(text, MAX_SENTENCE))]
Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(ge=0, le=1e12)]
Count = Annotated[int, Field(ge=0, le=2**63)]


class _Part(BaseModel):
    # Fields that a newer inference adds are ignored.
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class FrameId(_Part):
    """Camera, process run id, sequence number."""

    camera: Text
    run: Text
    seq: Count


class Model(_Part):
    """The model that answered."""

    name: Text
    version: Text
    sha256: Text = ""


class Scored(_Part):
    """A label and the model's confidence in it."""

    label: Text
    confidence: Share


class Box(_Part):
    """Left, top, width and height in shares of the picture."""

    l: Share  # noqa: E741 (the names of the contract)
    t: Share
    w: Share
    h: Share


class Detection(Scored):
    """An object in a picture."""

    box: Box


class PublishTime(_Part):
    """The publish time of an earlier answer."""

    publish_ms: Number


class Prediction(_Part):
    """The answer to one frame: a classifier's message has `top`, a detector's has `detections`."""

    schema_name: Literal["twinship.prediction.v1", "twinship.detection.v1"] = Field(alias="schema")
    frame: FrameId
    model: Model
    top: list[Scored] = Field(default=[], max_length=100)
    uncertain: bool = False
    detections: list[Detection] = []
    truth: Truth | None = None  # inference sends none; a module of yours may
    stages_ms: dict[Text, Number] = Field(default={}, max_length=32)
    before: PublishTime | None = None


class Predictions(_Part):
    """The answers to the frames of one message."""

    schema_name: Literal["twinship.predictions.v1"] = Field(alias="schema")
    predictions: list[Prediction]
    before: PublishTime | None = None


class Percentiles(_Part):
    """Of one stage in one window, ms."""

    p50: Number
    p99: Number


class Latency(_Part):
    """Stage times of one window, and the counters of an inference process since its start."""

    schema_name: Literal["twinship.latency.v1"] = Field(alias="schema")
    instance: Text
    window_s: Number
    frames: Count
    stages_ms: dict[Text, Percentiles] = Field(default={}, max_length=32)
    answered: Count = 0
    suppressed: Count = 0
    suppressed_by: dict[Text, Count] = Field(default={}, alias="suppressedBy", max_length=32)
    repeats: Count = 0
    bad_clock: Count = 0
    dropped: dict[Text, Count] = Field(default={}, max_length=32)
    closing: bool = False


class Reason(_Part):
    """Why a model does not run: a code, and one line for a person."""

    code: Text
    message: Sentence


Scalar = Sentence | Annotated[float, Field(allow_inf_nan=False)] | None


class Event(_Part):
    """Something that changed in another module, or the last change of its kind again."""

    schema_name: Literal["twinship.event.v1"] = Field(alias="schema")
    kind: Text  # model, camera, drift; others are ignored
    at_ns: Count  # of the change, since the epoch
    state: Text = ""
    reason: Reason | Sentence | None = None
    since: Scalar = None
    # model
    name: Text | None = None
    version: Text | None = None
    sha256: Text | None = None
    active: Model | None = None
    # camera
    camera: Text | None = None
    source: Sentence | None = None
    lost: Count = 0
    paused: bool = False
    fps: Number | None = None
    # drift
    detector: Scalar = None
    measure: Scalar = None
    value: Scalar = None


_Message = Prediction | Predictions | Latency | Event
_Known = Annotated[_Message, Field(discriminator="schema_name")]
_KNOWN: Final[TypeAdapter[_Message]] = TypeAdapter(_Known)


def read(body: bytes) -> Prediction | Predictions | Latency | Event:
    """Read a message's body. Raises BadMessage."""
    try:
        return _KNOWN.validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"].startswith("union_tag"):
            raise BadMessage("schema: none that this page knows") from None
        where = ".".join(str(each) for each in first["loc"])
        raise BadMessage(shown(f"{where or 'body'}: {first['msg']}")) from None
