"""metrics.json: how a model was trained and how good it is. Pure pydantic; written by twinship-training.

`twinship advise` reads it without twinship-training, so the schema and `read_results` are here. JSON names
are camelCase, and unknown fields are errors.

>>> Duplicates(dropped=2, kept=0, contradictory=1).model_dump_json(by_alias=True)
'{"dropped":2,"kept":0,"contradictory":1}'
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

#: What a training writes into its folder.
MODEL: Final = "model.tflite"
CARD: Final = "card.md"
METRICS: Final = "metrics.json"
FRAMES: Final = "frames"
PLOTS: Final = "plots"
WITHOUT_METRICS: Final = (FRAMES, PLOTS, CARD, MODEL)


class MetricsModel(BaseModel):
    """Base class of the metrics.json models."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )


class ClassCount(MetricsModel):
    """How many pictures of one class, for detection how many boxes, are in each split of the data set."""

    label: str
    train: int
    validation: int
    test: int


class Duplicates(MetricsModel):
    """Prepared pictures that occur more than once, equal in every pixel."""

    dropped: int  # from training or validation, because the test (or the validation) has them
    kept: int  # repeated within one split, and left there
    contradictory: int  # different pictures that carry more than one label


class BoxSizes(MetricsModel):
    """The sides of one label's boxes: square roots of areas, in pixels of the prepared pictures."""

    label: str
    p5: float
    median: float
    p95: float


class BoxReport(MetricsModel):
    """The boxes of a detection data set: how large they are, and how many were wrong."""

    empty: int  # pictures without a box, which are kept
    cut: int  # boxes partly outside their picture, cut to it
    outside: int  # dropped, as all below: outside their picture
    inside_out: int  # without width or height
    repeated: int  # the same label and sides again
    crowds: int  # COCO's iscrowd: regions, not objects
    sizes: tuple[BoxSizes, ...]


class DatasetReport(MetricsModel):
    """The classes, sizes and faults of a data set. Sizes are (height, width[, channels])."""

    classes: tuple[ClassCount, ...]
    smallest: tuple[int, int]  # in the files
    largest: tuple[int, int]
    shape: tuple[int, int, int]  # as prepared
    duplicates: Duplicates
    unreadable: int
    unreadable_files: tuple[str, ...]  # the first of them: name and reason
    boxes: BoxReport | None = None  # of a detection data set


class DatasetInfo(MetricsModel):
    """Where the pictures came from, why from there, and how many there are."""

    name: str
    source: str
    why: str
    fingerprint: str
    train: int
    validation: int
    test: int
    report: DatasetReport


class Accuracy(MetricsModel):
    """Shares of 1, on the test pictures unless a comment says otherwise."""

    float32: float  # of the Keras model, before the conversion
    shipped: dict[str, float]  # runtime → accuracy of the artefact, measured through the device's engine
    drop: float  # float32 minus the lowest of `shipped`
    validation: float  # float32, on the validation pictures
    target: float
    max_drop: float


class Sizes(MetricsModel):
    """Sizes of the artefact, of its flatbuffer, and of the network."""

    artefact_bytes: int
    tflite_bytes: int
    parameters: int


class InlineSize(MetricsModel):
    """The characters that the artefact takes inside a twin, zlib and base64."""

    characters: int
    limit: int
    fits: bool


class ProofTimes(MetricsModel):
    """The time of one invoke in the device's proof, on the training machine and niced: an indication."""

    p50_ms: float
    p95_ms: float


class History(MetricsModel):
    """One value for each epoch, the first epoch first."""

    loss: tuple[float, ...]  # the mean over the training steps
    validation: tuple[float, ...]  # accuracy on the validation pictures after the epoch, a share of 1
    kept: int  # the epoch whose weights are the result, from 1


class Cost(MetricsModel):
    """What one picture costs on this machine, with one thread: an indication."""

    p50_ms: float  # median time
    memory_bytes: int  # resident memory that the loaded model added to the process


