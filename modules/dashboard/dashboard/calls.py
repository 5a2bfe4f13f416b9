"""Calls a direct method of another module, and says in words why it did not work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from edgekit.hub.connection import CallFailed, MethodAnswer

logger = logging.getLogger(__name__)


def attempt(call: Callable[[], MethodAnswer], who: str) -> tuple[Any, str]:
    """Return the answer's payload and "", or None and the reason; never raise. `who`: the other module."""
    try:
        answer = call()
    except CallFailed as error:
        return None, str(error)
    except Exception as error:  # a thread that calls must not end
        logger.exception("%s: not called", who)
        return None, type(error).__name__
    if answer.status == 200:
        return answer.payload, ""
    said = answer.payload.get("error") if isinstance(answer.payload, dict) else None
    return None, str(said or f"{who} answers with status {answer.status}")
