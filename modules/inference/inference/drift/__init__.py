"""Finds out whether the frames of a camera still look like the pictures that a model was validated with."""
