"""The camera's settings: environment variables, read once, and the twin's `camera` section."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from camera_sim.pacing import Pacing
from edgekit.frame.batch import MAX_FRAMES

Encoding = Literal["png", "jpeg", "raw", "as_is"]
MIN_RATE, MAX_RATE = 0.001, 100_000.0  # frames in a second
Rate = Annotated[float, Field(ge=MIN_RATE, le=MAX_RATE, allow_inf_nan=False)]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
# A variable that is not defined stays literal in a manifest (ref 7.2).
_UNSET_FOLDER = ("", "$CAMERA_FOLDER", "${CAMERA_FOLDER}")


class SettingsError(ValueError):
    """An environment variable is invalid. The text names the variable and the cure."""


class CameraSettings(BaseModel):
    """The twin's `camera` section."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    fps: Rate = 10
    frames: int = Field(default=0, ge=0)  # of this run; 0: no limit
    paused: bool = False
    credit: int = Field(default=32, ge=0, le=100_000)  # most frames in flight; 0: no limit
    encoding: Encoding = "png"
    batch: int = Field(default=1, ge=1, le=MAX_FRAMES)  # most frames in one message
    pacing: Pacing = "steady"  # poisson: random intervals, fps on average
    ledger: bool = False  # write the send log


class RateRequest(BaseModel):
    """The payload of method `set_rate`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    fps: Rate


@dataclass(frozen=True)
class CameraEnvironment:
    """The camera's environment variables."""

    name: str
    folder: Path | None  # None: the drawn scene
    data_folder: Path
    health_file: Path | None = None  # touched while the camera works; for the image's HEALTHCHECK

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "CameraEnvironment":
        """Read from the process's variables. Raises SettingsError."""
        name = environment.get("CAMERA_NAME") or "camera"
        if not _NAME.fullmatch(name):
            raise SettingsError(f"CAMERA_NAME={name!r}: cure: 1 to 32 of A-Z a-z 0-9 _ -")
        folder = environment.get("CAMERA_FOLDER", "").strip()
        return cls(
            name=name,
            folder=None if folder in _UNSET_FOLDER else Path(folder),
            data_folder=Path(environment.get("DATA_FOLDER") or "."),
            health_file=Path(environment["HEALTH_FILE"]) if environment.get("HEALTH_FILE") else None,
        )
