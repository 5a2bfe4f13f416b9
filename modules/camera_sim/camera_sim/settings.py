"""The camera's settings: environment variables, read once, and the twin's `camera` section."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from camera_sim.pacing import Pacing
from camera_sim.preview import PreviewSettings
from camera_sim.sources.address import Address, SourceError, below, parse
from camera_sim.sources.settings import SceneDials, VideoSettings
from camera_sim.sources.table import check_installed
from edgekit.environment import variable
from edgekit.frame.batch import MAX_FRAMES

Encoding = Literal["png", "jpeg", "raw", "as_is"]
MIN_RATE, MAX_RATE = 0.001, 100_000.0  # frames in a second
Rate = Annotated[float, Field(ge=MIN_RATE, le=MAX_RATE, allow_inf_nan=False)]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")


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
    burst: int = Field(default=1, ge=1, le=1_000)  # frames that are due at once
    ledger: bool = False  # write the send log
    source: str | None = None  # as CAMERA_SOURCE, but without a password; None: the environment's
    scene: SceneDials = SceneDials()
    video: VideoSettings = VideoSettings()
    preview: PreviewSettings = PreviewSettings()


class RateRequest(BaseModel):
    """The payload of method `set_rate`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    fps: Rate


@dataclass(frozen=True)
class CameraEnvironment:
    """The camera's environment variables."""

    name: str
    source: Address  # unless the twin names another one
    data_folder: Path
    health_file: Path | None = None  # touched while the camera works; for the image's HEALTHCHECK
    base: Path | None = None  # `file:` and `folder:` of the twin lie below it
    ca_file: Path | None = None  # certificates (PEM) that sign those of `https:` and `rtsps:` cameras

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "CameraEnvironment":
        """Read from the process's variables. Raises SettingsError."""
        name = environment.get("CAMERA_NAME") or "camera"
        if not _NAME.fullmatch(name):
            raise SettingsError(f"CAMERA_NAME={name!r}: cure: 1 to 32 of A-Z a-z 0-9 _ -")
        folder = variable(environment, "CAMERA_FOLDER")
        base = Path(folder) if folder else None
        source = _source(environment, base)
        if base is None and source.scheme in ("file", "folder"):
            base = Path(source.target).parent if source.scheme == "file" else Path(source.target)
        return cls(
            name=name,
            source=source,
            data_folder=Path(environment.get("DATA_FOLDER") or "."),
            health_file=Path(environment["HEALTH_FILE"]) if environment.get("HEALTH_FILE") else None,
            base=base,
            ca_file=Path(ca_file) if (ca_file := variable(environment, "CAMERA_CA_FILE")) else None,
        )


def _source(environment: Mapping[str, str], base: Path | None) -> Address:
    """CAMERA_SOURCE, else the content of CAMERA_SOURCE_FILE, else the folder, else the scene."""
    name, text = "CAMERA_SOURCE", variable(environment, "CAMERA_SOURCE")
    if not text and (path := variable(environment, "CAMERA_SOURCE_FILE")):
        name = "CAMERA_SOURCE_FILE"
        try:
            text = Path(path).read_text().strip()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{name}={path}: {type(error).__name__}; cure: a readable file with one line"
            ) from error
    if not text:
        return Address("scene", "") if base is None else Address("folder", str(base))
    try:
        source = parse(text)
        check_installed(source)
        return source if base is None else below(source, base)
    except SourceError as error:
        raise SettingsError(f"{name}: {error}") from error
