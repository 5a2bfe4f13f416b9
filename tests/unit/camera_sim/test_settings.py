"""What the camera may be told."""

from pathlib import Path

import pytest

from camera_sim.settings import CameraEnvironment, CameraSettings, SettingsError
from edgekit.settings import validate

MANIFEST = {"fps": 10, "frames": 0, "paused": False, "credit": 32, "encoding": "png", "ledger": False}


def test_the_defaults_are_those_of_the_manifest() -> None:
    """An empty section and the manifest's mean the same."""
    assert CameraSettings.model_validate(MANIFEST) == CameraSettings()


@pytest.mark.parametrize(
    ("field", "value"),
    [("fps", 0), ("fps", -1), ("fps", 100_001), ("fps", "10"), ("fps", True), ("fps", float("nan")),
     ("frames", -1), ("frames", 1.5), ("paused", 1), ("credit", -1), ("encoding", "bmp"), ("ledger", "yes"),
     ("fsp", 10), ("fps", 1e-305),
     ("batch", 0), ("batch", 257), ("pacing", "random")],
)  # fmt: skip
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    """Types are strict and unknown names are errors: a typing mistake must not pass for a setting."""
    _settings, answer = validate({**MANIFEST, field: value}, CameraSettings, CameraSettings())
    assert answer.ac == 400
    assert answer.ad.startswith(f"{field}: ")


@pytest.mark.parametrize("folder", [None, "", " ", "$CAMERA_FOLDER"])
def test_no_folder_is_the_scene(folder: str | None) -> None:
    """A name that the manifest's tools did not know arrives as it was written."""
    environment = {} if folder is None else {"CAMERA_FOLDER": folder}
    assert CameraEnvironment.read(environment).folder is None


def test_the_environment_is_read_once_and_whole() -> None:
    """Name, folder and data folder."""
    environment = {"CAMERA_NAME": "left-1", "CAMERA_FOLDER": "/pictures", "DATA_FOLDER": "/data"}
    assert CameraEnvironment.read(environment) == CameraEnvironment(
        "left-1", Path("/pictures"), Path("/data")
    )


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 33, "a/b"])
def test_a_name_that_no_frame_can_carry_is_refused_with_the_cure(name: str) -> None:
    """It is part of each frame's identity, and of routes and file names."""
    with pytest.raises(SettingsError, match=r"CAMERA_NAME=.*cure"):
        CameraEnvironment.read({"CAMERA_NAME": name})
