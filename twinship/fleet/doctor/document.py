"""The manifest as the checks see it: whole or layered, expanded, with the line of each value.

In a layered deployment the keys have dots (`properties.desired.modules.x`); here both forms look alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from twinship.fleet.doctor.catalogue import Finding, finding
from twinship.fleet.doctor.positions import Path, positions
from twinship.simulator.manifest import placeholders

DESIRED = "properties.desired"
AGENT, HUB = "$edgeAgent", "$edgeHub"


class Unreadable(Exception):
    """The manifest has no modulesContent; `finding` says why."""

    def __init__(self, found: Finding) -> None:
        super().__init__(found.cause)
        self.finding = found


@dataclass(frozen=True)
class ModuleEntry:
    """One entry of `modules` or `systemModules`; `path` is that below the properties of `$edgeAgent`."""

    name: str
    path: tuple[str, str]
    spec: Mapping[str, Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings, {} if they are no object."""
        return table(self.spec.get("settings"))

    @property
    def env(self) -> dict[str, str]:
        """The variables of the module as text."""
        entries = table(self.spec.get("env"))
        return {name: str(entry["value"]) for name, entry in entries.items() if "value" in table(entry)}


@dataclass(frozen=True)
class Document:
    """An expanded manifest. `desired`: module → desired properties, with the dots of a layer unfolded."""

    file: str
    text: str = field(repr=False)  # before the expansion
    tree: Mapping[str, Any] = field(repr=False)
    content: Mapping[str, Any] = field(repr=False)
    root: Path
    lines: Mapping[Path, int] = field(repr=False)
    twice: tuple[Path, ...]
    desired: Mapping[str, Mapping[str, Any]] = field(repr=False)

    @property
    def whole(self) -> bool:
        """Whether it replaces the modules of a device; a layer only adds to another deployment."""
        return any(DESIRED in table(self.content.get(name)) for name in (AGENT, HUB))

    def line(self, module: str, *keys: str | int) -> int:
        """The line of a desired property, or of the nearest object around it."""
        for count in range(len(keys), -1, -1):
            for dotted in range(count, -1, -1):
                name = ".".join((DESIRED, *map(str, keys[:dotted])))
                found = self.lines.get((*self.root, module, name, *keys[dotted:count]))
                if found:
                    return found
        return self.lines.get((*self.root, module)) or self.lines.get(self.root, 1)

    def found(self, rule: str, cause: str, module: str, *keys: str | int) -> Finding:
        """A finding at the line of a desired property."""
        return finding(rule, self.file, self.line(module, *keys), cause)

    def modules(self, *, system: bool = False) -> Iterator[ModuleEntry]:
        """The modules that are objects; with `system` also edgeAgent and edgeHub."""
        for group in ("systemModules", "modules") if system else ("modules",):
            for name, spec in table(table(self.desired.get(AGENT)).get(group)).items():
                if isinstance(spec, dict):
                    yield ModuleEntry(name, (group, name), spec)


def table(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def read(file: str, text: str, environment: Mapping[str, str]) -> Document:
    """Expand the variables and parse; raises Unreadable."""
    expanded = placeholders.substitute(text, environment)
    try:
        tree = json.loads(expanded)
    except json.JSONDecodeError as error:
        here = expanded[error.pos : error.pos + 99]
        if here.startswith("$") and (unset := next(placeholders.undefined(here), None)):
            raise Unreadable(finding("TW016", file, error.lineno, f"{unset} is not set")) from None
        raise Unreadable(
            finding("TW001", file, error.lineno, f"{error.msg} (column {error.colno})")
        ) from None
    except RecursionError:
        raise Unreadable(finding("TW001", file, 1, "it nests too deep")) from None
    lines, twice = positions(expanded)
    inner, root = (tree["content"], ("content",)) if "content" in table(tree) else (tree, ())
    content = table(inner).get("modulesContent")
    if not isinstance(content, dict):
        raise Unreadable(finding("TW003", file, 1, "there is no object 'modulesContent'"))
    desired = {name: _unfolded(table(entry)) for name, entry in content.items()}
    return Document(file, text, table(tree), content, (*root, "modulesContent"), lines, tuple(twice), desired)


def _unfolded(entry: Mapping[str, Any]) -> dict[str, Any]:
    """`properties.desired` with each `properties.desired.a.b` put into its place."""
    result = dict(table(entry.get(DESIRED)))
    for name, value in entry.items():
        if name.startswith(DESIRED + "."):
            *parents, last = name.removeprefix(DESIRED + ".").split(".")
            at = result
            for parent in parents:
                at[parent] = dict(table(at.get(parent)))
                at = at[parent]
            at[last] = value
    return result
