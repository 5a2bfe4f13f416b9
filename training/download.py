"""Fetch Keras's own copy of MNIST within a few seconds, or say why not.

The work is done by a child process (`python -m training.download TARGET`): whatever hangs, the name server or
the connection, it can be killed. Where the file belongs and what is in it is `data`'s.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Final

URL: Final = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256: Final = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"  # as keras.datasets.mnist
MAX_BYTES: Final = 16 * 1024 * 1024  # the file has 11,490,434
TIMEOUT_S: Final = 10


def download(target: Path, timeout_s: float = TIMEOUT_S, url: str = URL) -> str | None:
    """Put MNIST at `target` and return None, or return in one line why that was not possible in time."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    command = [sys.executable, "-m", "training.download", url, str(part), str(target)]
    try:
        child = subprocess.run(command, timeout=timeout_s, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return f"nothing complete within {timeout_s:g} s"
    finally:
        part.unlink(missing_ok=True)
    if child.returncode == 0:
        return None
    said = child.stderr.strip().splitlines()
    return said[-1] if said else f"the download ended with {child.returncode}"


def fetch(url: str, part: Path, target: Path, sha256: str = SHA256) -> None:
    """Load `url` into `part` and move it to `target` when its digest is the one we know; raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        body = answer.read(MAX_BYTES + 1)
    if (digest := hashlib.sha256(body).hexdigest()) != sha256:
        raise OSError(f"{url} answered {len(body)} bytes with sha256 {digest[:16]}…, not MNIST")
    part.write_bytes(body)
    os.replace(part, target)


def main() -> int:
    """The child: ends itself soon after its parent would have killed it, should the parent be gone."""
    signal.alarm(2 * TIMEOUT_S)
    url, part, target = sys.argv[1:]
    try:
        fetch(url, Path(part), Path(target))
    except (OSError, ValueError) as error:  # URLError is an OSError
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
