"""The tasks that a model may be trained for, and what a training does differently for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twinship_training.tasks.classify import CLASSIFY
from twinship_training.tasks.detect import DETECT
from twinship_training.tasks.task import Task

__all__ = ["TASKS", "Task"]

#: The words of --task.
TASKS: Final[Mapping[str, Task]] = {"classify": CLASSIFY, "detect": DETECT}
