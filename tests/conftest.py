"""How property tests run: without a deadline, as machines are shared; on CI with the same examples each time.

There a failure must be the change's and not the dice's; everywhere else the dice go on looking.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("twinship", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("twinship")
