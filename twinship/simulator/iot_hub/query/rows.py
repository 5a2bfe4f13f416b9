"""The rows that a compiled query finds among twins, and their pages.

Rows come in the order of device and module, and a page begins after the last key of the page before. So a
twin that is created or removed between two pages neither repeats nor hides another row.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinship.simulator.iot_hub.query.language import Query
from twinship.simulator.iot_hub.query.terms import Evaluate
from twinship.simulator.routing.message import UNDEFINED

Twin = Mapping[str, Any]
Key = tuple[str, str]  # device, module


class ContinuationInvalid(ValueError):
    """The continuation does not come from an answer to this query."""


@dataclass(frozen=True)
class Page:
    """Some rows, and the continuation that leads to the rows after them; None at the end."""

    rows: Sequence[Twin]
    continuation: str | None


def rows(query: Query, twins: Iterable[Twin]) -> list[tuple[Key, Twin]]:
    """Every row with its key. `twins` are in the order of device and module."""
    matching = [twin for twin in twins if query.where(twin) is True]
    if query.count is not None:
        return [(("", ""), {query.count: len(matching)})]
    return [((t["deviceId"], t.get("moduleId") or ""), _projected(query.columns, t)) for t in matching]


def page(text: str, found: Sequence[tuple[Key, Twin]], continuation: str | None, size: int) -> Page:
    """At most `size` rows after those that `continuation` has seen. Raises ContinuationInvalid."""
    after = None if continuation is None else _read(text, continuation)
    left = [(key, row) for key, row in found if after is None or key > after]
    here = left[:size]
    more = _written(text, here[-1][0]) if len(left) > size else None
    return Page([row for _, row in here], more)


def _projected(columns: Mapping[str, Evaluate] | None, twin: Twin) -> Twin:
    if columns is None:
        return twin
    values = {name: evaluate(twin) for name, evaluate in columns.items()}
    return {name: value for name, value in values.items() if value is not UNDEFINED}


def _written(text: str, key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([_digest(text), *key]).encode()).decode("ascii")


def _read(text: str, continuation: str) -> Key:
    try:
        digest, device, module = json.loads(base64.urlsafe_b64decode(continuation))
    except (ValueError, TypeError, RecursionError):
        digest = device = module = None
    if digest != _digest(text) or not (isinstance(device, str) and isinstance(module, str)):
        raise ContinuationInvalid("x-ms-continuation does not come from an answer to this query")
    return device, module


def _digest(text: str) -> str:
    # a query is JSON text, which can hold a lone surrogate
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
