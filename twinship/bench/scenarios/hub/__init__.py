"""Measurements of the hub of the simulator."""
