"""IoT Hub, edgeHub and edgeAgent on one machine, for the unmodified SDKs. Imports no other room."""
