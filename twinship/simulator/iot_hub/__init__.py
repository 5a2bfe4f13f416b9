"""IoT Hub: registry, twins, automatic deployments."""
