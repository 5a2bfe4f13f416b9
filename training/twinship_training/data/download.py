"""Download Keras's copy of a data set, or its ImageNet weights, within a few seconds, or say why not.

A child process (`python -m twinship_training.data.download`) does it, because it can be killed when the name
server or the connection hangs. A file is accepted only with its known digest, or, where Keras publishes none,
with its known size.
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

from inference.dataset.choice import CACHE_FILES

BASE: Final = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
WEIGHTS_BASE: Final = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"
MAX_BYTES: Final = 32 * 1024 * 1024  # the largest file has 26,421,880
TIMEOUT_S: Final = 10
#: ImageNet weights of MobileNetV2 of width 1.0, without the layer of the 1,000 classes.
MOBILENET: Final = "mobilenet"
MOBILENET_FILE: Final = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
#: What to download → its files.
FILES: Final = {**CACHE_FILES, MOBILENET: (MOBILENET_FILE,)}
#: File → its size in bytes, as Keras prints it.
SIZES: Final = {MOBILENET_FILE: 9_406_464}
#: File → its digest.
DIGESTS: Final = {
    # The sha256 that keras.datasets.mnist has.
    "mnist.npz": "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    # The md5 that Zalando publishes.
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


def download(name: str, folder: Path, timeout_s: float = TIMEOUT_S, base: str = "") -> str | None:
    """Put the files of a data set, or weights, into `folder` and return None, or one line why it failed."""
    base = base or (WEIGHTS_BASE if name == MOBILENET else BASE)
    mark = f".{os.getpid()}.part"
    command = [sys.executable, "-m", "twinship_training.data.download", name, base, str(folder), mark]
    try:
        child = subprocess.run(command, timeout=timeout_s, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        return f"nothing complete within {timeout_s:g} s"
    finally:
        for partial in folder.glob(f"*{mark}"):
            partial.unlink(missing_ok=True)
    if child.returncode == 0:
        return None
    lines = child.stderr.strip().splitlines()
    return lines[-1] if lines else f"the download ended with {child.returncode}"


def fetch(file: str, base: str, folder: Path, mark: str) -> None:
    """Load one file, check its digest and move it to its place. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(base + file, timeout=TIMEOUT_S) as response:
        body = response.read(MAX_BYTES + 1)
    if received := _differs(file, body):
        raise OSError(f"{base}{file} answered {received}, not {file}")
    partial = folder / f"{file}{mark}"
    partial.write_bytes(body)
    os.replace(partial, folder / file)


def _differs(file: str, body: bytes) -> str:
    """What was received instead of this file; "" if it is the file."""
    if file in SIZES:
        return "" if len(body) == SIZES[file] else f"{len(body)} bytes"
    algorithm = "sha256" if len(DIGESTS[file]) == 64 else "md5"
    digest = hashlib.new(algorithm, body).hexdigest()
    return "" if digest == DIGESTS[file] else f"{len(body)} bytes with {algorithm} {digest[:16]}…"


def main() -> int:
    """The child process. It ends itself soon after the parent would have killed it, should the parent die."""
    signal.alarm(2 * TIMEOUT_S)
    name, base, folder, mark = sys.argv[1:]
    try:
        for file in FILES[name]:
            if not (Path(folder) / file).exists():
                fetch(file, base, Path(folder), mark)
    except (OSError, ValueError) as error:  # URLError is an OSError
        sys.stderr.write(f"{' '.join(str(error).split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
