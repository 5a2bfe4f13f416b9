"""Read a deployment template as iotedgedev does (ref 7.2, 8): modules, routes, twins, and what a hub takes.

Pure but for `load`, which reads the template and the modules/*/module.json beside it. Compiles no route
(routes.py), runs no module (agent.py), sends nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from twinship.simulator.manifest import manifest as create_options
from twinship.simulator.manifest.placeholders import ModuleJson, substitute, with_images

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


__all__ = ["Deployment", "ManifestError", "Module", "ModuleJson", "Route", "deployment", "expand", "load"]

TEMPLATE_NAME = "deployment.template.json"
SYSTEM_MODULES = ("$edgeAgent", "$edgeHub")
LAST_IN_ORDER = 4_294_967_295  # a module without startupOrder starts last (ref 8)

RestartPolicy = Literal["never", "on-failure", "on-unhealthy", "always"]
Status = Literal["running", "stopped"]
Section = dict[str, Any]

_MODULE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SOURCE_MODULE = re.compile(r"/messages/modules/([^/\s*\"]+)", re.IGNORECASE)
_SINK_MODULE = re.compile(r"BrokeredEndpoint\s*\(\s*[\"']/modules/([^/\"']+)/inputs/", re.IGNORECASE)
_CONDITION = re.compile(r"\bWHERE\b.*\bINTO\b", re.IGNORECASE | re.DOTALL)


class ManifestError(ValueError):
    """The manifest itself is at fault; one line that begins with its file name."""


@dataclass(frozen=True)
class Module:
    """One entry of `$edgeAgent`'s modules. `create_options` is the joined JSON text."""

    name: str
    image: str
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    status: Status = "running"
    restart_policy: RestartPolicy = "always"
    startup_order: int = LAST_IN_ORDER
    create_options: str = "{}"
    version: str = ""


@dataclass(frozen=True)
class Route:
    """One entry of `$edgeHub`'s routes, in either of its two forms; the text is not parsed here."""

    text: str
    priority: int | None = None
    ttl_s: int | None = None  # 0 or None: what storeAndForwardConfiguration says


@dataclass(frozen=True)
class Deployment:
    """A manifest, expanded and checked. `twins` holds the desired properties of the modules' own twins."""

    modules: Mapping[str, Module]
    routes: Mapping[str, Route]
    twins: Mapping[str, Section] = field(repr=False)
    modules_content: Section = field(repr=False)  # what applyConfigurationContent takes (ref 5.2)


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
    """Read one module.json; variables in it are expanded as in the template. Raises ManifestError."""
    match _Reader(file).parsed(text, environment).get("image"):
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
    """Expand and check a template, or a manifest that iotedgedev has expanded already.

    Placeholders: `$VAR`, `${VAR}` (undefined ones stay literal), `${MODULES.x[.platform]}`.
    Raises ManifestError.
    """
    reader = _Reader(file)
    content = _modules_content(reader, reader.parsed(template, environment))
    try:
        content = with_images(content, modules, environment)
    except LookupError as error:
        raise reader.error(str(error.args[0])) from None
    expanded = deployment(content, file=file)
    for name, route in expanded.routes.items():
        _check_route_names(reader, name, route, expanded.modules)
    if strangers := sorted(expanded.twins.keys() - expanded.modules.keys()):
        raise reader.error(
            f"there is a twin for {strangers[0]!r}, which '$edgeAgent' does not list as a module"
        )
    return expanded


def deployment(modules_content: Mapping[str, Any], *, file: str = "modulesContent") -> Deployment:
    """Check the form of a `modulesContent` without placeholders, as IoT Hub does; raises ManifestError.

    Names that routes mention are not looked up: IoT Hub takes a route from a module that does not exist.
    """
    reader = _Reader(file)
    twins = {name: _desired(reader, name, modules_content) for name in modules_content}
    agent, hub = (twins.pop(name, None) for name in SYSTEM_MODULES)
    if agent is None or hub is None:
        raise reader.error("modulesContent needs both '$edgeAgent' and '$edgeHub'")
    specified = reader.table(agent, "modules", "'$edgeAgent'")
    modules = {name: _module(reader, name, spec) for name, spec in specified.items()}
    routes = {name: _route(reader, name, r) for name, r in reader.table(hub, "routes", "'$edgeHub'").items()}
    return Deployment(modules, routes, twins, _with_split_options(reader, modules_content, agent))


class _Reader:
    """Carries the file's name into every error."""

    def __init__(self, file: str) -> None:
        self.file = file

    def error(self, text: str) -> ManifestError:
        return ManifestError(f"{self.file}: {text}")

    def parsed(self, text: str, environment: Mapping[str, str]) -> Section:
        """Substitute the variables, then parse."""
        try:
            tree = json.loads(substitute(text, environment))
        except json.JSONDecodeError as error:
            raise self._misplaced(text, error) from None
        if not isinstance(tree, dict):
            raise self.error("the outermost value must be an object")
        return tree

    def _misplaced(self, text: str, after: json.JSONDecodeError) -> ManifestError:
        where = after
        try:
            json.loads(text)
        except json.JSONDecodeError as before:  # a position in the file as it was written, if there is one
            where = before
        return self.error(f"line {where.lineno} column {where.colno}: not JSON: {where.msg}")

    def table(self, parent: Mapping[str, Any], key: str, owner: str) -> Section:
        value = parent.get(key, {})
        if not isinstance(value, dict):
            raise self.error(f"{key!r} of {owner} must be an object")
        return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ManifestError(f"{path.name}: cannot be read: {error.strerror} ({path})") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path.name}: is not UTF-8 at byte {error.start}") from None


