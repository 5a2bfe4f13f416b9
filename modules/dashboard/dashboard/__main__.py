"""`python -m dashboard`: reads the environment, builds the dashboard and runs it."""

from edgekit import startup

startup.begin("dashboard")  # before the imports that take half a second

import logging
import os
import sys

from dashboard.module import Dashboard
from dashboard.settings import DashboardEnvironment, SettingsError
from edgekit import cpu_affinity, metrics
from edgekit.lifecycle import run_module

logger = logging.getLogger("dashboard")


def main() -> None:
    """Run until SIGTERM or SIGINT; exit with 1 if the environment is invalid or the address is in use."""
    cpu_affinity.pin_to_one_core(0, os.environ.get("MODULE_CORE"))  # inference uses the last core
    try:
        environment = DashboardEnvironment.read(os.environ)
        dashboard = Dashboard(environment)
    except SettingsError as error:
        logger.error("%s", error)
        sys.exit(1)
    except OSError as error:
        logger.error("DASHBOARD_LISTEN: %s; cure: a free address:port of this machine", error.strerror)
        sys.exit(1)
    metrics.serve(os.environ.get("METRICS_LISTEN"))
    logger.info(
        "page: %s",
        environment.url,
        extra={"token_file": str(environment.token_file)} if environment.token_file else {},
    )
    run_module(dashboard.hub, start=dashboard.start, stop=dashboard.stop)


if __name__ == "__main__":
    main()
