"""Import TensorFlow late, keep its messages off the terminal, and fix its number of threads.

Importing this module does not import TensorFlow; calling `tensorflow` does.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

STDERR: Final = 2
#: The same on every machine, because the last bits of a sum depend on how many threads share it.
THREADS: Final = 2


def tensorflow() -> tuple[Any, Any]:
    """The modules tensorflow and keras. All code of this package gets them here."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, at import
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # On by default on some processors only. Without it a step of `micro` takes 57 ms instead of 40 on AMD.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with silenced():
        tf, keras = importlib.import_module("tensorflow"), importlib.import_module("keras")
        tf.get_logger().setLevel("ERROR")  # it warns when one process runs several models
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)  # before its first operation
    return tf, keras


@contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings and what native code writes to stderr off the terminal; add that output to an error.

    TF_CPP_MIN_LOG_LEVEL is not enough: some lines come before TensorFlow's logger starts, others from the
    converter, which prints.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as captured, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        terminal = os.dup(STDERR)
        os.dup2(captured.fileno(), STDERR)
        try:
            yield
        except Exception as error:
            captured.seek(0)
            error.add_note(captured.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, STDERR)
            os.close(terminal)
