"""Read the files in which Keras stores a data set: one .npz, or Fashion-MNIST's four IDX files.

The test pictures are the file's own, all of them.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.artefact import MAX_LABELS
from inference.dataset.pictures import DataError, FileReport, Origin, Pictures, Shaping, SourceData, prepared
from inference.runtimes import one_line

KEYS: Final = ("x_train", "y_train", "x_test", "y_test")
CONTENT: Final = ", ".join(KEYS)
MIN_TRAINING, MIN_TEST = 100, 10  # fewer pictures are a mistake, not a data set
DIGIT_LABELS: Final = tuple("0123456789")
FASHION_LABELS: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)  # as zalandoresearch/fashion-mnist numbers them
LABELS: Final = {"mnist": DIGIT_LABELS, "fashion_mnist": FASHION_LABELS}


def keras_set(name: str, files: Sequence[Path], source: str, why: str) -> SourceData:
    """mnist or fashion_mnist from an .npz or four IDX files: 28×28, grey. Raises DataError."""
    arrays = _idx(files) if len(files) > 1 else _load(files[0], f"want Keras's {name}.npz: {CONTENT}, uint8")
    for key in ("x_train", "x_test"):
        if arrays[key].dtype != np.uint8 or arrays[key].ndim != 3 or arrays[key].shape[1:] != (28, 28):
            raise DataError(f"{files[0]}: {key} is {_shape(arrays[key])}, not uint8 (count, 28, 28)")
    origin = Origin(name, source, why, LABELS[name])
    return _source_data(files[0], origin, arrays, lambda found: found[0])


def npz(path: Path, shaping: Shaping) -> SourceData:
    """An .npz with KEYS. Raises DataError.

    Pictures are uint8 (count, H, W), (count, H, W, 1) or (count, H, W, 3); classes are whole numbers from 0.
    """
    arrays = _load(path, f"want {CONTENT}, the pictures uint8")
    train = arrays["y_train"]
    classes = int(train.max()) + 1 if train.dtype.kind in "iu" and train.size else 0
    if not 2 <= classes <= MAX_LABELS:
        raise DataError(f"{path}: y_train has {classes} classes; 2 to {MAX_LABELS} are needed")
    origin = Origin("npz", f"the file {path}", "--dataset names it", tuple(map(str, range(classes))))
    return _source_data(path, origin, arrays, shaping)


def _source_data(
    path: Path, origin: Origin, arrays: Mapping[str, NDArray[Any]], shaping: Shaping
) -> SourceData:
    train = _pictures(path, "train", arrays, MIN_TRAINING, len(origin.labels))
    test = _pictures(path, "test", arrays, MIN_TEST, len(origin.labels))
    if train.shape != test.shape:
        raise DataError(f"{path}: x_train holds pictures {train.shape}, x_test {test.shape}")
    if empty := set(range(len(origin.labels))) - set(train.labels.tolist()):
        raise DataError(f"{path}: no picture of class {origin.labels[min(empty)]} in x_train")
    shape, size = shaping([train.shape]), train.shape[:2]
    train, test = (Pictures(prepared(each.images, shape), each.labels) for each in (train, test))
    return SourceData(origin, FileReport(size, size), train, test)


def _idx(files: Sequence[Path]) -> dict[str, NDArray[Any]]:
    """IDX: two bytes 0, type 8 (uint8), count of axes, their lengths as big-endian uint32, the values."""
    return {key: _idx_file(path) for key, path in zip(KEYS, files, strict=True)}


def _idx_file(path: Path) -> NDArray[Any]:
    try:
        with gzip.open(path) as file:
            content = file.read()
        axes = content[3]
        shape = struct.unpack_from(f">{axes}I", content, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, zlib.error, struct.error, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a readable IDX file ({one_line(error)}); remove it") from error


def _load(path: Path, cure: str) -> dict[str, NDArray[Any]]:
    try:
        # np.load leaves a file open when it cannot read it, so the file is opened here.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if missing := [key for key in KEYS if key not in getattr(archive, "files", ())]:
                raise DataError(f"{path}: no {missing[0]} in it; {cure}")
            return {key: archive[key] for key in KEYS}
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; name another") from error
    except DataError:
        raise
    except Exception as error:  # numpy raises many types: ValueError, TokenError, zlib.error, BadZipFile …
        raise DataError(f"{path}: not a readable .npz ({one_line(error)}); {cure}") from error


def _pictures(
    path: Path, name: str, arrays: Mapping[str, NDArray[Any]], minimum: int, classes: int
) -> Pictures:
    images, labels = arrays[f"x_{name}"], arrays[f"y_{name}"]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise DataError(f"{path}: x_{name} is {_shape(images)}, not uint8 (count, height, width, channels)")
    images = images[..., np.newaxis] if images.ndim == 3 else images
    if images.shape[3] not in (1, 3):
        raise DataError(f"{path}: x_{name} has {images.shape[3]} channels, not 1 or 3")
    if labels.ndim == 2 and labels.shape[1] == 1:  # Keras's cifar10 has this shape
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(f"{path}: y_{name} is {_shape(labels)}, not one whole number for each picture")
    if len(labels) < minimum:
        raise DataError(f"{path}: {len(labels)} pictures in x_{name}, at least {minimum} are needed")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"{path}: y_{name} holds {labels.min()} to {labels.max()}, not 0 to {classes - 1}")
    return Pictures(images, labels.astype(np.int64))


def _shape(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"
