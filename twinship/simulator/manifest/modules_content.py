"""The `modulesContent` of a deployment: modules, routes and twins, checked as IoT Hub does (ref 5.2, 8).

>>> content = {
...     "$edgeAgent": {"properties.desired": {"modules": {"camera": {"settings": {"image": "camera:1"}}}}},
...     "$edgeHub": {"properties.desired": {"routes": {"up": "FROM /messages/* INTO $upstream"}}},
... }
>>> deployment(content).modules["camera"].restart_policy
'always'
>>> deployment({})
Traceback (most recent call last):
    ...
twinship.simulator.manifest.modules_content.ManifestError: modulesContent: modulesContent needs both \
'$edgeAgent' and '$edgeHub'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

SYSTEM_MODULES = ("$edgeAgent", "$edgeHub")
PART_CHARACTERS = 512  # older hubs limited a string in a twin to this
MAX_PARTS = 8  # of createOptions
LAST_IN_ORDER = 4_294_967_295  # of a module without startupOrder (ref 8)

RestartPolicy = Literal["never", "on-failure", "on-unhealthy", "always"]
Status = Literal["running", "stopped"]
Section = dict[str, Any]

_MODULE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r"createOptions[0-9]*")
_UNSET_USER = re.compile(r"|\$CONTAINER_REGISTRY_USERNAME\w*|\$\{CONTAINER_REGISTRY_USERNAME\w*\}")


class ManifestError(ValueError):
    """The manifest is invalid; the message is one line that begins with the name of its file."""


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
    """One entry of `$edgeHub`'s routes, in either of its two forms; its text is not parsed here."""

    text: str
    priority: int | None = None
    ttl_s: int | None = None  # 0 or None: that of storeAndForwardConfiguration


@dataclass(frozen=True)
class Deployment:
    """An expanded and checked manifest. `twins`: the desired properties of each module's own twin."""

    modules: Mapping[str, Module]
    routes: Mapping[str, Route]
    twins: Mapping[str, Section] = field(repr=False)
    modules_content: Section = field(repr=False)  # the argument of applyConfigurationContent (ref 5.2)

    @property
    def credentials(self) -> Section:
        """The registry credentials by name: {username, password, address}. Never print them."""
        return registry_credentials(self.modules_content["$edgeAgent"]["properties.desired"])


def deployment(modules_content: Mapping[str, Any], *, file: str = "modulesContent") -> Deployment:
    """Check the form of a `modulesContent` without placeholders, as IoT Hub does; raises ManifestError.

    Does not look up the modules that routes name: IoT Hub accepts a route from an unknown module.
    """
    reader = Reader(file)
    twins = {name: _desired(reader, name, modules_content) for name in modules_content}
    agent, hub = (twins.pop(name, None) for name in SYSTEM_MODULES)
    if agent is None or hub is None:
        raise reader.error("modulesContent needs both '$edgeAgent' and '$edgeHub'")
    specified = reader.table(agent, "modules", "'$edgeAgent'")
    modules = {name: _module(reader, name, spec) for name, spec in specified.items()}
    routes = {name: _route(reader, name, r) for name, r in reader.table(hub, "routes", "'$edgeHub'").items()}
    return Deployment(modules, routes, twins, _with_split_options(reader, modules_content, agent))


