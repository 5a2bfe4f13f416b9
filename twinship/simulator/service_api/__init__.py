"""IoT Hub's REST API for services."""
