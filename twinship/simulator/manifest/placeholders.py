"""Placeholders of a deployment template, as iotedgedev expands them (ref 7.2). Knows no manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_PLATFORM = "amd64"

_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<braced>[^}]*)\})", re.ASCII)
_STRING_OR_VARIABLE = re.compile(r'"(?:[^"\\]|\\.)*"|' + _VARIABLE.pattern, re.ASCII | re.DOTALL)
_MODULES = re.compile(r"\$\{MODULES\.([A-Za-z0-9_-]+)(?:\.([A-Za-z0-9_.-]+))?\}")
_MODULEDIR = re.compile(r"\$\{MODULEDIR<[^}]*\}")


@dataclass(frozen=True)
class ModuleJson:
    """What a module.json says about its image: repository, version, and the platforms it is built for."""

    repository: str
    version: str
    platforms: tuple[str, ...]


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """Put variables into JSON text; undefined ones stay as they are.

    Inside a string the value is escaped, so that a path with a quote or a backslash stays valid JSON; outside
    of one it goes in raw, so that a number may come from a variable.
    """

    def replaced(match: re.Match[str]) -> str:
        if not match[0].startswith('"'):
            return _value(match, environment)
        return _VARIABLE.sub(lambda inner: _escaped(inner, environment), match[0])

    return _STRING_OR_VARIABLE.sub(replaced, text)


def undefined(value: str) -> Iterator[str]:
    """The variables that are still in a value after expansion."""
    for match in _VARIABLE.finditer(value):
        yield match["bare"] or match["braced"]


def with_images(tree: Any, modules: Mapping[str, ModuleJson], environment: Mapping[str, str]) -> Any:
    """Put image names in place of `${MODULES.x[.platform]}` in every string; raises LookupError."""
    if isinstance(tree, dict):
        return {key: with_images(value, modules, environment) for key, value in tree.items()}
    if isinstance(tree, list):
        return [with_images(value, modules, environment) for value in tree]
    if isinstance(tree, str):
        return _text_with_images(tree, modules, environment)
    return tree


def _text_with_images(text: str, modules: Mapping[str, ModuleJson], environment: Mapping[str, str]) -> str:
    if unsupported := _MODULEDIR.search(text):
        raise LookupError(f"{unsupported[0]} is not supported: write ${{MODULES.name}} for modules/name")
    return _MODULES.sub(lambda match: _image(match, modules, environment), text)


def _image(match: re.Match[str], modules: Mapping[str, ModuleJson], environment: Mapping[str, str]) -> str:
    name, asked = match[1], match[2]
    if name not in modules:
        raise LookupError(f"{match[0]} names no folder of modules/ that has a module.json")
    module = modules[name]
    default = environment.get("DEFAULT_PLATFORM") or DEFAULT_PLATFORM
    platform = {None: default, "debug": f"{default}.debug"}.get(asked, asked)
    if platform not in module.platforms:
        raise LookupError(f"{match[0]}: modules/{name}/module.json lists no platform {platform!r}")
    tag = "-".join(part for part in (module.version, environment.get("CONTAINER_TAG"), platform) if part)
    return f"{_lowered(module.repository)}:{tag}"


def _lowered(repository: str) -> str:
    """Docker wants lower case; an undefined variable keeps its name, so that people recognise it."""
    return "".join(
        part if part.startswith("$") else part.lower()
        for part in re.split(r"(\$\w+|\$\{[^}]*\})", repository)
    )


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    return environment.get(match["bare"] or match["braced"], match[0])


def _escaped(match: re.Match[str], environment: Mapping[str, str]) -> str:
    value = _value(match, environment)
    return value if value == match[0] else json.dumps(value, ensure_ascii=False)[1:-1]
