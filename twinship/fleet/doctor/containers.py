"""Checks createOptions: JSON, length, ports, mounts, privileges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from twinship.fleet.doctor.catalogue import Finding
from twinship.fleet.doctor.document import AGENT, Document, ModuleEntry, table
from twinship.fleet.doctor.project import Project
from twinship.simulator.manifest.modules_content import joined_options, split_options

MAX_CHARACTERS = 4096  # eight parts of 512 characters (ref 8)
_ANY_ADDRESS = ("", "0.0.0.0", "::")
_WINDOWS = re.compile(r"[A-Za-z]:|\\\\")
_OF_THE_DEVICE = ("/dev", "/proc", "/sys", "/run", "/var/run")  # say nothing about another machine


def check(document: Document, project: Project) -> Iterator[Finding]:
    """All findings about createOptions."""
    ports: list[tuple[str, str, str]] = []  # port and protocol, address, module
    for module in document.modules(system=True):
        place = (AGENT, *module.path, "settings", "createOptions")
        try:
            text = joined_options(module.settings)
            split_options(module.settings)
            options = json.loads(text)
            if not isinstance(options, dict):
                raise ValueError("is not an object")
        except ValueError as error:
            rule = "TW031" if "characters long" in str(error) else "TW030"
            yield document.found(rule, f"createOptions of module {module.name!r} {error}", *place)
            continue
        if len(text) > MAX_CHARACTERS:
            cause = f"createOptions of module {module.name!r} is {len(text)} characters long"
            yield document.found("TW031", cause, *place)
        host = table(options.get("HostConfig"))
        if host.get("Privileged") is True:
            cause = f"module {module.name!r} is privileged"
            yield document.found("TW033", cause, *place, "HostConfig", "Privileged")
        yield from _mounts(document, module, host, project)
        for port, address in _bindings(host):
            yield from _collision(document, module, port, address, ports)
            ports.append((port, address, module.name))


def _collision(
    document: Document, module: ModuleEntry, port: str, address: str, taken: list[tuple[str, str, str]]
) -> Iterator[Finding]:
    for other, at, owner in taken:
        if other == port and (at == address or at in _ANY_ADDRESS or address in _ANY_ADDRESS):
            place = (*module.path, "settings", "createOptions", "HostConfig", "PortBindings")
            yield document.found("TW032", f"{owner!r} and {module.name!r} bind {port}", AGENT, *place)
            return


def _bindings(host: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Port with protocol, and address, of each port of the device that is bound."""
    for inner, entries in table(host.get("PortBindings")).items():
        for entry in entries if isinstance(entries, list) else ():
            port = str(table(entry).get("HostPort") or "")
            if port.isdecimal():
                protocol = inner.partition("/")[2] or "tcp"
                yield f"{port}/{protocol}", str(table(entry).get("HostIp") or "")


def _mounts(
    document: Document, module: ModuleEntry, host: dict[str, Any], project: Project
) -> Iterator[Finding]:
    for key, source in _sources(host):
        place = (AGENT, *module.path, "settings", "createOptions", "HostConfig", key)
        if "$" in source or _WINDOWS.match(source):
            continue
        if not source.startswith("/"):
            if "/" in source or source.startswith("."):
                cause = f"{source!r} of module {module.name!r} is neither a path from / nor a volume"
                yield document.found("TW035", cause, *place)
        elif not _is_of_the_device(source) and not project.exists(source):
            cause = f"{source} of module {module.name!r} does not exist here"
            yield document.found("TW034", cause, *place)


def _sources(host: dict[str, Any]) -> Iterator[tuple[str, str]]:
    binds, mounts = host.get("Binds"), host.get("Mounts")
    for bind in binds if isinstance(binds, list) else ():
        if isinstance(bind, str) and bind:
            yield "Binds", bind if _WINDOWS.match(bind) else bind.partition(":")[0]
    for mount in mounts if isinstance(mounts, list) else ():
        if table(mount).get("Type") == "bind" and isinstance(table(mount).get("Source"), str):
            yield "Mounts", mount["Source"]


def _is_of_the_device(path: str) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in _OF_THE_DEVICE)
