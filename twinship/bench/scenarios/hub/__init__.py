"""Measurements of the simulator's hub."""
