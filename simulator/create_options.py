"""createOptions in its two forms (ref 8): an object in a template, JSON text in parts in a twin."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

PART_CHARACTERS = 512  # older hubs limited a twin's string to this
MAX_PARTS = 8

_PART = re.compile(r"createOptions[0-9]*")


def joined(settings: Mapping[str, Any]) -> str:
    """The whole JSON text, `{}` when there is none; raises ValueError if neither object nor JSON text."""
    parts = [settings[key] for key in sorted(settings) if _PART.fullmatch(key)]
    if parts and isinstance(parts[0], dict):
        return json.dumps(parts[0], separators=(",", ":"))
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("must be an object, or JSON text in strings")
    text = "".join(parts) or "{}"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error.msg} at character {error.pos}") from None
    return text


def split(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with an object turned into strings, as iotedgedev does; raises ValueError if too long."""
    if not isinstance(settings.get("createOptions"), dict):
        return dict(settings)
    text = joined({"createOptions": settings["createOptions"]})
    parts = [text[at : at + PART_CHARACTERS] for at in range(0, len(text), PART_CHARACTERS)]
    if len(parts) > MAX_PARTS:
        raise ValueError(f"is {len(text)} characters long, at most {MAX_PARTS * PART_CHARACTERS}")
    names = ["createOptions", *(f"createOptions{index:02}" for index in range(1, MAX_PARTS))]
    others = {key: value for key, value in settings.items() if not _PART.fullmatch(key)}
    return {**others, **dict(zip(names, parts, strict=False))}
