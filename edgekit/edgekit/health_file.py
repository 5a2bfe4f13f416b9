"""The module's sign of life for the HEALTHCHECK of its image: a file that is touched twice a second."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

INTERVAL_NS: Final = 500_000_000


class HealthFile:
    """Touches `path`; does nothing if `path` is None, or after the first error, which it logs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._due_ns = 0

    def touch(self, now_ns: int) -> None:
        """Touch the file if half a second has passed since the last time. `now_ns` is monotonic."""
        if self._path is None or now_ns < self._due_ns:
            return
        self._due_ns = now_ns + INTERVAL_NS
        try:
            self._path.touch()
        except OSError as error:
            logger.warning("HEALTH_FILE %s: %s; the health check will fail", self._path, error.strerror)
            self._path = None