def _modules_content(reader: _Reader, tree: Section) -> Section:
    inner = tree.get("content", tree)  # layered and exported files wrap it (ref 8)
    content = inner.get("modulesContent") if isinstance(inner, dict) else None
    if not isinstance(content, dict):
        raise reader.error("has no 'modulesContent' object")
    return content


def _desired(reader: _Reader, name: str, content: Mapping[str, Any]) -> Section:
    entry = content[name]
    if not isinstance(entry, dict):
        raise reader.error(f"{name!r} must be an object")
    if dotted := next((key for key in entry if key.startswith("properties.desired.")), None):
        raise reader.error(
            f"{name!r} has {dotted!r}: layered deployments are not supported, only 'properties.desired'"
        )
    desired = entry.get("properties.desired")
    if not isinstance(desired, dict):
        raise reader.error(f"{name!r} has no 'properties.desired' object")
    return desired


def _module(reader: _Reader, name: str, spec: object) -> Module:
    owner = f"module {name!r}"
    if not _MODULE_NAME.fullmatch(name):
        raise reader.error(f"{owner}: a module's name may hold only letters, digits, '_' and '-'")
    if not isinstance(spec, dict):
        raise reader.error(f"{owner} must be an object")
    settings = reader.table(spec, "settings", owner)
    image = settings.get("image")
    if not isinstance(image, str) or not image.strip():
        raise reader.error(f'{owner} has no image: write "image": "${{MODULES.{name}}}" in its settings')
    policies = ("always", "never", "on-failure", "on-unhealthy")
    return Module(
        name=name,
        image=image,
        environment=_environment(reader, owner, reader.table(spec, "env", owner)),
        status=cast(Status, _one_of(reader, owner, spec, "status", ("running", "stopped"))),
        restart_policy=cast(RestartPolicy, _one_of(reader, owner, spec, "restartPolicy", policies)),
        startup_order=_startup_order(reader, owner, spec.get("startupOrder", LAST_IN_ORDER)),
        create_options=_joined_options(reader, owner, settings),
        version=str(spec.get("version", "")),
    )


def _environment(reader: _Reader, owner: str, table: Section) -> dict[str, str]:
    environment: dict[str, str] = {}
    for name, entry in table.items():
        match entry:
            case {"value": bool(value)}:
                environment[name] = "true" if value else "false"
            case {"value": str(value) | int(value) | float(value)}:
                environment[name] = str(value)
            case _:
                raise reader.error(f'env {name!r} of {owner} must be {{"value": text, number or boolean}}')
    return environment


def _one_of(reader: _Reader, owner: str, spec: Section, key: str, allowed: tuple[str, ...]) -> str:
    value = spec.get(key, allowed[0])
    if value not in allowed:
        raise reader.error(f"{key} {value!r} of {owner} is none of {', '.join(allowed)}")
    return str(value)


def _startup_order(reader: _Reader, owner: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LAST_IN_ORDER:
        raise reader.error(f"startupOrder {value!r} of {owner} must be 0 to {LAST_IN_ORDER}")
    return value


def _joined_options(reader: _Reader, owner: str, settings: Section) -> str:
    try:
        return create_options.joined(settings)
    except ValueError as error:
        raise reader.error(f"createOptions of {owner} {error}") from None


def _with_split_options(reader: _Reader, content: Mapping[str, Any], agent: Section) -> Section:
    """The content with every createOptions object as strings."""
    groups = {group: reader.table(agent, group, "'$edgeAgent'") for group in ("systemModules", "modules")}
    split = {
        group: {name: _split(reader, name, spec) for name, spec in t.items()} for group, t in groups.items()
    }
    return {**content, "$edgeAgent": {"properties.desired": {**agent, **split}}}


def _split(reader: _Reader, module: str, spec: object) -> object:
    if not isinstance(spec, dict) or not isinstance(spec.get("settings"), dict):
        return spec
    try:
        return {**spec, "settings": create_options.split(spec["settings"])}
    except ValueError as error:
        raise reader.error(f"createOptions of module {module!r} {error}") from None


def _route(reader: _Reader, name: str, value: object) -> Route:
    match value:
        case str(text):
            return Route(text)
        case {"route": str(text), **rest} if rest.keys() <= {"priority", "timeToLiveSecs"}:
            priority, ttl_s = (
                _whole_number(reader, name, rest, key) for key in ("priority", "timeToLiveSecs")
            )
            return Route(text, priority, ttl_s)
    raise reader.error(
        f"route {name!r} must be text, or an object of 'route', 'priority' and 'timeToLiveSecs'"
    )


def _whole_number(reader: _Reader, route: str, table: Mapping[Any, object], key: str) -> int | None:
    value = table.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise reader.error(f"{key} {value!r} of route {route!r} must be a whole number")
    return value


def _check_route_names(reader: _Reader, name: str, route: Route, modules: Mapping[str, Module]) -> None:
    # module names in routes match in any letter case (ref statement 46); a condition may hold any text
    known = {module.casefold() for module in modules}
    text = _CONDITION.sub("INTO", route.text)
    for module in _SOURCE_MODULE.findall(text) + _SINK_MODULE.findall(text):
        if module.casefold() not in known:
            raise reader.error(f"route {name!r} names module {module!r}, which the manifest does not have")
