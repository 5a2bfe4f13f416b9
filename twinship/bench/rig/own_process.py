"""Run a measurement in its own process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def own_process(measure: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Call `measure` in a new process and return its result.

    tflite-runtime loads no model in a process that has loaded TensorFlow, and this process may have trained.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments, **named).result()
