"""Data → train → convert → verify → artefact. What happens on a device with the artefact is `inference`'s.

`train` imports TensorFlow when it is called and not before; importing this room is quick.
"""


class TrainingError(Exception):
    """Nothing came of it; the message says why in one line, and what to do about it."""
