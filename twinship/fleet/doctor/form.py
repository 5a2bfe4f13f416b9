"""Checks the form of the manifest: keys, schema versions, values of modules (ref 8)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from twinship.fleet.doctor.catalogue import Finding, finding
from twinship.fleet.doctor.document import AGENT, DESIRED, HUB, Document, ModuleEntry, table

MAX_MODULES = 50
LAST_IN_ORDER = 4_294_967_295
SCHEMAS = {AGENT: ("1.0", "1.1"), HUB: ("1.0", "1.1", "1.2", "1.3")}
_TEMPLATES = {"1.0": ("1.0.0", "2.0.0"), "1.1": ("4.0.0",)}  # edgeAgent's schema → $schema-template
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_VALUES = {
    "type": ("docker",),
    "status": ("running", "stopped"),
    "restartPolicy": ("always", "never", "on-failure", "on-unhealthy"),
    "imagePullPolicy": ("on-create", "never"),
}
_SINCE_1_1 = ("startupOrder", "imagePullPolicy")


def check(document: Document) -> Iterator[Finding]:
    """All findings about the form."""
    for path in document.twice:
        yield finding("TW002", document.file, document.lines[path], f"the key {path[-1]!r} appears twice")
    yield from _sections(document)
    if document.whole:
        yield from _system_modules(document)
        yield from _schemas(document)
        yield from _twins_without_module(document)
    modules = list(document.modules(system=True))
    if len(modules) > MAX_MODULES:
        yield document.found("TW010", f"{len(modules)} modules, {MAX_MODULES} are allowed", AGENT, "modules")
    for module in modules:
        yield from _module(document, module)


def _sections(document: Document) -> Iterator[Finding]:
    for name, entry in document.content.items():
        known = isinstance(entry, dict) and any(
            key == DESIRED or key.startswith(DESIRED + ".") for key in entry
        )
        if not known:
            yield document.found("TW003", f"{name!r} has no '{DESIRED}'", name)
        elif not isinstance(entry.get(DESIRED, {}), dict):
            yield document.found("TW003", f"'{DESIRED}' of {name!r} is not an object", name)
    agent, hub = document.desired.get(AGENT, {}), document.desired.get(HUB, {})
    for owner, section, key in (
        (AGENT, agent, "modules"),
        (AGENT, agent, "systemModules"),
        (AGENT, agent, "runtime"),
        (HUB, hub, "routes"),
    ):
        if not isinstance(section.get(key, {}), dict):
            yield document.found("TW003", f"{key!r} of {owner!r} is not an object", owner, key)
    for group in ("modules", "systemModules"):
        for name, spec in table(agent.get(group)).items():
            if spec is not None and not isinstance(spec, dict):
                yield document.found("TW003", f"module {name!r} is not an object", AGENT, group, name)


def _system_modules(document: Document) -> Iterator[Finding]:
    for name in (AGENT, HUB):
        if DESIRED not in table(document.content.get(name)):
            yield document.found("TW004", f"{name} with '{DESIRED}' is missing", name)
    present = table(document.desired.get(AGENT, {}).get("systemModules"))
    for name in ("edgeAgent", "edgeHub"):
        if AGENT in document.content and name not in present:
            yield document.found("TW004", f"systemModules has no {name}", AGENT, "systemModules")


def _schemas(document: Document) -> Iterator[Finding]:
    for name, allowed in SCHEMAS.items():
        if name not in document.content:
            continue
        version = document.desired[name].get("schemaVersion")
        if minor_version(version) not in allowed:
            yield document.found("TW005", f"{name} has schemaVersion {version!r}", name, "schemaVersion")
    template, agent = document.tree.get("$schema-template"), _agent_schema(document)
    if template is not None and agent in _TEMPLATES and template not in _TEMPLATES[agent]:
        line = document.lines.get(("$schema-template",), 1)
        cause = f"$schema-template {template!r} with schemaVersion {agent} of {AGENT}"
        yield finding("TW007", document.file, line, cause)
    if "mqttBroker" in document.desired.get(HUB, {}):
        yield document.found("TW008", f"{HUB} has a section mqttBroker", HUB, "mqttBroker")


def minor_version(version: object) -> str:
    """`1.1` of `1.1.0`."""
    return ".".join(str(version).split(".")[:2])


def _agent_schema(document: Document) -> str:
    return minor_version(document.desired.get(AGENT, {}).get("schemaVersion", "1.1"))


def _twins_without_module(document: Document) -> Iterator[Finding]:
    known = {module.name for module in document.modules()} | {AGENT, HUB}
    for name in document.content:
        if name not in known:
            yield document.found("TW011", f"{AGENT} has no module {name!r}", name)


def _module(document: Document, module: ModuleEntry) -> Iterator[Finding]:
    owner = f"module {module.name!r}"

    def found(rule: str, cause: str, *keys: str) -> Finding:
        return document.found(rule, cause, AGENT, *module.path, *keys)

    if not _NAME.fullmatch(module.name) and "$" not in module.name:
        yield found("TW009", f"{owner} has a name that is not allowed")
    for key, allowed in _VALUES.items():
        value = module.spec.get(key, allowed[0])
        if value not in allowed and not _is_variable(value):
            yield found("TW012", f"{key} of {owner} is {value!r}, not {' or '.join(allowed)}", key)
    order = module.spec.get("startupOrder", 0)
    if type(order) is not int or not 0 <= order <= LAST_IN_ORDER:
        cause = f"startupOrder of {owner} is {order!r}, not a whole number from 0 to {LAST_IN_ORDER}"
        yield found("TW012", cause, "startupOrder")
    for key in _SINCE_1_1:
        if document.whole and key in module.spec and _agent_schema(document) == "1.0":
            yield found("TW006", f"{key} of {owner} needs schemaVersion 1.1", key)
    if module.spec.get("restartPolicy") == "on-unhealthy":
        cause = f"edgeAgent does not restart {owner} when its health check fails"
        yield found("TW013", cause, "restartPolicy")
    if not isinstance(module.spec.get("env", {}), dict):
        yield found("TW003", f"'env' of {owner} is not an object", "env")
    for name, entry in table(module.spec.get("env")).items():
        if not isinstance(table(entry).get("value"), str | int | float):
            yield found("TW015", f"variable {name!r} of {owner} has no 'value'", "env", name)


def _is_variable(value: Any) -> bool:
    return isinstance(value, str) and "$" in value
