"""Measurements of frames that pass through the modules."""
