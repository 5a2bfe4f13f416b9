"""`python -m inference`: read the environment, build the module, run it."""

from __future__ import annotations

from edgekit import startup

startup.begin("inference")  # before the imports that take half a second

import logging
import os
import sys
from functools import partial
from typing import NoReturn

from prometheus_client import REGISTRY

from edgekit import cpu_affinity, metrics
from edgekit.hub.connection import Hub
from edgekit.lifecycle import run_module
from inference.frames import in_hand
from inference.metrics import DriftRatios, FrameCounters, ModelInfo, StageHistograms
from inference.models.download import FetchSettings, authorities
from inference.models.reconciler import Reconciler, ReconcilerSettings
from inference.models.verification import Keyring
from inference.service import Report, Service
from inference.settings import Environment, SettingsError

EXIT_SETTINGS = 2


def main() -> NoReturn:
    """Run until the module must stop; exits with 2 if the environment is invalid."""
    # The last core, because the first one handles the interrupts of a device.
    cpu_affinity.pin_to_one_core(-1, os.environ.get("MODULE_CORE"))
    try:
        environment = Environment.read(os.environ)
    except SettingsError as error:
        logging.getLogger("inference").error("%s", error)
        sys.exit(EXIT_SETTINGS)
    service = build(environment)
    metrics.serve(environment.metrics_listen)
    run_module(service.hub, start=service.start, stop=service.stop)


def build(environment: Environment) -> Service:
    """Build the module without starting it. Reads also the variables of OpenSSL (SSL_CERT_FILE)."""
    keyring = Keyring.from_environment(environment.trusted_keys, environment.signature_required)
    settings = ReconcilerSettings(fetch=FetchSettings(environment.source_allow, authorities(os.environ)))

    def create_reconciler(report: Report) -> Reconciler:
        return Reconciler(
            environment.data_folder,
            keyring,
            report,
            runtime=environment.runtime,
            delegate=environment.delegate,
            settings=settings,
        )

    stages = StageHistograms()
    service = Service(
        Hub,
        create_reconciler,
        observe=stages.observe,
        health_file=environment.health_file,
        open_in_hand=partial(in_hand.open_file, environment.data_folder / "frames.in_hand"),
    )
    REGISTRY.register(stages)
    REGISTRY.register(FrameCounters(service.path.counters, service.path.waiting))
    REGISTRY.register(ModelInfo(lambda: service.reconciler.current))
    REGISTRY.register(DriftRatios(service.drift.ratios))
    return service


if __name__ == "__main__":
    main()
