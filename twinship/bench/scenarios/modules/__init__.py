"""Measurements of frames through the modules."""
