"""Computes the wait before a lost source is opened again: twice as long each time, with random jitter."""

import random
from dataclasses import dataclass, field

FIRST_S, MAX_S = 0.5, 30.0


@dataclass
class BackOff:
    """Waits of 0.5 s, doubled up to 30 s. Each is shortened by up to a half at random, so that the cameras of
    a site do not connect again at the same moment.
    """

    _random: random.Random = field(default_factory=random.Random)
    _next_s: float = FIRST_S

    def wait_s(self) -> float:
        """The next wait in seconds."""
        wait_s, self._next_s = self._next_s, min(MAX_S, 2 * self._next_s)
        return wait_s * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The source has streamed: begin with the shortest wait again."""
        self._next_s = FIRST_S
