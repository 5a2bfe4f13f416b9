"""Reading data sets without the training distribution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.artefact import InputSpec
from inference.dataset.choice import find
from inference.dataset.pictures import DataError, exactly

SHAPING = exactly(InputSpec(height=8, width=8, channels=1))


def grey_folder(root: Path) -> Path:
    """Two classes of ten different 16 × 16 pictures."""
    for number, label in enumerate(("dark", "light")):
        (root / label).mkdir(parents=True)
        for index in range(10):
            Image.new("L", (16, 16), 120 * number + index).save(root / label / f"{index}.png")
    return root


def test_pictures_have_the_models_shape(tmp_path: Path) -> None:
    """A folder is read to the shape of the model, and a fifth of it is the test."""
    found = find(f"folder:{grey_folder(tmp_path)}", {}, SHAPING)
    assert found.origin.labels == ("dark", "light")
    assert (found.test.shape, len(found.train), len(found.test)) == ((8, 8, 1), 16, 4)
    assert np.bincount(found.test.labels).tolist() == [2, 2]


@pytest.mark.parametrize("choice", ["digits", "auto", "mnist"])
def test_a_source_that_needs_training_names_it(tmp_path: Path, choice: str) -> None:
    """Digits and downloads come with twinship-training; the error says so in one line."""
    with pytest.raises(DataError, match=r"^[^\n]*twinship-training[^\n]*$"):
        find(choice, {"KERAS_HOME": str(tmp_path)}, SHAPING)


def test_mnist_npz_needs_no_training(tmp_path: Path) -> None:
    """The file that MNIST_NPZ names is read as it is."""
    images, labels = np.zeros((200, 28, 28), np.uint8), np.arange(200) % 10
    np.savez(tmp_path / "m.npz", x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    found = find("auto", {"MNIST_NPZ": str(tmp_path / "m.npz")}, SHAPING)
    assert (found.origin.name, len(found.test)) == ("mnist", 50)


def test_reading_imports_no_training_package() -> None:
    """A device or a workstation without training has none of these packages."""
    foreign = "{'twinship_training', 'tensorflow', 'sklearn', 'matplotlib'}"
    modules = "inference.dataset, inference.evaluate, inference.metrics_model"
    code = f"import sys, {modules}; sys.exit(not {foreign}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
