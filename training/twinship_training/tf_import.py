"""TensorFlow on our terms: imported late, silenced while it talks, heard when it fails, the same everywhere.

Knows nothing of models. Importing this file imports no TensorFlow; calling `tensorflow` does.
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
#: On every machine, because the last bits of a sum depend on how many threads shared it.
THREADS: Final = 2


def tensorflow() -> tuple[Any, Any]:
    """The modules tensorflow and keras; nothing here gets at them another way."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read once, while TensorFlow is imported
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # By default on some processors alone; without it a step of `micro` takes 57 ms instead of 40 on AMD's.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with silenced():
        tf, keras = importlib.import_module("tensorflow"), importlib.import_module("keras")
        tf.get_logger().setLevel("ERROR")  # it warns when several models are asked in one process
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)  # before its first operation, or never
    return tf, keras


@contextmanager
def silenced() -> Iterator[None]:
    """Keep warnings, and what native code writes to stderr, off the terminal; a note on an error.

    TF_CPP_MIN_LOG_LEVEL does not reach what is logged before its logger stands, nor the converter's prints.
    """
    sys.stderr.flush()
    with tempfile.TemporaryFile() as heard, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        terminal = os.dup(STDERR)
        os.dup2(heard.fileno(), STDERR)
        try:
            yield
        except Exception as error:
            heard.seek(0)
            error.add_note(heard.read()[-4000:].decode(errors="replace"))
            raise
        finally:
            sys.stderr.flush()
            os.dup2(terminal, STDERR)
            os.close(terminal)
