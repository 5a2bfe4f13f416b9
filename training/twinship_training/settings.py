"""The settings of a training, checked before it begins.

>>> TrainSettings("micro", "digits", "quick", out=Path("a")).command
'twinship train --arch micro --dataset digits --profile quick --seed 1 --name digits --version 1.0.0 --out a'
"""

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
from twinship_training.data.split import MAX_SIDE, MIN_SIDE, Dataset
from twinship_training.networks.architectures import AUTO, PROFILES, Recipe, Target, target
from twinship_training.networks.detectors import BY_TASK, DETECTOR, LEAST_PRECISION, NETWORKS

SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?(B|KB|KiB|MB|MiB)?")
UNITS: Final = {None: 1, "B": 1, "KB": 1000, "KiB": 1024, "MB": 1000**2, "MiB": 1024**2}
CLASSIFY: Final = "classify"
SCORE_THRESHOLD: Final = (
    0.3  # of a shipped detector: mAP50 counts lower scores too, a device need not send them
)
NAMES: Final = {"auto": "digits", "mnist": "digits", "digits": "digits", "fashion_mnist": "fashion"}


class SettingsError(TrainingError):
    """The training cannot begin with these settings."""


@dataclass(frozen=True)
class TrainSettings:
    """What to train, on what, and where to put it."""

    architecture: str = "seed"  # or "auto": the smallest network within the limits
    dataset: str = "auto"
    profile: str = "full"
    epochs: int | None = None  # None: as many as the recipe has
    seed: int = 1
    name: str = "digits"
    version: str = "1.0.0"
    out: Path = Path("build/model")
    latency_budget_ms: float = 20.0  # for one invoke on a device; its proof compares its quickest invoke
    #: None: the architecture's target for this data set and profile. With "auto" a limit for candidates.
    min_accuracy: float | None = None
    force: bool = False  # train although the same result exists
    resume: bool = False  # continue an interrupted training after its last complete epoch
    max_size_bytes: int | None = None  # of the flatbuffer, without labels and probes
    max_latency_ms: float | None = None  # the median of one picture on this machine, on every runtime
    optimisation: str = "int8"
    variants: bool = False  # measure all optimisations
    max_side: int | None = None  # pixels; larger pictures are reduced; None: the network's own side
    weights: Path | None = None  # of MobileNetV2 for ImageNet; None: Keras's cache, or a download
    task: str = "classify"  # or "detect"
    score_threshold: float | None = None  # the lowest score of a shipped detection; None: SCORE_THRESHOLD

    def __post_init__(self) -> None:
        """Raise SettingsError now, not after minutes of training."""
        _one_of("task", self.task, tuple(BY_TASK))
        networks = BY_TASK[self.task]
        _one_of(
            "architecture", self.architecture, (*networks, AUTO) if self.task == CLASSIFY else (*networks,)
        )
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
        largest = MAX_SIDE if self.architecture == AUTO else NETWORKS[self.architecture].max_side
        if not MIN_SIDE <= self.side <= largest:
            raise SettingsError(f"side {self.side}: {MIN_SIDE} to {largest} pixels")
        if self.score_threshold is not None and self.task == CLASSIFY:
            raise SettingsError("--score-threshold: a classifier has none; use it with --task detect")
        if self.score_threshold is not None and not 0 <= self.score_threshold <= 1:
            raise SettingsError(f"score threshold {self.score_threshold}: 0 to 1")
        if self.weights and not any(NETWORKS[name].pretrained for name in self.architectures):
            begins = next(name for name, each in networks.items() if each.pretrained)
            raise SettingsError(f"--weights: {self.architecture} begins without; use it with --arch {begins}")

    @property
    def side(self) -> int:
        """The longest side of a prepared picture, in pixels."""
        if self.max_side is not None:
            return self.max_side
        return MAX_SIDE if self.architecture == AUTO else NETWORKS[self.architecture].side

    @property
    def architectures(self) -> tuple[str, ...]:
        """The networks to train."""
        return tuple(BY_TASK[self.task]) if self.architecture == AUTO else (self.architecture,)

    @property
    def head_options(self) -> dict[str, float]:
        """What the artefact's head declares otherwise than the one that measures."""
        if self.task == CLASSIFY:
            return {}
        return {"scoreThreshold": SCORE_THRESHOLD if self.score_threshold is None else self.score_threshold}

    @property
    def limits(self) -> Limits:
        """The limits for candidates. Without "auto" the accuracy is not a limit but the target."""
        accuracy = self.min_accuracy if self.architecture == AUTO else None
        return Limits(self.max_size_bytes, accuracy, self.max_latency_ms)

    def recipe(self, architecture: str, pictures: int) -> Recipe:
        """The recipe of this network for this number of training pictures."""
        recipe = NETWORKS[architecture].recipes[self.profile]
        few = recipe.least if pictures < recipe.least else None
        return replace(recipe, epochs=self.epochs or recipe.epochs, pictures=recipe.pictures or few)

    def target(self, architecture: str, data: Dataset) -> Target:
        """The target of this network on this data set's test pictures."""
        if self.task == CLASSIFY:
            default = target(architecture, data, self.profile)
        else:
            default = Target(LEAST_PRECISION, NETWORKS[architecture].max_drop)
        if self.min_accuracy is None or self.architecture == AUTO:
            return default
        return replace(default, accuracy=self.min_accuracy)

    @property
    def command(self) -> str:
        """The command line of the same training."""
        words = ["twinship", "train", *(["--task", self.task] if self.task != CLASSIFY else [])]
        words += ["--arch", self.architecture, "--dataset", self.dataset]
        words += ["--profile", self.profile]
        for option, value, default in (
            ("--epochs", self.epochs, TrainSettings.epochs),
            ("--min-accuracy", self.min_accuracy, TrainSettings.min_accuracy),
            ("--max-size", self.max_size_bytes, TrainSettings.max_size_bytes),
            ("--max-latency-ms", self.max_latency_ms, TrainSettings.max_latency_ms),
            ("--optimise", self.optimisation, TrainSettings.optimisation),
            ("--max-side", self.max_side, TrainSettings.max_side),
            ("--weights", self.weights, TrainSettings.weights),
            ("--score-threshold", self.score_threshold, TrainSettings.score_threshold),
        ):
            words += [option, str(value)] if value != default else []
        words += ["--variants"] if self.variants else []
        words += ["--seed", str(self.seed), "--name", self.name, "--version", self.version]
        return shlex.join([*words, "--out", str(self.out)])


def size_bytes(text: str) -> int:
    """A size in bytes from text with B, KB, KiB, MB, MiB or no unit. Raises SettingsError.

    >>> size_bytes("22KB"), size_bytes("22 KiB"), size_bytes("512")
    (22000, 22528, 512)
    """
    found = SIZE.fullmatch(text.strip())
    if found is None:
        raise SettingsError(f"size {text!r}: want a number with B, KB, KiB, MB or MiB, as 22KB")
    return int(float(found[1]) * UNITS[found[2]])


def model_name(dataset: str) -> str:
    """The default name of a model trained on this data set.

    >>> model_name("auto"), model_name("folder:/data/My cats")
    ('digits', 'My-cats')
    """
    kind, _, place = dataset.partition(":")
    word = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(place).stem).strip("-")[:64]
    return NAMES.get(kind, word or kind)


def default_architecture(task: str) -> str:
    """The network of a task where none is named."""
    return DETECTOR if task == "detect" else "micro"


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f"{what} {value!r} is unknown: use {' or '.join(allowed)}")
