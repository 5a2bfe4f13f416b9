"""TF_CONFIG: this machine's place among several, and one-line errors for anything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from twinship_training.settings import TrainSettings
from twinship_training.train import assist, train
from twinship_training.workers import EXAMPLE, Worker, WorkersError, find

TWO = {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}
WITH_CHIEF = {"chief": ["a:1"], **TWO}


def config(cluster: Any, kind: Any = "worker", index: Any = 0) -> dict[str, str]:
    """The environment of one machine."""
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


@pytest.mark.parametrize(
    ("environment", "worker"),
    [
        ({}, None),
        ({"TF_CONFIG": " "}, None),
        ({"TF_CONFIG": EXAMPLE}, Worker("worker 0", 2, chief=True)),
        (config(TWO), Worker("worker 0", 2, chief=True)),
        (config(TWO, index=1), Worker("worker 1", 2, chief=False)),
        (config(WITH_CHIEF, "chief"), Worker("chief 0", 3, chief=True)),
        (config(WITH_CHIEF), Worker("worker 0", 3, chief=False)),
    ],
)
def test_the_place_of_this_machine(environment: dict[str, str], worker: Worker | None) -> None:
    """Without the variable it trains alone; the first worker is the chief if none is named."""
    assert find(environment) == worker


@pytest.mark.parametrize(
    "environment",
    [
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "7"},
        {"TF_CONFIG": '{"cluster": {}}'},
        config([]),
        config({}),
        config({"worker": []}),
        config({"worker": ["no port"]}),
        config({"worker": ["host:0"]}),
        config({"worker": [7]}),
        config({"worker": "host:1"}),
        config(TWO, index=2),
        config(TWO, index=-1),
        config(TWO, index="0"),
        config(TWO, kind="evaluator"),
        config({**TWO, "ps": ["a:1"]}),
        config({**TWO, "chief": ["a:1", "b:1"]}),
    ],
    ids=lambda environment: environment["TF_CONFIG"],
)
def test_another_cluster_is_refused(environment: dict[str, str]) -> None:
    """The error is one line that names the variable and shows a valid one."""
    with pytest.raises(WorkersError, match="TF_CONFIG") as refused:
        find(environment)
    assert EXAMPLE in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("join", [train, assist])
def test_several_machines_cannot_resume(join: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint belongs to one machine that trains alone."""
    monkeypatch.setenv("TF_CONFIG", EXAMPLE)
    with pytest.raises(WorkersError, match="unset TF_CONFIG"):
        join(TrainSettings(resume=True, out=tmp_path / "model"), lambda text, share: None)


def test_only_the_chief_has_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`train` on another machine fails at once instead of waiting."""
    monkeypatch.setenv("TF_CONFIG", config(TWO, index=1)["TF_CONFIG"])
    with pytest.raises(WorkersError, match="worker 1 in TF_CONFIG has no results"):
        train(TrainSettings(out=tmp_path / "model"), lambda text, share: None)
