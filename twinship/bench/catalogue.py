"""Which measurements there are: the name on the command line, the key in the report, where it is measured.

A scenario is a file of this room with `measure(bench: Bench) -> Mapping[str, Any]`: the value of its key in
`build/bench/report.json`. It cleans up behind itself and raises BenchFailed. Files are imported
when they are asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinship.bench import BenchFailed


@dataclass(frozen=True)
class Bench:
    """What a scenario may use."""

    folder: Path  # scratch, its own and empty
    models: tuple[Path, Path]  # two artefacts of one recipe with other weights
    pictures: Path  # held-out frames with their truth
    progress: Callable[[str, float], None]  # what is being done, which share of 1 is done

    @property
    def results(self) -> Path:
        """Where the report ends up: for pictures that belong to it."""
        return self.folder.parents[1]


Figures = Mapping[str, Any] | float  # a scenario of one figure gives it bare
Measure = Callable[[Bench], Figures]


@dataclass(frozen=True)
class Scenario:
    """One measurement and the words for it."""

    about: str
    module: str  # of this room
    everyday: bool = True  # part of `make bench`; others are measured by name
    beside: tuple[str, ...] = ()  # scenarios that are measured right before: a ratio needs both from one run

    def measure(self, bench: Bench) -> Figures:
        """Run it. Raises BenchFailed."""
        found: Measure = importlib.import_module(f"twinship.bench.scenarios.{self.module}").measure
        return found(bench)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "invoke": Scenario("the bare interpreter, with each runtime", "models.invoke"),
    "module": Scenario("the inference module without a hub, beyond the bare interpreter", "models.module"),
    "floor": Scenario("the same frames and model on bare paho and mosquitto", "modules.floor"),
    "single": Scenario("one frame at a time at 10, 50 and 200 frames/s", "modules.single", beside=("floor",)),
    "sdk": Scenario("as many messages as the SDK alone lets through, without frames or model", "modules.sdk"),
    "throughput": Scenario(
        "as many frames as go through, one in a message", "modules.throughput", beside=("floor", "sdk")
    ),
    "server": Scenario("Poisson arrivals, 100 frames/s on average", "modules.server", beside=("floor",)),
    "naive": Scenario(
        "without NODELAY, and with a POST for each frame", "modules.naive", beside=("floor", "single")
    ),
    "startup_s": Scenario("start of everything to the first prediction, model on disk", "modules.startup"),
    "memory": Scenario("resident memory after 10,000 frames", "modules.memory"),
    "memory_long": Scenario("resident memory after 100,000 frames", "modules.memory_long", everyday=False),
    "offline": Scenario("as many frames as go through, in batches", "modules.offline", beside=("invoke",)),
    "hub": Scenario(
        "one hop through the hub's process, its start and its memory, next to mosquitto",
        "hub.hub",
        everyday=False,
    ),
    "swap": Scenario(
        "swaps by twin and rollbacks at 100 frames/s: nothing lost, what they cost",
        "models.swap",
        everyday=False,
    ),
    "delay": Scenario(
        "the article's formulas against what is measured, edge and cloud", "delay.scenario", everyday=False
    ),
    "ledger": Scenario("the modules' ledger against the hub's own stamps", "modules.ledger"),
    "overload": Scenario(
        "five times too many frames, and inference away for a while", "modules.overload", everyday=False
    ),
}


def chosen(names: tuple[str, ...]) -> Mapping[str, Scenario]:
    """Those scenarios, or those of every day, and what is measured beside each.

    Raises BenchFailed for a name that is none.
    """
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise BenchFailed(f"no scenario {unknown[0]!r}: there are {', '.join(SCENARIOS)}")
    wanted = names or tuple(name for name, scenario in SCENARIOS.items() if scenario.everyday)
    ordered = [each for name in wanted for each in (*SCENARIOS[name].beside, name)]
    return {name: SCENARIOS[name] for name in ordered}
