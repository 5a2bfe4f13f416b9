"""A data set of annotated pictures before its pictures are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgekit.frame.boxes import Annotation, Faults


@dataclass(frozen=True)
class Listed:
    """Part → picture file and annotation; the part is "" if the data set has none."""

    name: str
    root: Path
    parts: dict[str, list[tuple[Path, Annotation]]]
    unreadable: list[str] = field(default_factory=list)  # name and reason
    faults: Faults = field(default_factory=Faults)
