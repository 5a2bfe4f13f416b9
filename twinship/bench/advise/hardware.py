"""What is known of devices: measured by the method `benchmark`, or published by others. Never mixed.

Reads files; judges none. A measured record is the answer of the direct method as it came
(`twinship benchmark --out bench/devices/NAME.json`); a published row is another model on another task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinship.bench import BenchFailed

ROOM: Final = Path(__file__).parent
MEASURED: Final = ROOM / "devices"
PUBLISHED: Final = ROOM / "published.json"


class _Told(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Machine(_Told):
    """Names no host and no user."""

    machine: str
    processor: str
    cores: int | None
    memory_mb: int


class Model(_Told):
    """Which artefact answered."""

    name: str
    version: str
    sha256: str
    size: int  # bytes


class Milliseconds(_Told):
    """Of one bare invoke."""

    p50: float = Field(gt=0)
    p90: float = Field(gt=0)
    p99: float = Field(gt=0)


class Measured(_Told):
    """The answer of the method `benchmark`."""

    schema_: Literal["twinship.benchmark.v1"] = Field(alias="schema")
    device: Machine
    runtime: str
    runtime_version: str
    delegate: str | None
    model: Model
    queries: int
    invoke_ms: Milliseconds
    per_s: float = Field(gt=0)

    @property
    def name(self) -> str:
        """For a table."""
        delegate = f" + {self.delegate}" if self.delegate else ""
        return f"{self.device.processor}, {self.runtime} {self.runtime_version}{delegate}"


class Published(_Told):
    """One row of somebody else's table, for the model that `task` names and no other."""

    device: str
    per_s: float = Field(gt=0)
    source: str

    @property
    def invoke_ms(self) -> float:
        """In single stream one query follows the other, so the median is the rate's inverse."""
        return 1e3 / self.per_s


@dataclass(frozen=True)
class Table:
    """The published rows and what they are about."""

    task: str
    rows: tuple[Published, ...]


def measured(folder: Path = MEASURED) -> tuple[Measured, ...]:
    """Every record in a folder, by file name. Raises BenchFailed for a file that is none."""
    return tuple(_records(folder))


def _records(folder: Path) -> Iterator[Measured]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield Measured.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            what = " ".join(str(error).split())[:120]
            raise BenchFailed(
                f"{path} is no answer of the method benchmark ({what}); cure: twinship benchmark --out {path}"
            ) from None


def published(path: Path = PUBLISHED) -> Table:
    """The published rows of this repository."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return Table(told["task"], tuple(Published.model_validate(row) for row in told["rows"]))