def registry_credentials(agent: Section) -> Section:
    """The registryCredentials in the desired properties of `$edgeAgent`, {} without any."""
    found: Any = agent
    for key in ("runtime", "settings", "registryCredentials"):
        found = found.get(key) if isinstance(found, dict) else None
    entries = found.items() if isinstance(found, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def names_a_user(entry: Section) -> bool:
    """Whether registry credentials have a user name: empty, or an unset variable, means none are needed."""
    return not _UNSET_USER.fullmatch(str(entry.get("username") or ""))


def without_empty_credentials(agent: Section) -> Section:
    """The desired properties of `$edgeAgent` without registry credentials that have no user name."""
    found = registry_credentials(agent)
    if all(map(names_a_user, found.values())):
        return agent
    kept = {name: entry for name, entry in found.items() if names_a_user(entry)}
    settings = {**agent["runtime"]["settings"], "registryCredentials": kept}
    if not kept:
        del settings["registryCredentials"]  # edgeAgent does not need it
    return {**agent, "runtime": {**agent["runtime"], "settings": settings}}


def joined_options(settings: Mapping[str, Any]) -> str:
    """The whole JSON text of createOptions, `{}` without any; raises ValueError for anything but JSON."""
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
    except RecursionError:
        raise ValueError("is not JSON: it nests too deep") from None
    return text


def split_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with createOptions as strings, as iotedgedev does; raises ValueError if too long."""
    if not isinstance(settings.get("createOptions"), dict):
        return dict(settings)
    text = joined_options({"createOptions": settings["createOptions"]})
    parts = [text[at : at + PART_CHARACTERS] for at in range(0, len(text), PART_CHARACTERS)]
    if len(parts) > MAX_PARTS:
        raise ValueError(f"is {len(text)} characters long, at most {MAX_PARTS * PART_CHARACTERS}")
    names = ["createOptions", *(f"createOptions{index:02}" for index in range(1, MAX_PARTS))]
    others = {key: value for key, value in settings.items() if not _PART.fullmatch(key)}
    return {**others, **dict(zip(names, parts, strict=False))}


class Reader:
    """Starts each error with the name of the file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def error(self, text: str) -> ManifestError:
        return ManifestError(f"{self.file}: {text}")

    def table(self, parent: Mapping[str, Any], key: str, owner: str) -> Section:
        value = parent.get(key, {})
        if not isinstance(value, dict):
            raise self.error(f"{key!r} of {owner} must be an object")
        return value


def _desired(reader: Reader, name: str, content: Mapping[str, Any]) -> Section:
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


def _module(reader: Reader, name: str, spec: object) -> Module:
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


def _environment(reader: Reader, owner: str, table: Section) -> dict[str, str]:
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


def _one_of(reader: Reader, owner: str, spec: Section, key: str, allowed: tuple[str, ...]) -> str:
    value = spec.get(key, allowed[0])
    if value not in allowed:
        raise reader.error(f"{key} {value!r} of {owner} is not one of {', '.join(allowed)}")
    return str(value)


def _startup_order(reader: Reader, owner: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LAST_IN_ORDER:
        raise reader.error(f"startupOrder {value!r} of {owner} must be 0 to {LAST_IN_ORDER}")
    return value


def _joined_options(reader: Reader, owner: str, settings: Section) -> str:
    try:
        return joined_options(settings)
    except ValueError as error:
        raise reader.error(f"createOptions of {owner} {error}") from None


def _with_split_options(reader: Reader, content: Mapping[str, Any], agent: Section) -> Section:
    """The content with every createOptions object turned into strings."""
    groups = {group: reader.table(agent, group, "'$edgeAgent'") for group in ("systemModules", "modules")}
    split = {
        group: {name: _split(reader, name, spec) for name, spec in t.items()} for group, t in groups.items()
    }
    return {**content, "$edgeAgent": {"properties.desired": {**without_empty_credentials(agent), **split}}}


def _split(reader: Reader, module: str, spec: object) -> object:
    if not isinstance(spec, dict) or not isinstance(spec.get("settings"), dict):
        return spec
    try:
        return {**spec, "settings": split_options(spec["settings"])}
    except ValueError as error:
        raise reader.error(f"createOptions of module {module!r} {error}") from None


def _route(reader: Reader, name: str, value: object) -> Route:
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


def _whole_number(reader: Reader, route: str, table: Mapping[Any, object], key: str) -> int | None:
    value = table.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise reader.error(f"{key} {value!r} of route {route!r} must be a whole number")
    return value
