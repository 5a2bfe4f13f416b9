"""Training in real processes: Ctrl-C and --resume, and two machines that train one network."""

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

PATIENCE_S = 240.0  # TensorFlow and a first epoch take a minute when 16 processes share two cores
#: micro's full recipe has distortions, optimizer state, batch normalisation and averaged weights.
TRAIN = (
    *("train", "--dataset", "digits", "--arch", "micro", "--epochs", "4", "--min-accuracy", "0.2"),
    *("--optimise", "float16"),  # after four epochs int8 may lose more than is allowed
)


def weights(out: Path) -> str:
    """The digest of the float weights in metrics.json."""
    return str(json.loads((out / "metrics.json").read_text())["weightsSha256"])


def test_ctrl_c_and_resume_end_at_the_same_weights(twinship: Command) -> None:
    """A training interrupted after an epoch prints how to resume; the weights are as if never interrupted."""
    checkpoint = twinship.folder / "model.checkpoint" / "micro.npz"
    process = twinship.start(*TRAIN, "--out", "model")
    wait_until(lambda: checkpoint.exists() or process.poll() is not None, "the first epoch", PATIENCE_S)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert not (twinship.folder / "model").exists()

    found = re.search(r"go on with: twinship (.*)", output)
    assert found, output
    again = shlex.split(found[1])
    assert again[-1] == "--resume"
    code, output = twinship.run(*again)
    assert code == 0, output
    assert not checkpoint.parent.exists()

    code, output = twinship.run(*TRAIN, "--out", "never interrupted")
    assert code == 0, output
    assert weights(twinship.folder / "model") == weights(twinship.folder / "never interrupted")


def test_two_machines_train_one_network(twinship: Command) -> None:
    """Two processes on loopback: only the chief has results, and both have the same weights."""
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
    of_other, _ = other.communicate(timeout=PATIENCE_S)
    assert other.returncode == 0, of_other
    of_chief, _ = chief.communicate(timeout=PATIENCE_S)
    assert chief.returncode == 0, of_chief
    assert not (twinship.folder / "model1").exists()
    assert f"weights {weights(twinship.folder / 'model0')}" in of_other
