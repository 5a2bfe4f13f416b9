"""Finds the installed TFLite runtime, creates interpreters, and loads delegates (accelerator libraries).

LiteRT is preferred; tflite-runtime serves platforms without LiteRT (arm32v7).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import importlib.metadata
from typing import Any, Final, Protocol

from numpy.typing import NDArray

AUTO: Final = "auto"
RUNTIMES: Final = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite_runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
"""In the order of preference: name in the settings → (Python module, distribution)."""


class EngineError(Exception):
    """This model does not run here, or this machine has no runtime; the message is one line."""


class NeedsDelegate(EngineError):
    """The model is compiled for an accelerator that this machine does not have; no CPU runs it."""


class NoDelegate(Exception):
    """The library does not load, or provides no delegate; the message is one line."""


class Interpreter(Protocol):
    """The part of the interpreter API that both runtimes have and this package uses."""

    def allocate_tensors(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, index: int, value: NDArray[Any]) -> None: ...
    def get_tensor(self, index: int) -> NDArray[Any]: ...
    def invoke(self) -> None: ...


def versions() -> dict[str, str]:
    """Return the installed runtimes in the order of preference, with their versions. Loads none."""
    found = installed(*(distribution for _, distribution in RUNTIMES.values()))
    return {name: found[pip] for name, (_, pip) in RUNTIMES.items() if pip in found}


def installed(*distributions: str) -> dict[str, str]:
    """Return the version of each of these distributions that is installed, in this order. Imports none."""
    found = {name: _version(name) for name in distributions}
    return {name: version for name, version in found.items() if version is not None}


@functools.cache  # to read it takes longer than to load a small model, beside the frames
def _version(distribution: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return None


def chosen(runtime: str) -> str:
    """Return the runtime for "auto" or a name; raises EngineError if it is unknown or not installed."""
    if runtime not in (AUTO, *RUNTIMES):
        raise EngineError(f"runtime {runtime!r} is unknown: use {', '.join((AUTO, *RUNTIMES))}")
    installed = versions()
    if runtime == AUTO and installed:
        return next(iter(installed))
    if runtime in installed:
        return runtime
    candidates = [RUNTIMES[runtime]] if runtime in RUNTIMES else RUNTIMES.values()
    raise EngineError(f"no TFLite runtime here: install {' or '.join(pip for _, pip in candidates)}")


def interpreter(runtime: str, model: bytes, threads: int, delegate: str = "") -> Interpreter:
    """Create an interpreter for the bytes of a flatbuffer, without allocated tensors.

    `runtime` is a result of `chosen`; `delegate` is the shared library of an external delegate. Raises
    NoDelegate if the library provides none, and EngineError if the model does not load or the delegate does
    not accept it. LiteRT prints one INFO line (XNNPACK) to stderr, which only its C API could suppress.
    """
    try:
        module = importlib.import_module(RUNTIMES[runtime][0])
    except ImportError as error:
        raise EngineError(f"runtime {runtime} does not load: {one_line(error)}") from error
    delegates = [_delegate(module, delegate)] if delegate else None
    try:
        made: Interpreter = module.Interpreter(
            model_content=model, num_threads=threads, experimental_delegates=delegates
        )
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"{runtime} refuses the model: {one_line(error)}") from error
    return made


def _delegate(module: Any, library: str) -> Any:
    """Load the delegate. The check comes first: `load_delegate` fails badly on other libraries."""
    try:
        found = ctypes.PyDLL(library)
        for name in ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"):
            getattr(found, name)
        return module.load_delegate(library)
    except (OSError, AttributeError, ValueError) as error:
        text = one_line(error)
        raise NoDelegate(text if library in text else f"{library}: {text}") from error


def one_line(error: Exception) -> str:
    """Return the message of an error in one line of at most 200 characters.

    >>> one_line(ValueError("first line\\n  second line"))
    'first line second line'
    """
    return " ".join(str(error).split())[:200] or type(error).__name__
