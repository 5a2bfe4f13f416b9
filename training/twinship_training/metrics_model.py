"""What metrics.json is made of: frozen, closed, camelCase. Knows no fact."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Facts(BaseModel):
    """A part of metrics.json."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False
    )
