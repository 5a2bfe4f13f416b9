"""The scenarios by name: the name on the command line and the key in `report.json`.

The module of a scenario, in `twinship.bench.scenarios`, has a function `measure(bench: Bench) -> Figures`. It
removes what it creates outside `bench.folder` and raises BenchFailed. It is imported when it is run.

>>> list(chosen(("single",)))
['floor', 'single']
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

    folder: Path  # scratch space of this scenario, empty
    models: tuple[Path, Path]  # two artefacts of the same recipe with different weights
    pictures: Path  # held-out frames with their labels
    progress: Callable[[str, float], None]  # takes the current step and the finished share, 0 to 1

    @property
    def results(self) -> Path:
        """The folder of the report, for pictures that belong to it."""
        return self.folder.parents[1]


Figures = Mapping[str, Any] | float  # a scenario with a single figure returns the number
Measure = Callable[[Bench], Figures]


@dataclass(frozen=True)
class Scenario:
    """One measurement."""

    about: str
    module: str  # in twinship.bench.scenarios
    everyday: bool = True  # `make bench` runs it; the others run by name only
    beside: tuple[str, ...] = ()  # scenarios to measure just before: a ratio needs both figures of one run
    function: str = "measure"
    precondition: str = ""  # a function without arguments, called before anything is trained or measured

    def check(self) -> None:
        """Check what the scenario takes from the environment. Raises BenchFailed."""
        if self.precondition:
            module = importlib.import_module(f"twinship.bench.scenarios.{self.module}")
            getattr(module, self.precondition)()

    def measure(self, bench: Bench) -> Figures:
        """Run it. Raises BenchFailed."""
        module = importlib.import_module(f"twinship.bench.scenarios.{self.module}")
        found: Measure = getattr(module, self.function)
        return found(bench)


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "invoke": Scenario("the bare interpreter, with each runtime", "models.invoke"),
    "module": Scenario("the inference module without a hub, beyond the bare interpreter", "models.module"),
    "floor": Scenario("the same frames and model on bare paho and mosquitto", "modules.floor"),
    "single": Scenario("one frame at a time at 10, 50 and 200 frames/s", "modules.single", beside=("floor",)),
    "sdk": Scenario("the SDK alone at its maximum rate, without frames or model", "modules.sdk"),
    "throughput": Scenario(
        "maximum rate, one frame in a message", "modules.throughput", beside=("floor", "sdk")
    ),
    "server": Scenario("Poisson arrivals, 100 frames/s on average", "modules.server", beside=("floor",)),
    "naive": Scenario(
        "without NODELAY, and with a POST for each frame", "modules.naive", beside=("floor", "single")
    ),
    "startup_s": Scenario(
        "from the start of all processes to the first prediction, model on disk", "modules.startup"
    ),
    "memory": Scenario("resident memory after 10,000 frames", "modules.memory"),
    "memory_long": Scenario(
        "resident memory after 100,000 frames", "modules.memory", everyday=False, function="measure_long"
    ),
    "offline": Scenario("maximum rate, frames in batches", "modules.offline", beside=("invoke",)),
    "real": Scenario("photographs of 640x480 and a MobileNetV2, beside floor and bare", "real.scenario"),
    "hub": Scenario(
        "one hop through the hub's process, its start and its memory, next to mosquitto",
        "hub.hub",
        everyday=False,
    ),
    "endpoint": Scenario(
        "the Event Hub-compatible endpoint: lag of a live reader, rate of a backlog, their cost for a hop",
        "hub.endpoint",
        everyday=False,
    ),
    "swap": Scenario(
        "model swaps by twin and rollbacks at 100 frames/s: lost frames and cost",
        "models.swap",
        everyday=False,
    ),
    "soak": Scenario(
        "an hour at 100 frames/s with swaps, link cuts and kills: memory stays flat, every frame is counted",
        "soak.scenario",
        everyday=False,
        precondition="scale",
    ),
    "delay": Scenario(
        "the article's formulas against measured delays, edge and cloud", "delay.scenario", everyday=False
    ),
    "ledger": Scenario("the modules' stage times against the hub's time stamps", "modules.ledger"),
    "overload": Scenario(
        "five times too many frames, and inference absent for a while", "modules.overload", everyday=False
    ),
    "costly": Scenario(
        "one frame a second at the limit of the decode budget, beside another camera at 10 frames/s",
        "modules.costly",
        everyday=False,
    ),
    "page": Scenario(
        "the dashboard's share of a core at 10 frames/s, with a page open and without",
        "modules.page",
        everyday=False,
    ),
}


def chosen(names: tuple[str, ...]) -> Mapping[str, Scenario]:
    """The named scenarios, or the everyday ones if none is named, each after those it needs beside it.

    Raises BenchFailed for an unknown name.
    """
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise BenchFailed(f"no scenario {unknown[0]!r}: there are {', '.join(SCENARIOS)}")
    wanted = names or tuple(name for name, scenario in SCENARIOS.items() if scenario.everyday)
    ordered = [each for name in wanted for each in (*SCENARIOS[name].beside, name)]
    return {name: SCENARIOS[name] for name in ordered}
