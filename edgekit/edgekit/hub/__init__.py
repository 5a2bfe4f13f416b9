"""The connection of a module to edgeHub: messages, twin, methods, on the device SDK."""
