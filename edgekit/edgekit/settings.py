"""Validates a writable section of the twin, and answers it in the form of IoT Plug and Play.

A section is accepted as a whole or not at all.

>>> class Camera(pydantic.BaseModel):
...     model_config = pydantic.ConfigDict(strict=True, extra="forbid")
...     fps: float = 10
>>> settings, answer = validate({"fps": 5}, Camera, last=Camera())
>>> answer.reported("camera", version=12)
{'camera': {'value': {'fps': 5.0}, 'ac': 200, 'av': 12, 'ad': ''}}
>>> settings, answer = validate({"fps": "fast"}, Camera, last=settings)
>>> settings.fps, answer.ac, answer.ad
(5.0, 400, 'fps: Input should be a valid number')
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic

M = TypeVar("M", bound=pydantic.BaseModel)

_MAX_DESCRIPTION_BYTES = 1_024  # a reported string may have 4,096 (ref 4.9)
_MAX_ERRORS = 8


@dataclass(frozen=True)
class PnpAnswer:
    """The answer to one writable section."""

    value: Mapping[str, Any]  # the settings in force
    ac: int  # 200: accepted, 400: refused
    ad: str  # reason

    @property
    def accepted(self) -> bool:
        """Whether the section was accepted."""
        return self.ac == 200

    def reported(self, section: str, version: int) -> dict[str, Any]:
        """The reported patch. `version` is the desired `$version` that this answers."""
        return {section: {"value": dict(self.value), "ac": self.ac, "av": version, "ad": self.ad}}


def validate(section: object, model: type[M], last: M) -> tuple[M, PnpAnswer]:
    """The settings to put in force, and the answer for the twin. Never raises.

    If a field is invalid, `last` stays in force and the answer names every invalid field. An absent section
    (None) keeps `last` and is not an error: a manifest that is applied again may leave it out.
    """
    if section is None:
        return last, PnpAnswer(_dump(last), 200, "not in the twin: settings unchanged")
    if not isinstance(section, Mapping):
        return last, PnpAnswer(_dump(last), 400, f"must be an object, is {type(section).__name__}")
    try:
        settings = model.model_validate(dict(section))
    except pydantic.ValidationError as error:
        return last, PnpAnswer(_dump(last), 400, _describe(error))
    except Exception as error:  # raised by a validator of the model
        return last, PnpAnswer(_dump(last), 400, _cut(f"{type(error).__name__}: {error}"))
    return settings, PnpAnswer(_dump(settings), 200, "")


def _dump(settings: pydantic.BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True)


def _describe(error: pydantic.ValidationError) -> str:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(str(name) for name in each['loc'])}: {each['msg']}" for each in errors[:_MAX_ERRORS]]
    if len(errors) > _MAX_ERRORS:
        lines.append(f"and {len(errors) - _MAX_ERRORS} more")
    return _cut("; ".join(lines))


def _cut(text: str) -> str:
    return text.encode()[:_MAX_DESCRIPTION_BYTES].decode(errors="ignore")
