"""Checks the desired properties by IoT Hub's limits (ref 4.9), those of `$edgeAgent` and `$edgeHub` too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from twinship.fleet.doctor.catalogue import Finding, finding
from twinship.fleet.doctor.document import AGENT, DESIRED, Document, table
from twinship.simulator import lint
from twinship.simulator.manifest.modules_content import split_options, without_empty_credentials

#: How the text of an error ends → the rule.
_RULES = (
    (re.compile(r"is a string of \d+ bytes, \d+ allowed$"), "TW202"),
    (re.compile(r"(is a name of \d+ bytes, \d+ allowed|is not allowed in a name)$"), "TW203"),
    (re.compile(r"is deeper than \d+ levels$"), "TW204"),
    (re.compile(r"^desired has \d+ bytes, \d+ allowed$"), "TW201"),
)


def check(document: Document) -> Iterator[Finding]:
    """The first limit that each twin breaks, and tags."""
    for name, desired in document.desired.items():
        section = _as_sent(desired) if name == AGENT else desired
        if error := lint.twin_error(section):
            rule = next((rule for pattern, rule in _RULES if pattern.search(error)), "TW205")
            yield document.found(rule, f"the twin of {name!r}: {error}", name, *_keys(section, error))
        for key in ("tags", DESIRED + ".tags"):
            if key in table(document.content.get(name)):
                line = document.lines[*document.root, name, key]
                yield finding("TW206", document.file, line, f"{name!r} has 'tags'")


def _as_sent(agent: Mapping[str, Any]) -> dict[str, Any]:
    """`$edgeAgent`'s properties with createOptions as strings and without empty credentials."""
    sent = without_empty_credentials(dict(agent))
    for group in ("systemModules", "modules"):
        modules = table(sent.get(group))
        if modules:
            sent = {**sent, group: {name: _split(spec) for name, spec in modules.items()}}
    return sent


def _split(spec: Any) -> Any:
    try:
        return {**spec, "settings": split_options(spec["settings"])}
    except (AttributeError, TypeError, KeyError, ValueError):  # another rule reports the form
        return spec


def _keys(section: Mapping[str, Any], error: str) -> list[str | int]:
    """The path of the value that the error names: it begins with `desired.a.b`."""
    path: list[str | int] = []
    at, rest = section, error.removeprefix("desired")
    while isinstance(at, Mapping):
        fitting = [key for key in at if rest.startswith(f".{key}")]
        if not fitting:
            break
        key = max(fitting, key=len)
        path.append(key)
        at, rest = at[key], rest.removeprefix(f".{key}")
    return path
