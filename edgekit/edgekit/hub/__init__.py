"""The connection of a module to edgeHub: messages, twin, direct methods."""
