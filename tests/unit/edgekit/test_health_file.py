"""edgekit.health_file: the sign of life of a module."""

import logging
import os
from pathlib import Path

import pytest

from edgekit.health_file import INTERVAL_NS, HealthFile


def test_the_file_is_touched_twice_a_second(tmp_path: Path) -> None:
    """A call before half a second has passed does nothing."""
    path = tmp_path / "alive"
    health = HealthFile(path)
    health.touch(0)
    os.utime(path, (0, 0))
    health.touch(INTERVAL_NS - 1)
    assert path.stat().st_mtime == 0
    health.touch(INTERVAL_NS)
    assert path.stat().st_mtime > 0


def test_a_path_that_cannot_be_written_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The module goes on without a sign of life."""
    health = HealthFile(tmp_path / "no folder" / "alive")
    with caplog.at_level(logging.WARNING):
        health.touch(0)
        health.touch(INTERVAL_NS)
    assert len(caplog.records) == 1
    assert "health check will fail" in caplog.text


def test_without_a_path_nothing_happens() -> None:
    """HEALTH_FILE is not set outside of an image."""
    HealthFile(None).touch(0)
