"""Merges reported patches that wait for the hub, and splits a patch into one for each section."""

from collections.abc import Mapping
from typing import Any

Patch = dict[str, Any]


def merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> Patch | None:
    """One patch with the effect of `first` and then `then`; None if no single patch has that effect.

    None: `first` removes or overwrites a value and `then` puts an object there. In one merge patch (RFC 7396)
    the object would be merged with the value that the twin held before.
    """
    result: Patch = dict(first)
    for name, value in then.items():
        before = result.get(name)
        if name not in result or not isinstance(value, Mapping):
            result[name] = value
        elif not isinstance(before, Mapping) or (inner := merged(before, value)) is None:
            return None
        else:
            result[name] = inner
    return result


def queued(waiting: tuple[Patch, ...], patch: Mapping[str, Any]) -> tuple[Patch, ...]:
    """The queue with `patch` merged into its last patch, or appended."""
    if waiting and (joined := merged(waiting[-1], patch)) is not None:
        return (*waiting[:-1], joined)
    return (*waiting, dict(patch))


def split(patch: Mapping[str, Any]) -> tuple[Patch, ...]:
    """One patch for each section: the hub then refuses only the invalid section."""
    return tuple({name: value} for name, value in patch.items())
