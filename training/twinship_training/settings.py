"""What can be asked of a training, checked before it begins. Reads no command line and no environment."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from inference.artefact import WORD_PATTERN
from twinship_training import TrainingError
from twinship_training.choose import Limits
from twinship_training.convert import OPTIMISATIONS
from twinship_training.data import Dataset
from twinship_training.data.pictures import MAX_SIDE, MIN_SIDE
from twinship_training.networks.architectures import ARCHITECTURES, AUTO, PROFILES, Recipe, Target, target

#: Fewer pictures are shown so often in one epoch of the full profile that it has this many.
SHOWN_IN_AN_EPOCH: Final = 6_000
SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?(B|KB|KiB|MB|MiB)?")
UNITS: Final = {None: 1, "B": 1, "KB": 1000, "KiB": 1024, "MB": 1000**2, "MiB": 1024**2}
NAMES: Final = {"auto": "digits", "mnist": "digits", "digits": "digits", "fashion_mnist": "fashion"}


class SettingsError(TrainingError):
    """The training cannot begin with these settings."""


@dataclass(frozen=True)
class TrainSettings:
    """What to train, on what, and where to put it."""

    architecture: str = "seed"  # or "auto": the smallest that keeps within the limits
    dataset: str = "auto"
    profile: str = "full"
    epochs: int | None = None  # None: the recipe's
    seed: int = 1
    name: str = "digits"
    version: str = "1.0.0"
    out: Path = Path("build/model")
    latency_budget_ms: float = 20.0  # what a device may take for one invoke, at the 95th percentile
    #: None: the architecture's target for this data set and profile. With "auto" a limit on the candidates.
    min_accuracy: float | None = None
    force: bool = False  # train although the same result is there already
    resume: bool = False  # go on from the last whole epoch of a training that was interrupted
    max_size_bytes: int | None = None  # of the flatbuffer, without labels and probes
    max_latency_ms: float | None = None  # the median of one picture here, on every runtime
    optimisation: str = "int8"
    variants: bool = False  # measure all optimisations
    max_side: int = MAX_SIDE  # pixels; larger pictures are made smaller

    def __post_init__(self) -> None:
        """Raise SettingsError now and not after minutes of training."""
        _one_of("architecture", self.architecture, (*ARCHITECTURES, AUTO))
        _one_of("profile", self.profile, PROFILES)
        _one_of("optimisation", self.optimisation, tuple(OPTIMISATIONS))
        for what, word in (("name", self.name), ("version", self.version)):
            if not re.fullmatch(WORD_PATTERN, word):
                raise SettingsError(f"{what} {word!r}: 1 to 64 of letters, digits, '.', '_' and '-'")
        if self.epochs is not None and self.epochs < 1:
            raise SettingsError(f"epochs {self.epochs}: at least 1")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"seed {self.seed}: 0 to {2**32 - 1}")
        if not self.latency_budget_ms > 0:
            raise SettingsError(f"latency budget {self.latency_budget_ms} ms: more than 0")
        if self.max_latency_ms is not None and not self.max_latency_ms > 0:
            raise SettingsError(f"latency limit {self.max_latency_ms} ms: more than 0")
        if not MIN_SIDE <= self.max_side <= MAX_SIDE:
            raise SettingsError(f"side {self.max_side}: {MIN_SIDE} to {MAX_SIDE} pixels")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Which networks are to be tried."""
        return tuple(ARCHITECTURES) if self.architecture == AUTO else (self.architecture,)

    @property
    def limits(self) -> Limits:
        """What the chosen network keeps within; a single one's accuracy is judged by its target instead."""
        accuracy = self.min_accuracy if self.architecture == AUTO else None
        return Limits(self.max_size_bytes, accuracy, self.max_latency_ms)

    def recipe(self, architecture: str, pictures: int) -> Recipe:
        """How this network is trained on so many pictures."""
        recipe = ARCHITECTURES[architecture].recipes[self.profile]
        shown = recipe.pictures or (SHOWN_IN_AN_EPOCH if pictures < SHOWN_IN_AN_EPOCH else None)
        return replace(recipe, epochs=self.epochs or recipe.epochs, pictures=shown)

    def target(self, architecture: str, data: Dataset) -> Target:
        """What this network must reach on this data set's test."""
        usual = target(architecture, data, self.profile)
        if self.min_accuracy is None or self.architecture == AUTO:
            return usual
        return replace(usual, accuracy=self.min_accuracy)

    @property
    def command(self) -> str:
        """The command line that does the same."""
        words = ["twinship", "train", "--arch", self.architecture, "--dataset", self.dataset]
        words += ["--profile", self.profile]
        usual = TrainSettings
        for option, value, default in (
            ("--epochs", self.epochs, usual.epochs),
            ("--min-accuracy", self.min_accuracy, usual.min_accuracy),
            ("--max-size", self.max_size_bytes, usual.max_size_bytes),
            ("--max-latency-ms", self.max_latency_ms, usual.max_latency_ms),
            ("--optimise", self.optimisation, usual.optimisation),
            ("--max-side", self.max_side, usual.max_side),
        ):
            words += [option, str(value)] if value != default else []
        words += ["--variants"] if self.variants else []
        words += ["--seed", str(self.seed), "--name", self.name, "--version", self.version]
        return shlex.join([*words, "--out", str(self.out)])


def size_bytes(text: str) -> int:
    """22KB → 22,000; B, KB, KiB, MB and MiB are known, no unit means bytes. Raises SettingsError."""
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"size {text!r}: want a number with B, KB, KiB, MB or MiB, as 22KB")
    return int(float(found[1]) * UNITS[found[2]])


def model_name(dataset: str) -> str:
    """What a model learnt from this data set is called where nobody said."""
    kind, _, place = dataset.partition(":")
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(place).stem).strip("-")[:64]
    return NAMES.get(kind, word or kind)


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{what} {value!r} is unknown: use {' or '.join(allowed)}")
