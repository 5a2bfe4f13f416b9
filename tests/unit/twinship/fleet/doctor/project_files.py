"""A project without a fault: the shipped manifest with everything around it."""

import os
from dataclasses import replace
from pathlib import Path

from inference.artefact import InputSpec, Manifest, Probes, pack
from twinship.fleet.doctor import EnvFile, HubAnswer, Pictures, Project

ROOT = Path(__file__).parents[5]
TEMPLATE = (ROOT / "deployment.template.json").read_text()
CONNECTION = "HostName=hub.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey=c2VjcmV0"
VARIABLES = {
    "IOTHUB_CONNECTION_STRING": CONNECTION,
    "CONTAINER_REGISTRY_SERVER": "registry.azurecr.io",
    "CONTAINER_REGISTRY_USERNAME": "puller",
    "CONTAINER_REGISTRY_PASSWORD": "sw0rdfish",
    "MODEL_TRUSTED_KEYS": "0123456789abcdef:AAAA",
    "CAMERA_FOLDER": "/srv/pictures",
}


def env_text(**changes: str) -> str:
    """The variables as the text of an env file."""
    return "".join(f"{name}={value}\n" for name, value in {**VARIABLES, **changes}.items())


def artefact(weights: bytes = b"weights", **minimum_runtime: str) -> bytes:
    """A valid artefact with a flatbuffer that no runtime loads."""
    manifest = Manifest(
        schema="twinship.model.v1",
        name="digits",
        version="1.0.0",
        architecture="micro",
        input=InputSpec(height=2, width=2, channels=1),
        latencyBudgetMs=20.0,
        minimumRuntime=minimum_runtime,
    )
    return pack(b"\0\0\0\0TFL3" + weights, manifest, ("0", "1"), Probes(b"\0\1\2\3", ("1",)))


LARGE_MODEL = artefact(os.urandom(60_000))

FAULTLESS = Project(
    file="deployment.template.json",
    manifest=TEMPLATE,
    environment=VARIABLES,
    env=EnvFile(".env", env_text()),
    modules={path.parent.name: path.read_text() for path in ROOT.glob("modules/*/module.json")},
    model=("model.tflite", artefact()),
    pictures=Pictures("pictures", 10),
    hub=HubAnswer(ahead_s=1.0),
)


def with_variables(**changes: str) -> Project:
    """The project with other variables, in the environment and in the env file."""
    return replace(FAULTLESS, environment={**VARIABLES, **changes}, env=EnvFile(".env", env_text(**changes)))


def without_variable(name: str) -> Project:
    """The project whose env file does not set this variable."""
    variables = {key: value for key, value in VARIABLES.items() if key != name}
    text = "".join(f"{key}={value}\n" for key, value in variables.items())
    return replace(FAULTLESS, environment=variables, env=EnvFile(".env", text))
