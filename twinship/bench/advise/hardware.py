"""Known devices: records of the direct method `benchmark`, and figures that others have published.

A record is the method's answer, written by `twinship benchmark --out devices/NAME.json`. Twinship brings the
records beside this file; `twinship advise` also reads those in the project's folder `devices`. A published
figure is of another model on another task, and is kept apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinship.bench import BenchFailed

MEASURED: Final = Path(__file__).parent / "devices"
PUBLISHED: Final = Path(__file__).parent / "published.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Machine(_Record):
    """The hardware, without host or user names."""

    machine: str
    processor: str
    cores: int | None
    memory_mb: int


class Model(_Record):
    """The measured artefact."""

    name: str
    version: str
    sha256: str
    size: int  # bytes


class Milliseconds(_Record):
    """Percentiles of one bare invoke."""

    p50: float = Field(gt=0)
    p90: float = Field(gt=0)
    p99: float = Field(gt=0)


class Measured(_Record):
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
        """The device in the tables."""
        delegate = f" + {self.delegate}" if self.delegate else ""
        return f"{self.device.processor}, {self.runtime} {self.runtime_version}{delegate}"


class Published(_Record):
    """One published figure, valid only for the model that the table's `task` names."""

    device: str
    per_s: float = Field(gt=0)
    source: str

    @property
    def invoke_ms(self) -> float:
        """The mean time of a query: in single stream, one query follows the other."""
        return 1e3 / self.per_s


@dataclass(frozen=True)
class Table:
    """Published figures of one task."""

    task: str
    rows: tuple[Published, ...]


def measured(folder: Path = MEASURED) -> tuple[Measured, ...]:
    """The records `*.json` of a folder, by file name. Raises BenchFailed for a file that is not a record."""
    return tuple(_records(folder))


def _records(folder: Path) -> Iterator[Measured]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield Measured.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            what = " ".join(str(error).split())[:120]
            raise BenchFailed(
                f"{path} is not a record of a device ({what}); cure: twinship benchmark --out {path}"
            ) from None


def published(path: Path = PUBLISHED) -> Table:
    """The published figures that Twinship brings."""
    table = json.loads(path.read_text(encoding="utf-8"))
    return Table(table["task"], tuple(Published.model_validate(row) for row in table["rows"]))