class VariantResult(MetricsModel):
    """One optimisation on one runtime, measured with validation pictures."""

    accuracy: float
    cost: Cost


class Variant(MetricsModel):
    """One way to convert the same float model."""

    optimisation: str
    tflite_bytes: int
    minimum_runtime: dict[str, str]  # runtime → lowest version that has the model's operators
    runtimes: dict[str, VariantResult]
    refused: dict[str, str]  # runtime of this machine → why it cannot load the model


class Candidate(MetricsModel):
    """A trained network, measured with validation pictures."""

    architecture: str
    parameters: int
    tflite_bytes: int
    accuracy: float
    p50_ms: float
    failed: tuple[str, ...] = ()  # the limits that it exceeds, and by how much; empty: it passes


class Bin(MetricsModel):
    """The predictions whose confidence lies within one tenth."""

    count: int
    confidence: float  # their mean; 0 when there are none
    accuracy: float  # the share of right ones


class Calibration(MetricsModel):
    """Reliability, and the expected calibration error: Guo et al., https://arxiv.org/abs/1706.04599, (3).

    Errors are shares of 1, with ten bins. Those of the float model are with the test pictures, without the
    temperature and with it. Files of 0.1.0 have no fields about the temperature.
    """

    expected_error: float  # the mean of |accuracy - confidence| over all predictions, bin by bin
    bins: tuple[Bin, ...]  # of equal width, the lowest confidence first
    perfect_p95: float | None = None  # 95 % of perfectly calibrated models with these confidences show less
    temperature: float = 1.0  # divides the logits; it is in the weights of the last layer
    float_error_before: float | None = None
    float_error_after: float | None = None


class ClassPrecision(MetricsModel):
    """One label of a detector, with the test pictures."""

    label: str
    float32: float  # average precision at IoU 0.5, a share of 1
    shipped: float  # of the artefact, on the preferred runtime
    curve: tuple[float, ...]  # of the artefact: precision at recall 0, 0.01 … 1


class Metrics(MetricsModel):
    """The whole of metrics.json."""

    schema_: Literal["twinship.metrics.v1"] = Field(default="twinship.metrics.v1", alias="schema")
    command: str
    name: str
    version: str
    architecture: str
    optimisation: str
    profile: str
    seed: int
    history: History
    dataset: DatasetInfo
    accuracy: Accuracy
    sizes: Sizes
    inline: InlineSize
    cost: dict[str, Cost]  # runtime → time and memory
    task: Literal["classification", "detection"] = "classification"
    calibration: (
        Calibration | None
    )  # of a classifier; the artefact on the preferred runtime, with the test pictures
    candidates: tuple[Candidate, ...]  # all networks that were trained
    left_out: dict[str, str] = Field(default_factory=dict)  # network that --arch auto did not train → why
    variants: tuple[Variant, ...]  # with `--variants`
    proof: dict[str, ProofTimes]  # runtime → speed
    weights_sha256: str  # of the float weights before the conversion
    artefact_sha256: str
    seconds: dict[str, float]  # stage → its duration; "total" of all
    versions: dict[str, str]  # distribution → version
    created: str
    recipe_key: str  # digest of settings, code and versions; equal key and fingerprint: equal result
    confusion: list[list[int]]  # true label → predicted label → count
    detection: tuple[ClassPrecision, ...] = ()  # of a detector; its `accuracy` is mAP50


def read_results(folder: Path) -> Metrics | None:
    """The metrics in a training's folder; None if a file is missing or the model is not the measured one."""
    try:
        metrics = Metrics.model_validate_json((folder / METRICS).read_bytes())
        digest = hashlib.sha256((folder / MODEL).read_bytes()).hexdigest()
    except (OSError, ValidationError):
        return None
    complete = all((folder / name).exists() for name in WITHOUT_METRICS)
    return metrics if complete and digest == metrics.artefact_sha256 else None
