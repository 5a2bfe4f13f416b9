"""Reads a deployment template as iotedgedev does (ref 7.2, 8): expands placeholders, checks the result.

`load` also reads the modules/*/module.json beside the template. The text of routes is not parsed here:
twinship.simulator.lint does that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from twinship.simulator.manifest.modules_content import (
    Deployment,
    ManifestError,
    Module,
    Reader,
    Route,
    Section,
    deployment,
)
from twinship.simulator.manifest.placeholders import ModuleJson, substitute, with_images

MAX_BYTES = 1_048_576  # IoT Hub takes far smaller deployments
TEMPLATE_NAME = "deployment.template.json"

_SOURCE_MODULE = re.compile(r"/messages/modules/([^/\s*\"]+)", re.IGNORECASE)
_SINK_MODULE = re.compile(r"BrokeredEndpoint\s*\(\s*[\"']/modules/([^/\"']+)/inputs/", re.IGNORECASE)
_CONDITION = re.compile(r"\bWHERE\b.*\bINTO\b", re.IGNORECASE | re.DOTALL)


def load(template: Path, environment: Mapping[str, str]) -> Deployment:
    """Read a template and the modules/*/module.json in its folder; raises ManifestError."""
    modules = {
        path.parent.name: module_json(
            _text(path), environment, file=f"modules/{path.parent.name}/module.json"
        )
        for path in sorted(template.parent.glob("modules/*/module.json"))
    }
    return expand(_text(template), environment, modules, file=template.name)


def module_json(text: str, environment: Mapping[str, str], *, file: str = "module.json") -> ModuleJson:
    """Read one module.json; expands variables as in the template. Raises ManifestError."""
    match _parsed(Reader(file), text, environment).get("image"):
        case {"repository": str(repository), "tag": {"version": str(version), "platforms": dict(platforms)}}:
            return ModuleJson(repository, version, tuple(platforms))
    raise ManifestError(f"{file}: 'image' needs 'repository' and 'tag' with 'version' and 'platforms'")


def expand(
    template: str,
    environment: Mapping[str, str],
    modules: Mapping[str, ModuleJson],
    *,
    file: str = TEMPLATE_NAME,
) -> Deployment:
    """Expand and check a template, or a manifest that iotedgedev has expanded. Raises ManifestError.

    Placeholders: `$VAR` and `${VAR}`, which stay literal if undefined, and `${MODULES.x[.platform]}`.
    """
    reader = Reader(file)
    content = _modules_content(reader, _parsed(reader, template, environment))
    try:
        content = with_images(content, modules, environment)
    except LookupError as error:
        raise reader.error(str(error.args[0])) from None
    expanded = deployment(content, file=file)
    for name, route in expanded.routes.items():
        _check_route_names(reader, name, route, expanded.modules)
    if unknown := sorted(expanded.twins.keys() - expanded.modules.keys()):
        raise reader.error(
            f"there is a twin for {unknown[0]!r}, which '$edgeAgent' does not list as a module"
        )
    return expanded


def _parsed(reader: Reader, text: str, environment: Mapping[str, str]) -> Section:
    """Substitute the variables, then parse."""
    try:
        tree = json.loads(substitute(text, environment))
    except json.JSONDecodeError as error:
        raise _not_json(reader, text, error) from None
    except RecursionError:
        raise reader.error("not JSON: it nests too deep") from None
    if not isinstance(tree, dict):
        raise reader.error("the outermost value must be an object")
    return tree


def _not_json(reader: Reader, text: str, after: json.JSONDecodeError) -> ManifestError:
    where = after
    try:
        json.loads(text)
    except json.JSONDecodeError as before:  # its position is one in the file, before the substitution
        where = before
    return reader.error(f"line {where.lineno} column {where.colno}: not JSON: {where.msg}")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ManifestError(f"{path.name}: has more than {MAX_BYTES:,} bytes ({path})")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path.name}: cannot be read: {error.strerror} ({path})") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path.name}: is not UTF-8 at byte {error.start}") from None


def _modules_content(reader: Reader, tree: Section) -> Section:
    inner = tree.get("content", tree)  # layered and exported files wrap it (ref 8)
    content = inner.get("modulesContent") if isinstance(inner, dict) else None
    if not isinstance(content, dict):
        raise reader.error("has no 'modulesContent' object")
    return content


def _check_route_names(reader: Reader, name: str, route: Route, modules: Mapping[str, Module]) -> None:
    # module names in routes match in any letter case (ref statement 46); a condition may contain any text
    known = {module.casefold() for module in modules}
    text = _CONDITION.sub("INTO", route.text)
    for module in _SOURCE_MODULE.findall(text) + _SINK_MODULE.findall(text):
        if module.casefold() not in known:
            raise reader.error(f"route {name!r} names module {module!r}, which the manifest does not have")
