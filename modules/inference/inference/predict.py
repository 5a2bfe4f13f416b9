"""Predicts picture files offline with the code of the device: `twinship predict` and training use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from edgekit.frame.message import BadFrame
from inference.artefact import Artefact, InputSpec
from inference.engine import Engine
from inference.frames.prediction import Detection, Scored, best, located
from inference.frames.preprocess import decode_file, file_size, prepare, region
from inference.runtimes import AUTO

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
BOX_COLOUR: Final = (255, 64, 0)
Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class FilePrediction:
    """The prediction for one picture, highest confidence first: labels, or the detections of a detector."""

    path: Path
    top: tuple[Scored, ...]
    detections: tuple[Detection, ...] = ()


@dataclass(frozen=True)
class FileUnreadable:
    """A file that is not a readable picture, with the reason; it does not affect the other files."""

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class FilePicture:
    """A picture file as model input, uint8 (H, W, C); height and width are those of the file's picture."""

    pixels: NDArray[np.uint8]
    height: int
    width: int


def predict_files(
    artefact: Artefact, pictures: Iterable[Path], *, top_k: int = 3, runtime: str = AUTO
) -> Iterator[FilePrediction | FileUnreadable]:
    """Yield one result for each path, in order; for a folder one for each picture in it, by name.

    The first raises EngineError if the model does not load.
    """
    engine = Engine(artefact, runtime=runtime)
    for path in pictures:
        listed = _listed(path) if path.is_dir() else [path]
        if isinstance(listed, FileUnreadable):
            yield listed
        else:
            yield from (_predict(engine, each, top_k) for each in listed)


def _listed(folder: Path) -> list[Path] | FileUnreadable:
    """The pictures in a folder itself, not in folders below it."""
    try:
        files = [each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES and each.is_file()]
    except OSError as error:
        return FileUnreadable(folder, error.strerror or str(error))
    return sorted(files) or FileUnreadable(folder, "there is no PNG, JPEG or BMP file in it")


def read_pixels(path: Path) -> NDArray[np.uint8] | FileUnreadable:
    """Return the pixels of a picture file, uint8 (height, width, channels), in its original size."""
    return _decoded(path, decode_file)


def read_prepared(path: Path, spec: InputSpec) -> FilePicture | FileUnreadable:
    """Return a picture file as a model takes it."""

    def picture(data: bytes) -> FilePicture:
        height, width = file_size(data)
        return FilePicture(prepare(decode_file(data, spec), spec), height, width)

    return _decoded(path, picture)


def _decoded(path: Path, decode: Callable[[bytes], Decoded]) -> Decoded | FileUnreadable:
    try:
        return decode(_read(path))
    except OSError as error:
        return FileUnreadable(path, error.strerror or str(error))
    except BadFrame as error:
        return FileUnreadable(path, str(error))


def draw_boxes(prediction: FilePrediction, out: Path) -> None:
    """Write a PNG of the picture with a frame and a label for each detection. Raises OSError."""
    pixels = read_pixels(prediction.path)
    if isinstance(pixels, FileUnreadable):
        return
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    pen, line = ImageDraw.Draw(picture), max(1, min(picture.size) // 150)
    for each in prediction.detections:
        left, top, width, height = each.box
        corners = (left, top, left + width, top + height)
        box = [share * side for share, side in zip(corners, picture.size * 2, strict=True)]
        pen.rectangle(box, outline=BOX_COLOUR, width=line)
        text = f"{each.label} {each.confidence:.0%}".encode("latin-1", "replace").decode("latin-1")
        pen.text((box[0] + line, box[1] + line), text, fill=BOX_COLOUR)
    out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(out, "PNG")


def _predict(engine: Engine, path: Path, top_k: int) -> FilePrediction | FileUnreadable:
    picture = read_prepared(path, engine.input)
    if isinstance(picture, FileUnreadable):
        return picture
    answer = engine.infer(picture.pixels)
    if engine.task == "detection":
        seen = region(engine.input, picture.width, picture.height)
        return FilePrediction(path, (), located(answer, engine.labels, seen))
    return FilePrediction(path, best(answer, engine.labels, top_k))


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise BadFrame("size", f"more than {MAX_FILE_BYTES} bytes")
    return data
