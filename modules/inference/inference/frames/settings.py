"""The twin sections that configure the frame path: `inference` and `telemetry`."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from inference.frames.prediction import Predictions
from inference.frames.queue import Overload


class _Section(BaseModel):
    # An unknown field is an error: a misspelt field would otherwise be accepted and have no effect.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class InferenceSection(_Section):
    """Twin section `inference`."""

    confidenceThreshold: float = Field(default=0.6, ge=0, le=1)
    topK: int = Field(default=3, ge=1, le=10)
    overload: Overload = "newest"
    latencyBudgetMs: float = Field(default=20, gt=0, le=60_000)
    decodeBudgetMegapixels: float = Field(default=16.8, gt=0, le=1_000)  # a message; a JPEG of 4096x4096


class TelemetrySection(_Section):
    """Twin section `telemetry`."""

    intervalSeconds: float = Field(default=10, ge=1, le=3_600)
    predictions: Predictions = "changes"


@dataclass(frozen=True)
class Settings:
    """The current values of both sections."""

    inference: InferenceSection = field(default_factory=InferenceSection)
    telemetry: TelemetrySection = field(default_factory=TelemetrySection)
