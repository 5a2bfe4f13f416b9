"""`python -m camera_sim`: reads the environment, builds the camera and runs it."""

from edgekit import startup

startup.begin("camera_sim")  # before the imports that take half a second

import logging
import os
import sys

from camera_sim.camera import Camera
from camera_sim.settings import CameraEnvironment, SettingsError
from edgekit import cpu_affinity, metrics
from edgekit.lifecycle import run_module

logger = logging.getLogger("camera_sim")


def main() -> None:
    """Run until SIGTERM or SIGINT; exit with 1 if the environment is invalid."""
    cpu_affinity.pin_to_one_core(0, os.environ.get("MODULE_CORE"))  # inference uses the last core
    try:
        environment = CameraEnvironment.read(os.environ)
    except SettingsError as error:
        logger.error("%s", error)
        sys.exit(1)
    metrics.serve(os.environ.get("METRICS_LISTEN"))
    camera = Camera(environment)
    run_module(camera.connect(), start=camera.start, stop=camera.stop)


if __name__ == "__main__":
    main()
