"""The camera's settings and environment."""

from pathlib import Path

import pytest

from camera_sim.settings import CameraEnvironment, CameraSettings, SettingsError
from camera_sim.sources.address import Address
from edgekit.settings import validate

MANIFEST = {"fps": 10, "frames": 0, "paused": False, "credit": 32, "encoding": "png", "ledger": False}


def test_the_defaults_equal_the_manifest() -> None:
    """An empty section means the same as the manifest's section."""
    assert CameraSettings.model_validate(MANIFEST) == CameraSettings()


@pytest.mark.parametrize(
    ("field", "value"),
    [("fps", 0), ("fps", -1), ("fps", 100_001), ("fps", "10"), ("fps", True), ("fps", float("nan")),
     ("frames", -1), ("frames", 1.5), ("paused", 1), ("credit", -1), ("encoding", "bmp"), ("ledger", "yes"),
     ("fsp", 10), ("fps", 1e-305),
     ("batch", 0), ("batch", 257), ("pacing", "random"), ("burst", 0), ("source", 7),
     ("scene", {"noise": 128}), ("scene", {"freeze": 1.5}), ("scene", {"mix": {"x": 1.0}}),
     ("scene", {"fog": 1}),
     ("video", {"maxSide": 8}), ("video", {"timeoutS": 0}), ("video", {"loop": 1})],
)  # fmt: skip
def test_an_invalid_field_is_named(field: str, value: object) -> None:
    """Types are strict, and unknown names are errors: a typing mistake must not go unnoticed."""
    _settings, answer = validate({**MANIFEST, field: value}, CameraSettings, CameraSettings())
    assert answer.ac == 400
    assert answer.ad.startswith(field)


@pytest.mark.parametrize("folder", [None, "", " ", "$CAMERA_FOLDER"])
def test_without_a_folder_the_scene_is_used(folder: str | None) -> None:
    """An undefined variable arrives with its literal name from the manifest."""
    environment = {} if folder is None else {"CAMERA_FOLDER": folder}
    assert CameraEnvironment.read(environment).source == Address("scene", "")


def test_the_environment_is_read() -> None:
    """Name, picture folder and data folder."""
    environment = {"CAMERA_NAME": "left-1", "CAMERA_FOLDER": "/pictures", "DATA_FOLDER": "/data"}
    assert CameraEnvironment.read(environment) == CameraEnvironment(
        "left-1", Address("folder", "/pictures"), Path("/data"), base=Path("/pictures")
    )


@pytest.mark.parametrize("name", ["a b", "ä", "x" * 33, "a/b"])
def test_an_invalid_camera_name_is_refused_with_the_cure(name: str) -> None:
    """The name is part of each frame's identity, of routes and of file names."""
    with pytest.raises(SettingsError, match=r"CAMERA_NAME=.*cure"):
        CameraEnvironment.read({"CAMERA_NAME": name})
