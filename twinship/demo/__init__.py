"""The whole path on one machine: train, simulate, publish by twin, run frames, swap the model, add up.

The demo may import every package below it; only the bench and the command line import the demo.
"""


class DemoFailed(Exception):
    """A step failed. The message is one line: which step, and the reason or the cure."""
