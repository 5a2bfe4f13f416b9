"""Checks a deployment before it is sent: routes, desired twins, undefined variables."""

from __future__ import annotations

from collections.abc import Iterator

from twinship.simulator.iot_hub.twin import TwinRefused, validate_desired
from twinship.simulator.manifest import placeholders
from twinship.simulator.manifest.manifest import Deployment
from twinship.simulator.routing.routes import RouteError, Routing


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


def undefined(deployment: Deployment) -> tuple[str, ...]:
    """The sorted variables that images, environments and createOptions still contain after expansion."""
    texts = [
        text
        for module in deployment.modules.values()
        for text in (module.image, module.create_options, *module.environment.values())
    ]
    return tuple(sorted({name for text in texts for name in placeholders.undefined(text)}))
