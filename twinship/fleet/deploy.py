"""Puts the manifest of this repository onto one edge device: expand, check, apply. What a manifest means is
twinship.simulator.manifest.manifest's to say; models travel separately (publish.py)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinship.fleet import FleetError
from twinship.fleet.connection import Connection, refuse_placeholder
from twinship.fleet.rollout import RollOut, Targeting, roll_out
from twinship.fleet.service import NotFound, ServiceHub
from twinship.simulator import lint
from twinship.simulator.manifest import manifest


class BadManifest(FleetError):
    """The manifest, or the variables that it needs, are not fit to be deployed; the hub was not asked."""


@dataclass(frozen=True)
class DeployResult:
    """What a device was told to run."""

    hub: str
    device: str
    created: bool  # the device was made by this command
    images: Mapping[str, str]  # module → image
    routes: tuple[str, ...]
    undefined: tuple[str, ...]  # variables of the manifest without a value; they stay literal
    unassigned: tuple[
        str, ...
    ]  # modules whose twin named a model that the manifest does not: publish it again

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
    """The variables of the manifest; the one that still holds a placeholder is refused when asked for."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        value = self._values[name]
        refuse_placeholder(name, value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def read_manifest(template: Path, variables: Mapping[str, str]) -> manifest.Deployment:
    """The template and the modules/*/module.json beside it, expanded. Raises BadManifest, NotConfigured."""
    try:
        deployment = manifest.load(template, _Variables(variables))
    except manifest.ManifestError as error:
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

    With `create`, a device that the hub does not know is made. The desired properties of every module named
    are replaced, so a model named there is forgotten (it keeps running): `unassigned` says where. An
    undefined variable is refused unless the hub is the simulator, which pulls no image and mounts no folder.

    Raises BadManifest, NotConfigured, NotFound, HubUnavailable, HubRefused.
    """
    deployment = _deployable(connection, template, variables)
    with ServiceHub(connection) as hub:
        created = _ensure_device(hub, device) if create else False
        before = hub.modules(device)
        unassigned = [
            name
            for name in sorted(deployment.modules.keys() & set(before))
            if _forgets_model(deployment, hub, device, name)
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

    Layers of a higher priority, as `publish --deployment` makes them, stay in force over it.

    Raises BadManifest, NotConfigured, HubUnavailable, HubRefused.
    """
    deployment = _deployable(connection, template, variables)
    with ServiceHub(connection) as hub:
        return roll_out(hub, connection.host, targeting, deployment.modules_content)


def _deployable(connection: Connection, template: Path, variables: Mapping[str, str]) -> manifest.Deployment:
    deployment = read_manifest(template, variables)
    undefined = lint.undefined(deployment)
    if undefined and not connection.loopback:
        raise BadManifest(
            f"{template.name} needs {', '.join(undefined)}; cure: set it in .env (see .env.example)"
        )
    return deployment


def _forgets_model(deployment: manifest.Deployment, hub: ServiceHub, device: str, module: str) -> bool:
    stays = "model" in deployment.twins.get(module, {})
    return not stays and "model" in hub.module_twin(device, module).desired


def _ensure_device(hub: ServiceHub, device: str) -> bool:
    """Make the device unless it is there; whether it was made."""
    try:
        hub.device_connection_state(device)
    except NotFound:
        hub.create_edge_device(device)
        return True
    return False
