"""The simulated IoT Hub: registry, twins, twin queries, automatic deployments."""
