"""The whole path on one machine: train, simulate, publish by twin, run frames, swap the model, add up.

This room may import every other; none imports it. It holds the order of the steps (`run`), the sum of what
they left behind (`report`) and nothing that a module or the operator's side would need on a real device.
"""


class DemoFailed(Exception):
    """A step did not do what it must; one line says which, and why or the cure."""
