"""`python -m inference`: read the environment, put the module together, run it."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from prometheus_client import REGISTRY

from edgekit import cpu_affinity, log, metrics
from edgekit.hub.connection import Hub
from edgekit.lifecycle import run_module
from inference.metrics import FrameCounters, ModelInfo, StageHistograms
from inference.models.delivery import Delivery, DeliverySettings
from inference.models.download import FetchSettings, authorities
from inference.models.verification import Keyring
from inference.service import Report, Service
from inference.settings import Environment, SettingsError

EXIT_SETTINGS = 2


def main() -> NoReturn:
    """Run until told to stop; exits with 2 when the environment cannot be used."""
    log.setup("inference")
    cpu_affinity.pin_to_one_core(
        -1, os.environ.get("MODULE_CORE")
    )  # the last: a device's interrupts are the first one's
    try:
        environment = Environment.read(os.environ)
    except SettingsError as error:
        logging.getLogger("inference").error("%s", error)
        sys.exit(EXIT_SETTINGS)
    service = build(environment)
    metrics.serve(environment.metrics_listen)
    run_module(service.hub, start=service.start, stop=service.stop)


def build(environment: Environment) -> Service:
    """The module, not started. OpenSSL's own variables (SSL_CERT_FILE) are read here too."""
    keyring = Keyring.from_environment(environment.trusted_keys, environment.signature_required)

    settings = DeliverySettings(fetch=FetchSettings(environment.source_allow, authorities(os.environ)))

    def deliver(report: Report) -> Delivery:
        return Delivery(
            environment.data_folder,
            keyring,
            report,
            runtime=environment.runtime,
            delegate=environment.delegate,
            settings=settings,
        )

    stages = StageHistograms()
    service = Service(Hub, deliver, observe=stages.observe)
    REGISTRY.register(stages)
    REGISTRY.register(FrameCounters(service.path.counters, service.path.waiting))
    REGISTRY.register(ModelInfo(lambda: service.delivery.current))
    return service


if __name__ == "__main__":
    main()
