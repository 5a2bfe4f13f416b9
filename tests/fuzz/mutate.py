"""Changes a value inside the JSON of an input: after most random changes it would not parse.

>>> mutated(b'{"a": {"b": 1}}', seed=19)
b'{"a": []}'
>>> mutated(b"no JSON", seed=19) is None
True
"""

from __future__ import annotations

import json
import random
from typing import Any, Final

from tests.fuzz.target import SEPARATOR

ODD: Final[tuple[Any, ...]] = (
    *(
        None,
        True,
        0,
        -1,
        1,
        2**53,
        10**400,
        0.5,
        1e308,
        float("nan"),
        "",
        "a",
        "1",
        "\ud800",
        "\0",
        "x" * 130,
    ),
    *([], [None], {}, {"": {}}, {"$a.b": [[]]}),
)


def mutated(data: bytes, seed: int) -> bytes | None:
    """The input with one value of its last part that is JSON replaced, moved or removed; None without one."""
    parts, rng = data.split(SEPARATOR), random.Random(seed)
    for index, part in reversed(list(enumerate(parts))):
        try:
            document = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if isinstance(document, dict | list):
            parts[index] = json.dumps(_changed(document, rng)).encode()
            return SEPARATOR.join(parts)
    return None


def _changed(document: Any, rng: random.Random) -> Any:
    places = list(_places(document))
    if not places or rng.random() < 0.02:
        return rng.choice(ODD)
    holder, key = rng.choice(places)
    if rng.random() < 0.1:
        del holder[key]
    elif rng.random() < 0.3:
        other, other_key = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[other_key]))  # a copy: no value may hold itself
    else:
        holder[key] = rng.choice(ODD)
    return document


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Each value inside, as its object or array and its key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]
