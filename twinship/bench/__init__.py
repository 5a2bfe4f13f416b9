"""The measurements: scenarios on the real path, each figure beside its floor, one report."""


class BenchFailed(Exception):
    """A scenario could not be measured; one line names the thing and the cure."""
