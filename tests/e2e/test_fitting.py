"""Fitting in real processes: Ctrl-C and --resume, and two machines that train one network."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import Command
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

PATIENCE_S = 240.0  # TensorFlow and a first epoch take a minute where 16 processes share two cores
#: micro's full recipe: distortions, the optimizer's memory, batch normalisation and the averaged weights.
TRAIN = ("train", "--dataset", "digits", "--arch", "micro", "--epochs", "4", "--min-accuracy", "0.2")


def weights(out: Path) -> str:
    """The digest of the float weights, as the results have it."""
    return str(json.loads((out / "metrics.json").read_text())["weightsSha256"])


def test_ctrl_c_and_resume_end_at_the_same_weights(twinship: Command) -> None:
    """Interrupted after an epoch, a training says how to go on; that ends as if never interrupted."""
    checkpoint = twinship.folder / "model.checkpoint" / "micro.npz"
    process = twinship.start(*TRAIN, "--out", "model")
    wait_until(lambda: checkpoint.exists() or process.poll() is not None, "the first epoch", PATIENCE_S)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not (twinship.folder / "model").exists()

    found = re.search(r"go on with: twinship (.*)", said)
    assert found, said
    again = shlex.split(found[1])
    assert again[-1] == "--resume"
    code, said = twinship.run(*again)
    assert code == 0, said
    assert not checkpoint.parent.exists()

    code, said = twinship.run(*TRAIN, "--out", "never interrupted")
    assert code == 0, said
    assert weights(twinship.folder / "model") == weights(twinship.folder / "never interrupted")


def test_two_machines_train_one_network(twinship: Command) -> None:
    """Two processes on loopback: the chief has the results, the other none, and both the same weights."""
    with ExitStack() as sockets:
        free = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in free]
    chief, other = (
        twinship.start(
            *TRAIN,
            "--out",
            f"model{index}",
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    )
    told, _ = other.communicate(timeout=PATIENCE_S)
    assert other.returncode == 0, told
    said, _ = chief.communicate(timeout=PATIENCE_S)
    assert chief.returncode == 0, said
    assert not (twinship.folder / "model1").exists()
    assert f"weights {weights(twinship.folder / 'model0')}" in told
