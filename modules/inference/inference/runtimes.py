"""The two TFLite runtimes behind one door: LiteRT first, tflite-runtime where there is no LiteRT (arm32v7).

Knows how to find and construct them, and a delegate (an accelerator's library) for them; what a model means
is `engine`'s.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
from typing import Any, Final, Protocol

from numpy.typing import NDArray

AUTO: Final = "auto"
RUNTIMES: Final = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "tflite_runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
"""In the order of preference: the name that settings use → (Python module, distribution)."""


class EngineError(Exception):
    """This model does not run here, or this machine has no runtime; the message is one line."""


class NeedsDelegate(EngineError):
    """This model was compiled for an accelerator that is not at hand: no CPU runs it."""


class NoDelegate(Exception):
    """The delegate's library does not load, or does not give one; the message is one line."""


class Interpreter(Protocol):
    """What both runtimes offer and we use."""

    def allocate_tensors(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, index: int, value: NDArray[Any]) -> None: ...
    def get_tensor(self, index: int) -> NDArray[Any]: ...
    def invoke(self) -> None: ...


def versions() -> dict[str, str]:
    """The runtimes installed here, in the order of preference, each with its version; none is loaded."""
    found: dict[str, str] = {}
    for name, (_, distribution) in RUNTIMES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def chosen(runtime: str) -> str:
    """The runtime that "auto" or a name stands for on this machine; EngineError where there is none."""
    if runtime not in (AUTO, *RUNTIMES):
        raise EngineError(f"runtime {runtime!r} is unknown: use {', '.join((AUTO, *RUNTIMES))}")
    installed = versions()
    if runtime == AUTO and installed:
        return next(iter(installed))
    if runtime in installed:
        return runtime
    wanted = [RUNTIMES[runtime]] if runtime in RUNTIMES else RUNTIMES.values()
    raise EngineError(f"no TFLite runtime here: install {' or '.join(pip for _, pip in wanted)}")


def interpreter(runtime: str, model: bytes, threads: int, delegate: str = "") -> Interpreter:
    """A new interpreter for these flatbuffer bytes, not yet allocated; `runtime` as `chosen` gives it.

    `delegate` is the name of an external delegate's shared library; NoDelegate when it gives none. A delegate
    that does not take the model is an EngineError, as the model's own faults are.

    LiteRT writes one INFO line to stderr (its XNNPACK delegate); only its C interface could silence that.
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
    """The library's delegate. The runtimes' own loader stumbles over one that is none, so look first."""
    try:
        found = ctypes.PyDLL(library)
        for name in ("tflite_plugin_create_delegate", "tflite_plugin_destroy_delegate"):
            getattr(found, name)
        return module.load_delegate(library)
    except (OSError, AttributeError, ValueError) as error:
        text = one_line(error)
        raise NoDelegate(text if library in text else f"{library}: {text}") from error


def one_line(error: Exception) -> str:
    """What a library said, which may be long, in several lines, or nothing."""
    return " ".join(str(error).split())[:200] or type(error).__name__
