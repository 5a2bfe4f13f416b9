"""The service side of AMQP 1.0: the built-in event endpoint and cloud-to-device messages of IoT Hub."""
