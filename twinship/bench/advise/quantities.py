"""Bandwidths as people write them. The unit must say whether it means bits or bytes.

>>> bandwidth("2Mbit"), bandwidth("250 kB/s")
(250000.0, 250000.0)
>>> as_bits(250_000)
'2 Mbit/s'
"""

from __future__ import annotations

import math
import re
from typing import Final

from twinship.bench import BenchFailed

_FORM: Final = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<prefix>[kKMG]?)(?P<unit>bit|bps|B)(?P<time>/s)?", re.ASCII
)
_FACTORS: Final = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_BITS: Final = {"bit": 8, "bps": 8, "B": 1}  # bits of the unit in a byte


def bandwidth(text: str) -> float:
    """Parse a bandwidth into bytes/s. Raises BenchFailed unless it is a number above 0 with a unit."""
    found = _FORM.fullmatch(text.strip())
    value = 0.0
    if found:
        value = float(found["number"]) * _FACTORS[found["prefix"]] / _BITS[found["unit"]]
    if not (math.isfinite(value) and value > 0):
        raise BenchFailed(
            f"bandwidth {text[:40]!r}: write a number above 0 with a unit per second, bit, kbit, Mbit, Gbit, "
            "B, kB, MB or GB, as in 2Mbit or 250kB"
        )
    return value


def as_bits(bytes_s: float) -> str:
    """A finite bandwidth in bits per second, as links are sold."""
    bits = bytes_s * 8
    for factor, name in ((10**9, "Gbit/s"), (10**6, "Mbit/s"), (10**3, "kbit/s")):
        if bits >= factor:
            return f"{bits / factor:.3g} {name}"
    return f"{bits:.3g} bit/s"
