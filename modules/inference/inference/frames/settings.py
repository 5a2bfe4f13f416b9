"""The twin sections that configure the frame path: `inference` and `telemetry`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from inference.drift.state import FRAMES
from inference.frames.budget import LEAST_PER_DAY
from inference.frames.prediction import Predictions
from inference.frames.queue import Overload


class _Section(BaseModel):
    # An unknown field is an error: a misspelt field would otherwise be accepted and have no effect.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class DriftSection(_Section):
    """`inference.drift`."""

    framesBetweenFalseAlarms: int = Field(default=FRAMES, ge=0, le=10**12)  # 0: no detection


class InferenceSection(_Section):
    """Twin section `inference`."""

    confidenceThreshold: float = Field(default=0.6, ge=0, le=1)
    topK: int = Field(default=3, ge=1, le=10)
    overload: Overload = "newest"
    latencyBudgetMs: float = Field(default=20, gt=0, le=60_000)
    decodeBudgetMegapixels: float = Field(default=16.8, gt=0, le=1_000)  # a message; a JPEG of 4096x4096
    drift: DriftSection = Field(default_factory=DriftSection)


def _none_or_enough(per_day: int) -> int:
    if 0 < per_day < LEAST_PER_DAY:
        raise ValueError(f"use 0 for no limit, or at least {LEAST_PER_DAY}")
    return per_day


class TelemetrySection(_Section):
    """Twin section `telemetry`."""

    intervalSeconds: float = Field(default=10, ge=1, le=3_600)
    predictions: Predictions = "changes"
    heartbeatSeconds: float = Field(default=0, ge=0, le=86_400)  # a camera's answer is sent at least so often
    maxPerDay: Annotated[int, AfterValidator(_none_or_enough)] = Field(
        default=0, ge=0, le=10**9
    )  # 0: no limit
    blockBytes: int = Field(default=4_096, ge=512, le=262_144)  # what IoT Hub counts as one message


@dataclass(frozen=True)
class Settings:
    """The current values of both sections."""

    inference: InferenceSection = field(default_factory=InferenceSection)
    telemetry: TelemetrySection = field(default_factory=TelemetrySection)
