"""The parts of the twin's `camera` section that belong to one kind of source."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_CONFIG = ConfigDict(
    strict=True, frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
)
DIGITS = "0123456789"


class VideoSettings(BaseModel):
    """`camera.video`: how `file:`, `v4l2:`, `rtsp:`, `rtsps:`, `http:` and `https:` are read."""

    model_config = _CONFIG

    max_side: int = Field(default=640, ge=16, le=4096)  # pixels; larger pictures are scaled down
    loop: bool = True  # a file begins again at its end
    timeout_s: float = Field(default=10, ge=1, le=120, allow_inf_nan=False)  # without a picture: lost


class SceneDials(BaseModel):
    """`camera.scene`: what the drawn scene shows, and how it is disturbed. Shares are of the pictures."""

    model_config = _CONFIG

    task: Literal["classification", "detection"] = "classification"
    noise: int = Field(default=0, ge=0, le=127)  # uniform, plus or minus so many grey values
    blur: float = Field(default=0, ge=0, le=20, allow_inf_nan=False)  # radius in pixels
    rotation: float = Field(default=0, ge=0, le=180, allow_inf_nan=False)  # plus or minus degrees
    brightness: float = Field(default=0, ge=-255, le=255, allow_inf_nan=False)  # grey values
    brightness_drift: float = Field(default=0, ge=-255_000, le=255_000, allow_inf_nan=False)  # in 1,000
    freeze: Share = 0  # the picture before is shown again
    black: Share = 0  # without truth
    dropped: Share = 0  # no frame is sent
    corrupt: Share = 0  # the frame's bytes end in the middle
    mix: dict[Literal["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], Annotated[float, Field(ge=0)]] = (
        Field(default_factory=dict)
    )  # digit → weight; a digit that is not in it has the weight 0; empty: all alike
