"""The bench: measures the real path beside a minimal peer and writes one report."""


class BenchFailed(Exception):
    """A scenario cannot be measured. The message is one line: what failed, and the cure."""
