"""What scenario `real` measures with: photographs of 640x480, and a model of MobileNetV2's shape.

The photographs are cut from the two that scikit-learn ships (CC BY 2.0, see its datasets/images/README.txt).
The model has random weights: speed does not depend on them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 640, 480
QUALITY: Final = 75
PHOTOGRAPHS: Final = 24
SIDE: Final = 224  # of the model's input
CLASSES: Final = 1_000
BUDGET_MS: Final = 10_000.0  # no machine that is measured is too slow
LARGEST: Final = 1.6  # a photograph is enlarged up to this before a part of it is cut out


def photographs(folder: Path, seed: int = 1) -> list[Path]:
    """Write JPEG files into a new folder and return their paths."""
    from twinship_training.data.scikit import photographs as shipped

    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    originals = [Image.fromarray(each) for each in shipped()]
    paths = []
    for number in range(PHOTOGRAPHS):
        picture = originals[number % len(originals)]
        factor = random.uniform(1.0, LARGEST) * max(WIDTH / picture.width, HEIGHT / picture.height)
        larger = picture.resize((int(picture.width * factor) + 1, int(picture.height * factor) + 1))
        left = int(random.integers(larger.width - WIDTH + 1))
        top = int(random.integers(larger.height - HEIGHT + 1))
        paths.append(folder / f"{number:04d}.jpg")
        larger.crop((left, top, left + WIDTH, top + HEIGHT)).save(paths[-1], "JPEG", quality=QUALITY)
    return paths


def model(path: Path, pictures: list[Path], progress: Callable[[str], None]) -> Path:
    """The int8 artefact at `path`; it is made if it is not there, which takes one to two minutes."""
    if path.is_file():
        return path
    progress("making a model of MobileNetV2's shape, once")
    from inference.predict import FilePicture, read_prepared
    from twinship.packaging.choose import Options
    from twinship.packaging.package import Request, package
    from twinship_training.convert import convert
    from twinship_training.networks import mobilenet

    shape = (SIDE, SIDE, 3)
    spec = mobilenet.spec(shape)
    shown = [read_prepared(each, spec) for each in pictures]
    pixels = np.stack([each.pixels for each in shown if isinstance(each, FilePicture)])
    flatbuffer = convert(mobilenet.mobilenet(shape, CLASSES), "int8", pixels, spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        file, made = Path(scratch) / "mobilenet.tflite", Path(scratch) / path.name
        file.write_bytes(flatbuffer)
        labels = "".join(f"class {number}\n" for number in range(CLASSES))
        half = 127.5
        options = Options(labels=labels, mean=(half,), std=(half,), head="softmax")
        package(Request(file, made, "mobilenet", "1.0.0", options, latency_budget_ms=BUDGET_MS))
        os.replace(made, path)
    return path
