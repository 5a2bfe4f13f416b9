"""Prometheus text: samples to lines, and the few rules that the IoT Edge metrics collector adds (ref 9).

The collector reads a number or NaN and knows no infinity. Counts nothing, serves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_ESCAPED: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(frozen=True)
class Family:
    """All samples of one name. `kind`: counter (then its name ends in `_total`) or gauge."""

    name: str
    kind: str
    help: str
    samples: tuple[tuple[Mapping[str, str], float], ...]


def text(families: Iterable[Family], labels: Mapping[str, str]) -> str:
    """The families that have samples, each sample with these labels as well."""
    lines: list[str] = []
    for family in families:
        if family.samples:
            lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
            lines += [_line(family.name, {**labels, **own}, value) for own, value in family.samples]
    return "".join(f"{line}\n" for line in lines)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    written = ",".join(f'{key}="{label.translate(_ESCAPED)}"' for key, label in labels.items())
    return f"{name}{{{written}}} {_number(value)}"


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN"
    return str(int(value)) if value == int(value) else repr(float(value))
