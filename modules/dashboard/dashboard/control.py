"""What the page may change, and who may ask for it. Pure.

Nothing, unless the module's twin says `{"dashboard": {"control": true}}`. Then pause, resume and rate of the
camera, and the model's rollback, each by a direct method of the other module. A browser sends cookies, and
reaches loopback, also for pages of other sites: so a request must come from the page itself (Origin equals
Host) and have a header that another site's page cannot send without being asked for permission first (CORS).

>>> refusal(ChangeRequest("127.0.0.1:8780", "http://127.0.0.1:8780", "same-origin", "1"), allowed=True)
''
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dashboard.calls import attempt
from dashboard.messages import MAX_SENTENCE, shown
from edgekit.hub.connection import MethodAnswer

HEADER: Final = "X-Twinship-Control"
CAMERA, INFERENCE = "camera", "inference"
READ_ONLY: Final = 'This page only reads; cure: {"dashboard": {"control": true}} in the twin of the module.'
FOREIGN: Final = "Only the page itself may change something."


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class DashboardSection(_Strict):
    """The twin's `dashboard` section."""

    control: bool = False


class Nothing(_Strict):
    """The payload of a change without one."""


class Rate(_Strict):
    """The payload of `rate`."""

    fps: Annotated[float, Field(gt=0, allow_inf_nan=False)]  # the camera knows the limits


class BadChange(ValueError):
    """The body of a request is not the payload of its change."""


@dataclass(frozen=True)
class ChangeRequest:
    """The headers of a request that matter; "" if absent."""

    host: str
    origin: str
    fetch_site: str
    marked: str  # HEADER


def refusal(request: ChangeRequest, *, allowed: bool) -> str:
    """Why this request may change nothing, in one line; "" if it may. `allowed`: by the twin."""
    if not allowed:
        return READ_ONLY
    same_origin = request.origin in (f"http://{request.host}", f"https://{request.host}")
    if not (same_origin and request.fetch_site in ("", "same-origin") and request.marked):
        return FOREIGN
    return ""


@dataclass(frozen=True)
class Change:
    """One thing that the page may change."""

    name: str  # in the address
    role: str  # the module that does it: CAMERA or INFERENCE
    method: str
    words: Callable[[Mapping[str, Any]], str]  # the result, of the method's payload
    payload: type[BaseModel] = Nothing


def _rate(payload: Mapping[str, Any]) -> str:
    return f"The camera sends {payload['fps']:g} frames a second."


def _rolled_back(payload: Mapping[str, Any]) -> str:
    model = f"{payload['model']['name']}:{payload['model']['version']}"
    if payload.get("answered"):
        return f"Inference runs {model} now and answered a frame."
    return f"Inference was set to {model}; not seen that it answers: {payload.get('notSeen')}"


CHANGES: Final[Mapping[str, Change]] = {
    each.name: each
    for each in (
        Change("pause", CAMERA, "pause", lambda _: "The camera is paused."),
        Change("resume", CAMERA, "resume", lambda _: "The camera sends frames again."),
        Change("rate", CAMERA, "set_rate", _rate, Rate),
        Change("rollback", INFERENCE, "rollback", _rolled_back),
    )
}


@dataclass(frozen=True)
class Outcome:
    """What came of a change, in words."""

    done: bool
    text: str


def payload_of(change: Change, body: bytes) -> dict[str, Any]:
    """The payload for the method. Raises BadChange."""
    try:
        return change.payload.model_validate_json(body or b"{}").model_dump()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(each) for each in first["loc"]) or "body"
        raise BadChange(f"{shown(where)}: {first['msg']}") from None


def perform(change: Change, call: Callable[[], MethodAnswer]) -> Outcome:
    """Call the method of the change, and say what came of it."""
    payload, failure = attempt(call, f"the {change.role} module")
    if failure:
        return Outcome(False, shown(f"Not done: {failure}", MAX_SENTENCE))
    try:
        return Outcome(True, shown(change.words(payload), MAX_SENTENCE))
    except (LookupError, TypeError, ValueError):  # another module of that name, or another version
        return Outcome(True, "Done; the answer has no words for it.")
