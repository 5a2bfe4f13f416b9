"""Decides how a model's input and output are to be understood: by options, then metadata, then the graph.

What neither says is asked for by the name of its option, with the guess and the reason. `Chosen.because` has
one line for each decision that no option made.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inference.artefact import (
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    TASKS,
    Head,
    HeadKind,
    InputSpec,
    Resize,
    Task,
)
from twinship.packaging import NotPackaged
from twinship.packaging.model_file import ModelFile, TensorInfo

INPUT_TYPES: Final = ("uint8", "int8", "float32")
MAX_SIDE: Final = 1024
_ENDINGS: Final[dict[str, HeadKind]] = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}


class Options(BaseModel):
    """What the user says. None or an empty tuple: decide."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels: str | None = None  # the text of a file
    mean: tuple[float, ...] = ()
    std: tuple[Annotated[float, Field(gt=0)], ...] = ()
    order: Literal["rgb", "bgr"] = "rgb"
    resize: Resize = "stretch"
    head: HeadKind | None = None
    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None
    box_pixels: bool = False


@dataclass(frozen=True)
class Chosen:
    """How the model is understood."""

    input: InputSpec
    task: Task
    head: Head
    labels: tuple[str, ...]
    because: tuple[str, ...]


def options(**values: object) -> Options:
    """Return the options of a command. Raises NotPackaged for a value that is not one of the allowed."""
    try:
        return Options.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise NotPackaged(f"--{option} {values[str(first['loc'][0])]}: {first['msg']}") from error


def choose(model: ModelFile, said: Options) -> Chosen:
    """Raises NotPackaged for a model that is not supported, and for what is neither known nor said."""
    picture = _picture(model)
    because: list[str] = []
    if model.uint8_weights:
        because.append(
            "the weights are uint8, as TensorFlow 1 quantised: the same network in int8, from TensorFlow 2, "
            "takes about half of the time"
        )
    spec = _spec(picture, model, said, because)
    kind = said.head or _kind(model, because)
    labels = _labels(model, said, because)
    _check_count(kind, model, labels)
    thresholds = {
        "scoreThreshold": said.score_threshold,
        "iouThreshold": said.iou_threshold,
        "maxDetections": said.max_detections,
        "outputs": _positions(kind, model, len(labels)),
    }
    given = {name: each for name, each in thresholds.items() if each not in (None, ())}
    head = Head.model_validate({"kind": kind, "pixels": said.box_pixels, **given})
    return Chosen(spec, TASKS[kind], head, labels, tuple(because))


# -- input ---------------------------------------------------------------------------------------------------


def _picture(model: ModelFile) -> TensorInfo:
    """The one input, (1, height, width, 1 or 3)."""
    pictures = [each for each in model.inputs if len(each.shape) == 4 and each.shape[3] in (1, 3)]
    names = ", ".join(f"{each.name} {each.shape}" for each in model.inputs[:6]) or "none"
    if len(model.inputs) != 1:
        kind = (
            "no picture" if not pictures else "several pictures" if len(pictures) > 1 else "other inputs too"
        )
        raise NotPackaged(
            f"the model must have one picture and nothing else as its input, it has {kind}: {names}"
        )
    if not pictures:
        first = len(model.inputs[0].shape) == 4 and model.inputs[0].shape[1] in (1, 3)
        cure = "; the channels come first: convert it with the channels last (NHWC)" if first else ""
        raise NotPackaged(f"the model's input is no picture of 1 or 3 channels: {names}{cure}")
    picture = pictures[0]
    if picture.shape[0] != 1 or any(not 1 <= side <= MAX_SIDE for side in picture.shape[1:3]):
        raise NotPackaged(
            f"the model's input is {picture.shape}: one picture of at most {MAX_SIDE} × {MAX_SIDE}"
        )
    if -1 in picture.signature[1:]:
        raise NotPackaged(
            f"the model's input has no fixed size: {picture.signature}; cure: convert it with a fixed size"
        )
    if picture.dtype not in INPUT_TYPES:
        raise NotPackaged(f"the model's input holds {picture.dtype}, not {', '.join(INPUT_TYPES)}")
    return picture


