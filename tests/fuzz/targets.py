"""All targets by name. CONTRIBUTING.md says how to add one."""

from __future__ import annotations

from typing import Final

from tests.fuzz import device_targets, service_targets, simulator_targets
from tests.fuzz.target import Target

_TOKENS: Final = "twinship.simulator.common.tokens"
TARGETS: Final[dict[str, Target]] = {
    "frame": Target(device_targets.frame, ("edgekit.frame",)),
    "batch": Target(device_targets.batch, ("edgekit.frame",)),
    "picture": Target(device_targets.picture, ("edgekit.frame", "inference.frames")),
    "artefact": Target(device_targets.artefact, ("inference.artefact", "zipfile"), 2000),
    "section": Target(device_targets.section, ("inference.model_section",)),
    "mqtt": Target(simulator_targets.mqtt, ("twinship.simulator.mqtt",), 1000),
    "amqp": Target(simulator_targets.amqp, ("twinship.simulator.amqp",), 400),
    "client": Target(service_targets.client, ("twinship.simulator.edge_hub",), 400),
    "topic": Target(simulator_targets.topic, ("twinship.simulator.edge_hub.topics",)),
    "sas": Target(simulator_targets.sas, ("twinship.simulator.sas",)),
    "connect": Target(simulator_targets.connect, ("twinship.simulator.listeners.connect_proxy",)),
    "http": Target(
        service_targets.http, ("twinship.simulator.service_api", "twinship.simulator.iot_hub"), 1000
    ),
    "route": Target(simulator_targets.route, ("twinship.simulator.routing", _TOKENS), 300),
    "query": Target(simulator_targets.query, ("twinship.simulator.iot_hub.query", _TOKENS), 1000),
    "manifest": Target(
        simulator_targets.manifest, ("twinship.simulator.manifest", "twinship.simulator.lint"), 2000
    ),
    "env": Target(simulator_targets.env, ("twinship.fleet.connection",)),
}
