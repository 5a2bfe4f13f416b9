"""JSON merge patches of a twin's desired properties (RFC 7396, ref 5.3).

>>> merge({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": 4}})
{'b': {'c': 4, 'd': 3}}
>>> replacement({"parts": {"00": "x", "01": "y"}}, {"parts": {"00": "z"}})
{'parts': {'01': None, '00': 'z'}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(document: object, patch: Mapping[str, Any]) -> dict[str, Any]:
    """The document after the patch: objects merge, null deletes."""
    result = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value) if isinstance(value, Mapping) else value
    return result


def replacement(before: object, after: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that turns `before` into exactly `after`: all of `after`, and null for each other key."""
    old = before if isinstance(before, Mapping) else {}
    deleted: dict[str, Any] = {name: None for name in old if name not in after}
    new = {
        name: replacement(old.get(name), value) if isinstance(value, Mapping) else value
        for name, value in after.items()
    }
    return deleted | new
