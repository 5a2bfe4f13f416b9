"""Deploys the manifest to one edge device, or to many as a base deployment.

`twinship.simulator.manifest` expands and checks the manifest. publish.py writes models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from twinship.fleet import FleetError
from twinship.fleet.connection import Connection, refuse_placeholder
from twinship.fleet.rollout import RollOut, Targeting, roll_out
from twinship.fleet.service import NotFound, ServiceHub
from twinship.simulator import lint
from twinship.simulator.manifest import manifest
from twinship.simulator.manifest.modules_content import Deployment, ManifestError, registry_credentials

LOGIN_VARIABLE = "CONTAINER_REGISTRY_PASSWORD"


class BadManifest(FleetError):
    """The manifest or its variables cannot be deployed. Raised before any request to the hub."""


@dataclass(frozen=True)
class DeployResult:
    """What was deployed to a device."""

    hub: str
    device: str
    created: bool  # True: this command created the device
    images: Mapping[str, str]  # module → image
    routes: tuple[str, ...]
    undefined: tuple[str, ...]  # variables of the manifest without a value; they are not replaced
    unassigned: tuple[str, ...]  # modules whose twin no longer names a model: publish it again

    def to_json(self) -> dict[str, object]:
        """The result as JSON types."""
        return {
            "hub": self.hub,
            "device": self.device,
            "created": self.created,
            "modules": dict(self.images),
            "routes": list(self.routes),
            "undefined": list(self.undefined),
            "unassigned": list(self.unassigned),
        }


class _Variables(Mapping[str, str]):
    """The variables of the manifest. Reading one that still contains a placeholder raises NotConfigured."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        value = self._values[name]
        if name == LOGIN_VARIABLE and not self._values.get("CONTAINER_REGISTRY_USERNAME"):
            return ""  # without a user name the manifest's credentials are left out
        refuse_placeholder(name, value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def read_manifest(template: Path, variables: Mapping[str, str]) -> Deployment:
    """Expand the template, with the modules/*/module.json beside it. Raises BadManifest, NotConfigured."""
    try:
        deployment = manifest.load(template, _Variables(variables))
    except ManifestError as error:
        raise BadManifest(str(error)) from error
    for found in lint.errors(deployment):
        raise BadManifest(f"{template.name}: {found}")
    return deployment


def deploy(
    connection: Connection,
    template: Path,
    variables: Mapping[str, str],
    device: str,
    *,
    create: bool = False,
) -> DeployResult:
    """Set the device's modules, routes and module twins from the template, expanded with `variables`.

    With `create`, the device is created if the hub does not have it. The desired properties of each module in
    the template are replaced. This removes a published model from the twin, but the device keeps running it;
    `unassigned` lists these modules. Undefined variables are allowed only for the simulator, which pulls no
    image and mounts no folder.

    Raises BadManifest, NotConfigured, NotFound, HubUnavailable, HubRefused.
    """
    deployment = _deployable(connection, template, variables)
    with ServiceHub(connection) as hub:
        created = _ensure_device(hub, device) if create else False
        before = hub.modules(device)
        unassigned = [
            name
            for name in sorted(deployment.modules.keys() & set(before))
            if _loses_model(deployment, hub, device, name)
        ]
        hub.apply_configuration(device, deployment.modules_content)
    return DeployResult(
        connection.host,
        device,
        created,
        {name: module.image for name, module in deployment.modules.items()},
        tuple(deployment.routes),
        lint.undefined(deployment),
        tuple(unassigned),
    )


def deploy_base(
    connection: Connection, template: Path, variables: Mapping[str, str], targeting: Targeting
) -> RollOut:
    """Make the template, expanded with `variables`, the base deployment of all targeted devices.

    Layers of a higher priority, as `publish --deployment` makes them, stay in force.

    Raises BadManifest, NotConfigured, HubUnavailable, HubRefused.
    """
    deployment = _deployable(connection, template, variables)
    with ServiceHub(connection) as hub:
        return roll_out(hub, connection.host, targeting, deployment.modules_content)


def content_without_passwords(template: Path, variables: Mapping[str, str]) -> dict[str, object]:
    """The content for `az iot edge set-modules`, as deploy sends it to a real hub, but without passwords.

    Each password of a registry is replaced by `$CONTAINER_REGISTRY_PASSWORD`, for envsubst or an editor.
    Raises BadManifest, NotConfigured.
    """
    content = deepcopy(_complete(template, read_manifest(template, variables)).modules_content)
    for entry in registry_credentials(content["$edgeAgent"]["properties.desired"]).values():
        entry["password"] = f"${LOGIN_VARIABLE}"
    return {"modulesContent": content}


def _deployable(connection: Connection, template: Path, variables: Mapping[str, str]) -> Deployment:
    deployment = read_manifest(template, variables)
    return deployment if connection.loopback else _complete(template, deployment)


def _complete(template: Path, deployment: Deployment) -> Deployment:
    """The deployment, if no variable of it is undefined: a real device could not run it."""
    if undefined := lint.undefined(deployment):
        raise BadManifest(
            f"{template.name} needs {', '.join(undefined)}; cure: set it in .env (see .env.example)"
        )
    return deployment


def _loses_model(deployment: Deployment, hub: ServiceHub, device: str, module: str) -> bool:
    in_manifest = "model" in deployment.twins.get(module, {})
    return not in_manifest and "model" in hub.module_twin(device, module).desired


def _ensure_device(hub: ServiceHub, device: str) -> bool:
    """Create the device if it does not exist; True if it was created."""
    try:
        hub.device_connection_state(device)
    except NotFound:
        hub.create_edge_device(device)
        return True
    return False
