"""Several machines that train one network together: read TF_CONFIG and choose TensorFlow's strategy.

The format and the exchange are TensorFlow's: tf.distribute.MultiWorkerMirroredStrategy.

>>> find({"TF_CONFIG": EXAMPLE})
Worker(task='worker 0', count=2, chief=True)
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
#: The tasks that train. The first machine in this order is the chief.
TASKS: Final = ("chief", "worker")


class WorkersError(TrainingError):
    """TF_CONFIG does not describe a cluster of workers."""


@dataclass(frozen=True)
class Worker:
    """One of several machines, all of which run the same command."""

    task: str  # "worker 1", as TF_CONFIG names it
    count: int  # of machines
    chief: bool  # the machine that writes the results


def find(environment: Mapping[str, str]) -> Worker | None:
    """This machine's place in TF_CONFIG; None: it trains alone. Raises WorkersError."""
    text = environment.get(VARIABLE, "")
    if not text.strip():
        return None
    try:
        config = json.loads(text)
        cluster, kind, index = config["cluster"], config["task"]["type"], config["task"]["index"]
        machines = {name: list(cluster.get(name, ())) for name in TASKS}
        addresses = [*machines["chief"], *machines["worker"]]
        valid = set(cluster) <= set(TASKS) and kind in cluster and index in range(len(machines[kind]))
        valid = valid and len(machines["chief"]) <= 1 and all(map(_is_address, addresses))
    except (ValueError, KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise WorkersError(f"{VARIABLE} is not a cluster of workers with this machine's task: want {EXAMPLE}")
    chief = kind == "chief" or (index == 0 and not machines["chief"])
    return Worker(f"{kind} {index}", len(addresses), chief)


@cache  # TensorFlow joins the other machines once in a process
def strategy(worker: Worker | None) -> Any:
    """TensorFlow's strategy. Call it before TensorFlow's first operation; it waits for all machines."""
    tf, _ = tensorflow()
    if worker is None:
        return tf.distribute.get_strategy()
    with silenced():
        return tf.distribute.MultiWorkerMirroredStrategy()


def _is_address(text: Any) -> bool:
    host, _, port = str(text).rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536
