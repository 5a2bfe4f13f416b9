"""How property tests run in this room: without a deadline, since the machine that runs them is shared."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("simulator", deadline=None)
settings.load_profile("simulator")
