"""What can be said of a deployment template before it runs anywhere. Starts and sends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simulator.manifest import Deployment, ManifestError, Module, load
from simulator.placeholders import undefined
from simulator.routes import RouteError, Routing
from simulator.twin import TwinRefused, validate_desired


@dataclass(frozen=True)
class Finding:
    """One line about the template. Error: it cannot be applied. Warning: it may not mean what it says."""

    severity: Literal["error", "warning"]
    text: str


def lint(template: Path, environment: Mapping[str, str]) -> tuple[Finding, ...]:
    """All findings, errors first. A template that cannot be read at all has exactly one."""
    try:
        deployment = load(template, environment)
    except ManifestError as error:
        return (Finding("error", str(error)),)
    return (
        *(Finding("error", f"{template.name}: {text}") for text in errors(deployment)),
        *(Finding("warning", f"{template.name}: {text}") for text in _warnings(deployment)),
    )


def errors(deployment: Deployment) -> Iterator[str]:
    """What a hub would refuse, or accept and a device then refuse: routes and twins."""
    desired = {name: entry["properties.desired"] for name, entry in deployment.modules_content.items()}
    try:
        Routing.parse(desired["$edgeHub"])
    except RouteError as error:
        yield str(error)
    for name, section in desired.items():
        try:
            validate_desired(section)
        except TwinRefused as error:
            yield f"the twin of {name!r}: {error}"


def _warnings(deployment: Deployment) -> Iterator[str]:
    for module in deployment.modules.values():
        for variable, where in _undefined(module):
            yield f"{where} of module {module.name!r}: {variable} is not defined and stays literal"


def _undefined(module: Module) -> Iterator[tuple[str, str]]:
    places: dict[str, str] = {"image": module.image, "createOptions": module.create_options}
    places |= {f"env {name!r}": value for name, value in module.environment.items()}
    for where, value in places.items():
        for variable in dict.fromkeys(undefined(value)):
            yield variable, where