def _spec(picture: TensorInfo, model: ModelFile, said: Options, because: list[str]) -> InputSpec:
    _, height, width, channels = picture.shape
    mean, std = _normalisation(picture, model, said, because)
    alone = len(set(mean)) == len(set(std)) == 1
    # Devices of earlier versions know scale and offset only.
    linear = {"scale": 1 / std[0], "offset": -mean[0] / std[0]} if alone and std[0] > 0 else {}
    try:
        return InputSpec.model_validate(
            {
                "height": height,
                "width": width,
                "channels": channels,
                "resize": said.resize,
                "order": said.order,
                "mean": mean,
                "std": std,
                **linear,
            }
        )
    except ValidationError as error:
        raise NotPackaged(f"the model's input: {error.errors(include_url=False)[0]['msg']}") from error


def _normalisation(
    picture: TensorInfo, model: ModelFile, said: Options, because: list[str]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, on pixels of 0 to 255."""
    if said.mean and said.std:
        return said.mean, said.std
    if said.mean or said.std:
        raise NotPackaged("--mean and --std belong together: give both")
    if picture.dtype == "uint8" and picture.scale > 0:
        because.append("mean and std: the input is uint8, so the model takes pixels as they are")
        return (float(picture.zero_point),), (1 / picture.scale,)
    described = model.metadata
    if described.mean and described.std:
        because.append("mean and std: from the metadata")
        return described.mean, described.std
    if picture.dtype == "int8" and picture.scale > 0:
        because.append(
            "mean and std: from the quantisation of the int8 input, which covers pixels of 0 to 255"
        )
        return (float(128 + picture.zero_point),), (1 / picture.scale,)
    raise NotPackaged(
        "mean and std of the pixels are unknown: the input is float32 and the file has no metadata; "
        "a guess is --mean 127.5 --std 127.5, because most models are trained on pixels from −1 to 1 "
        "(others: --mean 0 --std 255)"
    )


# -- output --------------------------------------------------------------------------------------------------


def _kind(model: ModelFile, because: list[str]) -> HeadKind:
    if model.ssd:
        because.append("head ssd: the model ends in TFLite_Detection_PostProcess")
        return "ssd"
    ranks = sorted(len(each.shape) for each in model.outputs)
    if ranks == [2]:
        kind = _ENDINGS.get(model.ending)
        if kind:
            because.append(f"head {kind}: the model ends in {model.ending}")
            return kind
        if model.ending:
            because.append(f"head logits: the model ends in {model.ending}, without softmax or sigmoid")
            return "logits"
        raise NotPackaged(
            "the head is unknown: no operator shows whether the output is a probability; a guess is "
            "--head softmax, because its shape is a classifier's (others: --head logits, --head sigmoid)"
        )
    guesses: dict[tuple[int, ...], HeadKind] = {(3,): "yolo", (4, 4, 4): "centers"}
    if guess := guesses.get(tuple(ranks)):
        because.append(f"head {guess}: the outputs have its shapes")
        return guess
    shapes = ", ".join(str(each.shape) for each in model.outputs[:6]) or "none"
    raise NotPackaged(
        f"outputs of the shapes {shapes} suit no head; supported: {', '.join(TASKS)} (--head says which)"
    )


def _positions(kind: HeadKind, model: ModelFile, labels: int) -> tuple[int, ...]:
    """The positions of the head's tensors among the outputs; () for the order as it is."""
    if kind == "ssd" and model.ssd:
        place = {each.index: position for position, each in enumerate(model.outputs)}
        if not set(model.ssd.outputs) <= place.keys():
            raise NotPackaged("the outputs of TFLite_Detection_PostProcess are not all outputs of the model")
        return tuple(place[index] for index in model.ssd.outputs)
    if TASKS[kind] == "classification" and len(model.outputs) > 1:
        fitting = [at for at, each in enumerate(model.outputs) if each.shape == (1, labels)]
        if len(fitting) == 1:
            return (fitting[0],)
    return ()


def _check_count(kind: HeadKind, model: ModelFile, labels: tuple[str, ...]) -> None:
    """Raise NotPackaged if the model says how many labels it has, and these are others."""
    shapes = [each.shape for each in model.outputs]
    if kind == "ssd":
        if model.ssd and len(labels) < model.ssd.classes:
            _refuse_count(len(labels), model.ssd.classes)
        if model.ssd or len(shapes) == 4:
            return
    if kind == "yolo" and len(shapes) == 1 and len(shapes[0]) == 3:
        if 4 + len(labels) not in shapes[0][1:]:
            _refuse_count(len(labels), min(shapes[0][1:]) - 4)
        return
    if kind == "centers" and shapes and len(shapes[0]) == 4:
        if shapes[0][3] != len(labels):
            _refuse_count(len(labels), shapes[0][3])
        return
    if TASKS[kind] == "classification":
        if (1, len(labels)) in shapes:
            return
        counts = [shape[1] for shape in shapes if len(shape) == 2]
        if counts:
            _refuse_count(len(labels), counts[0])
    text = ", ".join(map(str, shapes))
    raise NotPackaged(f"outputs of the shapes {text} do not suit the head {kind}")


def _refuse_count(labels: int, outputs: int) -> None:
    hint = (
        ": the model has a class for the background first, add a line for it at the top of the file"
        if labels == outputs - 1
        else ""
    )
    raise NotPackaged(
        f"{labels} labels, and the model has {outputs} classes; "
        f"cure: --labels FILE with one line for each{hint}"
    )


def _labels(model: ModelFile, said: Options, because: list[str]) -> tuple[str, ...]:
    text = said.labels
    if text is None:
        if model.labels is None:
            raise NotPackaged(
                "the labels are unknown: the file has no metadata with labels; cure: --labels FILE, "
                "one label on each line, in the order of the model's outputs"
            )
        because.append(f"labels: {model.labels_file} in the file")
        text = model.labels
    labels = [" ".join(line.split()) for line in text.lstrip("\ufeff").rstrip().splitlines()]
    labels = _without_numbers(labels)
    if not labels or not all(labels):
        line = next((number for number, label in enumerate(labels, 1) if not label), 1)
        raise NotPackaged(f"the labels: line {line} is empty; cure: one label on each line")
    if len(labels) > MAX_LABELS:
        raise NotPackaged(f"{len(labels)} labels; at most {MAX_LABELS} are supported")
    for number, label in enumerate(labels, 1):
        if len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
            raise NotPackaged(f"the labels: line {number} is not a printable label: {label[:40]!r}")
    return _distinct(labels, because)


def _without_numbers(labels: list[str]) -> list[str]:
    """Leave out the number before each label, if it counts the lines from 0."""
    cut = [label.split(maxsplit=1) for label in labels]
    counted = all(len(parts) == 2 and parts[0].rstrip(":") == str(number) for number, parts in enumerate(cut))
    return [parts[1] for parts in cut] if counted else labels


def _distinct(labels: list[str], because: list[str]) -> tuple[str, ...]:
    """Labels that occur twice get their position, because a prediction must say which one it means.

    ImageNet's list has two cranes, a bird and a machine.
    """
    twice = {label for label, count in Counter(labels).items() if count > 1}
    if 2 * sum(label in twice for label in labels) > len(labels):
        raise NotPackaged(f"more than half of the labels occur twice, as {min(twice)!r}; cure: --labels FILE")
    named = [f"{label} ({number})" if label in twice else label for number, label in enumerate(labels)]
    if len(set(named)) != len(named):
        raise NotPackaged(
            f"a label occurs twice, as {min(twice)!r}; cure: --labels FILE with distinct labels"
        )
    for label in sorted(twice)[:3]:
        because.append(f"labels: {label!r} occurs twice, so each has its position behind it, counted from 0")
    return tuple(named)
