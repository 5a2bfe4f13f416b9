"""Expands the placeholders of a deployment template as iotedgedev does (ref 7.2).

>>> substitute('{"folder": "$DATA/${X}", "fps": $FPS}', {"DATA": "/data", "FPS": "3"})
'{"folder": "/data/${X}", "fps": 3}'
>>> modules = {"camera": ModuleJson("$REGISTRY/Camera", "0.2.0", ("amd64", "arm64v8"))}
>>> with_images({"image": "${MODULES.camera.arm64v8}"}, modules, {})
{'image': '$REGISTRY/camera:0.2.0-arm64v8'}
"""

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
    """The image in a module.json: repository, version, and the platforms that it is built for."""

    repository: str
    version: str
    platforms: tuple[str, ...]


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """Replace the variables in JSON text; undefined ones stay as they are.

    Inside a string the value is escaped, so a path with a quote or a backslash stays valid JSON. Outside of
    strings it is inserted as it is, so a variable may contain a number.
    """

    def replaced(match: re.Match[str]) -> str:
        if not match[0].startswith('"'):
            return _value(match, environment)
        return _VARIABLE.sub(lambda inner: _escaped(inner, environment), match[0])

    return _STRING_OR_VARIABLE.sub(replaced, text)


def undefined(value: str) -> Iterator[str]:
    """The names of the variables that a value still contains after expansion."""
    for match in _VARIABLE.finditer(value):
        yield match["bare"] or match["braced"]


def with_images(tree: Any, modules: Mapping[str, ModuleJson], environment: Mapping[str, str]) -> Any:
    """Replace `${MODULES.x[.platform]}` in every string by the image name; raises LookupError."""
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
    name, suffix = match[1], match[2]
    if name not in modules:
        raise LookupError(f"{match[0]} names no folder of modules/ that has a module.json")
    module = modules[name]
    default = environment.get("DEFAULT_PLATFORM") or DEFAULT_PLATFORM
    platform = {None: default, "debug": f"{default}.debug"}.get(suffix, suffix)
    if platform not in module.platforms:
        raise LookupError(f"{match[0]}: modules/{name}/module.json lists no platform {platform!r}")
    tag = "-".join(part for part in (module.version, environment.get("CONTAINER_TAG"), platform) if part)
    return f"{_lowered(module.repository)}:{tag}"


def _lowered(repository: str) -> str:
    """Docker needs lower case; the name of an undefined variable stays readable."""
    return "".join(
        part if part.startswith("$") else part.lower()
        for part in re.split(r"(\$\w+|\$\{[^}]*\})", repository)
    )


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    return environment.get(match["bare"] or match["braced"], match[0])


def _escaped(match: re.Match[str], environment: Mapping[str, str]) -> str:
    value = _value(match, environment)
    return value if value == match[0] else json.dumps(value, ensure_ascii=False)[1:-1]
