"""Checks a deployment before it is sent: routes, desired twins, undefined variables.

Other packages parse routes and check twins only through this module: one grammar, one set of limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from twinship.simulator.iot_hub.twin_limits import TwinRefused, validate_desired
from twinship.simulator.manifest import placeholders
from twinship.simulator.manifest.modules_content import Deployment
from twinship.simulator.routing.message import RoutedMessage
from twinship.simulator.routing.routes import Route, RouteError, Routing

__all__ = ["Route", "RouteError", "errors", "parse_route", "takes", "twin_error", "undefined"]

_CREDENTIAL = re.compile(r"\$\{?CONTAINER_REGISTRY_\w+\}?")  # a whole value: a real password may hold a '$'


def errors(deployment: Deployment) -> Iterator[str]:
    """One line for each route or twin that a hub, or later the device, would refuse."""
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


def parse_route(name: str, value: object, edge_hub: Mapping[str, Any]) -> Route | None:
    """One route as edgeHub compiles it, None for an empty one of schema 1.0; raises RouteError.

    `edge_hub`: the desired properties of `$edgeHub`, whose schemaVersion and time to live apply.
    """
    routing = Routing.parse({**edge_hub, "routes": {name: value}})
    return next(iter(routing.routes), None)


def takes(route: Route, source: str, *, always: bool = False) -> bool:
    """Whether the route takes messages of this source, as `/messages/modules/m/outputs/o`.

    `always`: only if it takes a message of a module that has neither application properties nor a body.
    """
    if always:
        *_, module, _, output = source.split("/")
        system = {"connectionModuleId": module, "outputName": output}
        return bool(Routing((route,)).match(RoutedMessage(source, {}, system, b"")))
    return (source.lower() + "/").startswith(route.source)


def twin_error(desired: object) -> str | None:
    """The first limit of IoT Hub that these desired properties break."""
    try:
        validate_desired(desired)
    except TwinRefused as error:
        return str(error)
    return None


def undefined(deployment: Deployment) -> tuple[str, ...]:
    """The sorted variables that images, environments, options and credentials contain after expansion."""
    texts = [
        text
        for module in deployment.modules.values()
        for text in (module.image, module.create_options, *module.environment.values())
    ]
    texts += [
        value
        for entry in deployment.credentials.values()
        for value in entry.values()
        if isinstance(value, str) and _CREDENTIAL.fullmatch(value)
    ]
    return tuple(sorted({name for text in texts for name in placeholders.undefined(text)}))
