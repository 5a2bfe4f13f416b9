"""A measurement in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def own_process(measure: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """What it gives. This process may just have trained: beside TensorFlow tflite-runtime loads no model."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, *arguments, **named).result()
