"""Fetch Keras's own copy of a data set within a few seconds, or say why not.

The work is done by a child process (`python -m twinship_training.data.download`): whatever hangs, the name server or
the connection, it can be killed. Where the files belong is `find`'s, what is in them `archives`'.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BASE: Final = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
MAX_BYTES: Final = 32 * 1024 * 1024  # the largest file has 26,421,880
TIMEOUT_S: Final = 10


@dataclass(frozen=True)
class Remote:
    """A file that we know by its digest."""

    name: str
    algorithm: str
    digest: str


FILES: Final = {
    # The digest that keras.datasets.mnist has.
    "mnist": (
        Remote("mnist.npz", "sha256", "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"),
    ),
    # In the order of `archives.KEYS`; the digests are those that Zalando publishes.
    "fashion_mnist": (
        Remote("train-images-idx3-ubyte.gz", "md5", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        Remote("train-labels-idx1-ubyte.gz", "md5", "25c81989df183df01b3e8a0aad5dffbe"),
        Remote("t10k-images-idx3-ubyte.gz", "md5", "bef4ecab320f06d8554ea6380940ec79"),
        Remote("t10k-labels-idx1-ubyte.gz", "md5", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
}


def download(name: str, folder: Path, timeout_s: float = TIMEOUT_S, base: str = BASE) -> str | None:
    """Put the files of a data set into `folder` and return None, or return in one line why not in time."""
    mark = f".{os.getpid()}.part"
    command = [sys.executable, "-m", "twinship_training.data.download", name, base, str(folder), mark]
    try:
        child = subprocess.run(command, timeout=timeout_s, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return f"nothing complete within {timeout_s:g} s"
    finally:
        for part in folder.glob(f"*{mark}"):
            part.unlink(missing_ok=True)
    if child.returncode == 0:
        return None
    said = child.stderr.strip().splitlines()
    return said[-1] if said else f"the download ended with {child.returncode}"


def fetch(remote: Remote, base: str, folder: Path, mark: str) -> None:
    """Load one file and move it to its place when its digest is the one we know; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(base + remote.name, timeout=TIMEOUT_S) as answer:
        body = answer.read(MAX_BYTES + 1)
    if (digest := hashlib.new(remote.algorithm, body).hexdigest()) != remote.digest:
        said = f"{len(body)} bytes with {remote.algorithm} {digest[:16]}…"
        raise OSError(f"{base}{remote.name} answered {said}, not {remote.name}")
    part = folder / f"{remote.name}{mark}"
    part.write_bytes(body)
    os.replace(part, folder / remote.name)


def main() -> int:
    """The child: ends itself soon after its parent would have killed it, should the parent be gone."""
    signal.alarm(2 * TIMEOUT_S)
    name, base, folder, mark = sys.argv[1:]
    try:
        for remote in FILES[name]:
            if not (Path(folder) / remote.name).exists():
                fetch(remote, base, Path(folder), mark)
    except (OSError, ValueError) as error:  # URLError is an OSError
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
