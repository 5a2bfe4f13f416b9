"""What can be asked of a training, checked before it begins. Reads no command line and no environment."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from inference.artefact import WORD_PATTERN
from training import TrainingError
from training.architectures import ARCHITECTURES, PROFILES, Recipe, Target, target


class SettingsError(TrainingError):
    """The training cannot begin with these settings."""


@dataclass(frozen=True)
class TrainSettings:
    """What to train, on what, and where to put it."""

    architecture: str = "seed"
    dataset: str = "auto"
    profile: str = "full"
    epochs: int | None = None  # None: the recipe's
    seed: int = 1
    name: str = "digits"
    version: str = "1.0.0"
    out: Path = Path("build/model")
    latency_budget_ms: float = 20.0  # what a device may take for one invoke, at the 95th percentile
    min_accuracy: float | None = None  # None: the architecture's target for this data set and profile
    force: bool = False  # train although the same result is there already

    def __post_init__(self) -> None:
        """Raise SettingsError now and not after minutes of training."""
        _one_of("architecture", self.architecture, tuple(ARCHITECTURES))
        _one_of("profile", self.profile, PROFILES)
        for what, word in (("name", self.name), ("version", self.version)):
            if not re.fullmatch(WORD_PATTERN, word):
                raise SettingsError(f"{what} {word!r}: 1 to 64 of letters, digits, '.', '_' and '-'")
        if self.epochs is not None and self.epochs < 1:
            raise SettingsError(f"epochs {self.epochs}: at least 1")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed {self.seed}: 0 to {2**32 - 1}")
        if not self.latency_budget_ms > 0:
            raise SettingsError(f"latency budget {self.latency_budget_ms} ms: more than 0")

    @property
    def recipe(self) -> Recipe:
        recipe = ARCHITECTURES[self.architecture].recipes[self.profile]
        return replace(recipe, epochs=self.epochs or recipe.epochs)

    @property
    def command(self) -> str:
        """The command line that does the same."""
        words = ["twinship", "train", "--arch", self.architecture, "--dataset", self.dataset]
        words += ["--profile", self.profile]
        words += ["--epochs", str(self.epochs)] if self.epochs else []
        words += ["--seed", str(self.seed), "--name", self.name, "--version", self.version]
        words += ["--min-accuracy", str(self.min_accuracy)] if self.min_accuracy is not None else []
        return shlex.join([*words, "--out", str(self.out)])

    def target(self, dataset: str) -> Target:
        """What must be reached on this data set ("mnist" or "digits")."""
        usual = target(self.architecture, dataset, self.profile)
        return usual if self.min_accuracy is None else replace(usual, accuracy=self.min_accuracy)


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{what} {value!r} is unknown: use {' or '.join(allowed)}")
