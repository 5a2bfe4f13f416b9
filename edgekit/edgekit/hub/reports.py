"""Reported patches that wait for the hub: how two become one, and one several; sends nothing."""

from collections.abc import Mapping
from typing import Any

Patch = dict[str, Any]


def merged(first: Mapping[str, Any], then: Mapping[str, Any]) -> Patch | None:
    """One patch with the effect of both in this order, or None where no single patch can say it.

    None: `first` removes or overwrites something and `then` puts an object there; as one merge patch
    (RFC 7396) the object would merge with what the twin held before.
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
    """The patches to send, in order, once `patch` has joined those that wait."""
    if waiting and (joined := merged(waiting[-1], patch)) is not None:
        return (*waiting[:-1], joined)
    return (*waiting, dict(patch))


def split(patch: Mapping[str, Any]) -> tuple[Patch, ...]:
    """One patch for each section, so that a refused one takes no other with it."""
    return tuple({name: value} for name, value in patch.items())
