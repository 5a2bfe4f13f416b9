"""A twin's writable section to settings, and its answer in the IoT Plug and Play shape; applies nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pydantic

M = TypeVar("M", bound=pydantic.BaseModel)

_MAX_DESCRIPTION_BYTES = 1_024  # a reported string may hold 4,096 (ref 4.9); a person reads less
_MAX_ERRORS = 8


@dataclass(frozen=True)
class PnpAnswer:
    """What to report about one writable section; `reported` gives it the twin's shape."""

    value: Mapping[str, Any]  # what runs now
    ac: int  # 200 taken, 400 not
    ad: str  # why, in words

    @property
    def accepted(self) -> bool:
        """Whether the section was taken as it stands."""
        return self.ac == 200

    def reported(self, section: str, version: int) -> dict[str, Any]:
        """The reported patch. `version` is desired `$version`, the one that this answers."""
        return {section: {"value": dict(self.value), "ac": self.ac, "av": version, "ad": self.ad}}


def validate(section: object, model: type[M], last: M) -> tuple[M, PnpAnswer]:
    """The settings to run with, and the answer for the twin. Never raises.

    A section is taken as a whole or not at all: with one wrong field `last` stays in force and every wrong
    field is named. An absent section (None) changes nothing and is not an error: a re-applied manifest may
    leave it out.
    """
    if section is None:
        return last, PnpAnswer(_dump(last), 200, "not in the twin: keeping what runs")
    if not isinstance(section, Mapping):
        return last, PnpAnswer(_dump(last), 400, f"must be an object, is {type(section).__name__}")
    try:
        settings = model.model_validate(dict(section))
    except pydantic.ValidationError as error:
        return last, PnpAnswer(_dump(last), 400, _describe(error))
    except Exception as error:  # a model's own validator: still only one section's fault
        return last, PnpAnswer(_dump(last), 400, _cut(f"{type(error).__name__}: {error}"))
    return settings, PnpAnswer(_dump(settings), 200, "")


def _dump(settings: pydantic.BaseModel) -> dict[str, Any]:
    return settings.model_dump(mode="json", by_alias=True)


def _describe(error: pydantic.ValidationError) -> str:
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in errors[:_MAX_ERRORS]]
    if len(errors) > _MAX_ERRORS:
        lines.append(f"and {len(errors) - _MAX_ERRORS} more")
    return _cut("; ".join(lines))


def _cut(text: str) -> str:
    return text.encode()[:_MAX_DESCRIPTION_BYTES].decode(errors="ignore")
