"""What a compiled query makes of twins: rows, groups, pages and their continuation. Pure.

Rows come in the order of their keys (device, module; or a group's number), and a page goes on after a key:
what is created or removed in between neither repeats nor hides a row.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twinship.simulator.iot_hub.query.language import Column, Query
from twinship.simulator.iot_hub.query.terms import UNDEFINED, is_number, value_at

Twin = Mapping[str, Any]
Key = tuple[Any, ...]


class ContinuationInvalid(ValueError):
    """A continuation that this query did not give out."""


@dataclass(frozen=True)
class Page:
    """Some rows, and what leads to those after them; None at the end."""

    rows: Sequence[Twin]
    continuation: str | None


def rows(query: Query, twins: Iterable[Twin]) -> list[tuple[Key, Twin]]:
    """Every row with its key. `twins` are in the order of device and module."""
    matching = [twin for twin in twins if query.where(twin) is True]
    if query.aggregated:
        found: list[tuple[Key, Twin]] = [((n,), row) for n, row in enumerate(_grouped(query, matching))]
    else:
        found = [((t["deviceId"], t.get("moduleId") or ""), _projected(query.columns, t)) for t in matching]
    return found[: query.top]


def page(text: str, found: Sequence[tuple[Key, Twin]], continuation: str | None, size: int) -> Page:
    """At most `size` rows after those that `continuation` has seen. Raises ContinuationInvalid."""
    after = () if continuation is None else _read(text, continuation)
    left = [(key, row) for key, row in found if not after or key > after]
    here = left[:size]
    more = _written(text, here[-1][0]) if len(left) > size else None
    return Page([row for _, row in here], more)


def _projected(columns: Sequence[Column] | None, twin: Twin) -> Twin:
    if columns is None:
        return twin
    values = {column.name: value_at(column.path or ())(twin) for column in columns}
    return {name: value for name, value in values.items() if value is not UNDEFINED}


def _grouped(query: Query, twins: Sequence[Twin]) -> list[Twin]:
    """One row a group, in the order in which groups appear; without GROUP BY one row, also of nothing."""
    groups: dict[str, list[Twin]] = {} if query.groups else {"": []}
    for twin in twins:
        values = [value_at(path)(twin) for path in query.groups]
        shown = [None if value is UNDEFINED else [value] for value in values]
        groups.setdefault(json.dumps(shown, sort_keys=True) if shown else "", []).append(twin)
    return [_aggregated(query.columns or (), members) for members in groups.values()]


def _aggregated(columns: Sequence[Column], twins: Sequence[Twin]) -> Twin:
    row = {}
    for column in columns:
        if column.path is None:
            row[column.name] = len(twins)
            continue
        values = [value for twin in twins if (value := value_at(column.path)(twin)) is not UNDEFINED]
        value = _AGGREGATES[column.aggregate](values)
        if value is not UNDEFINED:
            row[column.name] = value
    return row


def _of_numbers(calculate: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    def aggregate(values: list[Any]) -> Any:
        numbers = [value for value in values if is_number(value)]
        return calculate(numbers) if numbers else UNDEFINED

    return aggregate


_AGGREGATES: Final[Mapping[str, Callable[[list[Any]], Any]]] = {
    "": lambda values: values[0] if values else UNDEFINED,  # a path of GROUP BY: the same in the whole group
    "count": len,
    "sum": _of_numbers(sum),
    "avg": _of_numbers(lambda numbers: sum(numbers) / len(numbers)),
    "min": _of_numbers(min),
    "max": _of_numbers(max),
}


def _written(text: str, key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([_digest(text), *key]).encode()).decode("ascii")


def _read(text: str, continuation: str) -> Key:
    try:
        digest, *key = json.loads(base64.urlsafe_b64decode(continuation))
    except (ValueError, TypeError, RecursionError):
        digest, key = "", []
    numbered = len(key) == 1 and is_number(key[0])
    named = len(key) == 2 and all(isinstance(part, str) for part in key)
    if digest != _digest(text) or not (numbered or named):
        raise ContinuationInvalid("x-ms-continuation is none that this query gave out")
    return tuple(key)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
