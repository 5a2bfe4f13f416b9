"""Several machines that train one network: who is named in TF_CONFIG, and TensorFlow's strategy for it.

What is shared, and how, is TensorFlow's: tf.distribute.MultiWorkerMirroredStrategy. Here is only the reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from twinship_training import TrainingError
from twinship_training.tf_import import silenced, tensorflow

VARIABLE: Final = "TF_CONFIG"
EXAMPLE: Final = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
#: Those that learn, in the order in which one of them is the chief. Keras has no use for other tasks here.
TASKS: Final = ("chief", "worker")


class WorkersError(TrainingError):
    """TF_CONFIG is not one that several machines could train by."""


@dataclass(frozen=True)
class Worker:
    """One machine of several, all of which run the same command."""

    task: str  # "worker 1", as TF_CONFIG names it
    count: int  # of machines
    chief: bool  # the one that writes the results


def find(environment: Mapping[str, str]) -> Worker | None:
    """Who this process is, by TF_CONFIG; None: it trains alone. Raises WorkersError."""
    text = environment.get(VARIABLE, "")
    if not text.strip():
        return None
    try:
        config = json.loads(text)
        cluster, kind, index = config["cluster"], config["task"]["type"], config["task"]["index"]
        machines = {name: list(cluster.get(name, ())) for name in TASKS}
        everything = [*machines["chief"], *machines["worker"]]
        fit = set(cluster) <= set(TASKS) and kind in cluster and index in range(len(machines[kind]))
        fit = fit and len(machines["chief"]) <= 1 and all(map(_address, everything))
    except (ValueError, KeyError, TypeError, AttributeError):
        fit = False
    if not fit:
        raise WorkersError(
            f"{VARIABLE} is not a cluster of workers with this machine's place: want {EXAMPLE}"
        )
    chief = kind == "chief" or (index == 0 and not machines["chief"])
    return Worker(f"{kind} {index}", len(everything), chief)


@cache  # TensorFlow joins the others once in a process
def strategy(worker: Worker | None) -> Any:
    """TensorFlow's; it waits until every machine is there. Before TensorFlow's first operation, or never."""
    tf, _ = tensorflow()
    if worker is None:
        return tf.distribute.get_strategy()
    with silenced():
        return tf.distribute.MultiWorkerMirroredStrategy()


def _address(text: Any) -> bool:
    host, _, port = str(text).rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
