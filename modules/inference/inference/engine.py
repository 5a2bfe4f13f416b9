"""Runs one loaded model: prepared pixels in, the answer of its head out (`inference.heads`).

Load only models that passed a proof in a child process: a damaged flatbuffer kills the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference import heads
from inference.artefact import Artefact, InputSpec
from inference.runtimes import (
    AUTO,
    EngineError,
    Interpreter,
    NeedsDelegate,
    NoDelegate,
    chosen,
    interpreter,
    one_line,
)

__all__ = ["Engine", "EngineError", "NeedsDelegate"]

INTEGERS: Final = (np.dtype(np.int8), np.dtype(np.uint8))
FLOAT: Final = np.dtype(np.float32)
_EDGE_TPU_OPERATOR: Final = "edgetpu-custom-op"  # edgetpu_compiler replaces a whole subgraph by it


class Engine:
    """A model in one interpreter. One thread may create it and another one use it."""

    def __init__(
        self, artefact: Artefact, *, runtime: str = AUTO, threads: int = 1, delegate: str = ""
    ) -> None:
        """Load the model; raises EngineError if it does not load or differs from its manifest.

        If `delegate`, a shared library, does not accept the model, the CPU runs it. Raises NeedsDelegate for
        a model that no CPU runs.
        """
        self.runtime = chosen(runtime)
        self.labels = artefact.labels
        self.input: InputSpec = artefact.manifest.input
        self._lock = threading.Lock()  # one frame at a time; uncontended on the frame path
        self.why_not = ""  # why the requested delegate does not run the model
        self._interpreter, self._source, sinks = self._load(artefact.tflite, threads, delegate)
        self.delegate = "" if self.why_not else delegate  # the library that runs the model or a part of it
        _agree(self._source, (1, self.input.height, self.input.width, self.input.channels))
        manifest = artefact.manifest
        self.task = manifest.task
        self._sinks = _ordered(sinks, manifest.head.outputs)
        shapes = [sink.shape for sink in self._sinks]
        heads.check_shapes(manifest.head, shapes, len(self.labels))
        self._quantised = quantise(self.input, self._source)
        self._real = [dequantise(sink) for sink in self._sinks]
        self._head = heads.head(manifest.head, self.input, len(self.labels), manifest.temperature)
        # An integer output whose bytes have one confidence each needs no computation.
        self._table = self._real[0] if heads.identity(manifest.head, manifest.temperature) else None

    def _load(self, model: bytes, threads: int, delegate: str) -> _Loaded:
        """Load on the delegate, if one is requested; on the CPU otherwise, or if the delegate fails."""
        if delegate:
            try:
                return _tensors(interpreter(self.runtime, model, threads, delegate))
            except (NoDelegate, EngineError) as error:
                self.why_not = one_line(error)
        made = interpreter(self.runtime, model, threads)
        try:
            return _tensors(made)
        except EngineError as error:
            if _EDGE_TPU_OPERATOR not in str(error):
                raise
            reason = self.why_not or "DELEGATE names no library"
            raise NeedsDelegate(f"it was compiled for the Edge TPU, and there is none: {reason}") from error

    def infer(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the model on one prepared picture, uint8 (H, W, C); return the answer, float32.

        (labels,) from a classifier, (count, 6) from a detector, as `inference.heads` says. The array is a
        copy of the runtime's memory. Raises the errors of the runtime: ValueError for another shape,
        RuntimeError if an operator fails; and EngineError if the output is no answer, as numbers that are not
        finite.
        """
        with self._lock:
            self._feed(pixels)
            self._interpreter.invoke()
            if self._table is not None:
                output = self._interpreter.get_tensor(self._sinks[0].index)
                return self._table.take(output.view(np.uint8)).reshape(-1)
            outputs = [self._interpreter.get_tensor(sink.index) for sink in self._sinks]  # copies
        return self._head(
            [
                output if real is None else real.take(output.view(np.uint8))
                for output, real in zip(outputs, self._real, strict=True)
            ]
        )

    def _feed(self, pixels: NDArray[np.uint8]) -> None:
        table = self._quantised
        if table.ndim == 1:
            stored = table.take(pixels)
        else:  # a normalisation for each channel
            stored = np.stack([table[:, c].take(pixels[:, :, c]) for c in range(table.shape[1])], axis=2)
        self._interpreter.set_tensor(self._source.index, stored[np.newaxis])

    def reported(self) -> dict[str, str | None]:
        """Return runtime and delegate (None: the CPU), and why the requested delegate is not used."""
        return {
            "runtime": self.runtime,
            "delegate": self.delegate or None,
            "whyNotDelegate": self.why_not or None,
        }

    def prepared(self, pixels: NDArray[np.uint8]) -> Callable[[], None]:
        """Return a function that only invokes the model on this picture, for timing. Not thread-safe."""
        self._feed(pixels)
        return self._interpreter.invoke

    def warm(self, times: int = 3) -> None:
        """Run a black picture, so that the first frame does not wait for lazy initialisation."""
        for _ in range(times):
            self.infer(np.zeros((self.input.height, self.input.width, self.input.channels), np.uint8))


@dataclass(frozen=True)
class Tensor:
    """The input or output tensor of the model, as the runtime describes it."""

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float  # real = (stored - zero_point) * scale; unused when the tensor holds floats
    zero_point: int


def quantise(spec: InputSpec, tensor: Tensor) -> NDArray[Any]:
    """Return the tensor's number for each of the 256 pixel values, (256,) or (256, channels).

    InputSpec says what the real number is. A lookup in this table is exact, and faster than the computation
    for every frame.

    >>> spec = InputSpec(height=1, width=1, channels=1, scale=1 / 255)
    >>> tensor = Tensor(0, (1, 1, 1, 1), np.dtype(np.int8), scale=1 / 255, zero_point=-128)
    >>> quantise(spec, tensor)[[0, 128, 255]].tolist()
    [-128, 0, 127]
    """
    real: NDArray[Any] = np.arange(256, dtype=np.float64)
    if not spec.std:
        real = real * spec.scale + spec.offset
    elif len(set(spec.mean)) == len(set(spec.std)) == 1:
        real = (real - spec.mean[0]) / spec.std[0]
    else:
        real = (real[:, np.newaxis] - np.array(spec.mean)) / np.array(spec.std)
    if tensor.dtype == FLOAT:
        return real.astype(np.float32)
    limits = np.iinfo(tensor.dtype)
    stored: NDArray[Any] = np.rint(real / tensor.scale) + tensor.zero_point
    return stored.clip(limits.min, limits.max).astype(tensor.dtype)


def dequantise(tensor: Tensor) -> NDArray[np.float32] | None:
    """Return the real number for each of the 256 stored bytes; None if the tensor holds floats."""
    if tensor.dtype == FLOAT:
        return None
    stored: NDArray[Any] = np.arange(256, dtype=np.uint8).view(tensor.dtype).astype(np.float64)
    return ((stored - tensor.zero_point) * tensor.scale).astype(np.float32)


_Loaded = tuple[Interpreter, Tensor, list[Tensor]]


def _tensors(loaded: Interpreter) -> _Loaded:
    try:
        loaded.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"the model's tensors cannot be allocated: {one_line(error)}") from error
    inputs, outputs = loaded.get_input_details(), loaded.get_output_details()
    if len(inputs) != 1 or not outputs:
        counts = f"{len(inputs)} inputs and {len(outputs)} outputs"
        raise EngineError(f"the model has {counts}, not one picture as its input")
    return loaded, _tensor(inputs[0], "input"), [_tensor(each, "output") for each in outputs]


def _ordered(sinks: list[Tensor], positions: tuple[int, ...]) -> list[Tensor]:
    """The outputs in the order of the head's kind."""
    if not positions:
        return sinks
    if max(positions) >= len(sinks) or len(set(positions)) != len(positions):
        raise EngineError(f"the manifest's head names outputs {positions}, the model has {len(sinks)}")
    return [sinks[position] for position in positions]


def _tensor(details: dict[str, Any], side: str) -> Tensor:
    scale, zero_point = details["quantization"]
    shape = tuple(int(size) for size in details["shape"])
    tensor = Tensor(int(details["index"]), shape, np.dtype(details["dtype"]), float(scale), int(zero_point))
    if tensor.dtype != FLOAT and tensor.dtype not in INTEGERS:
        raise EngineError(f"the model's {side} holds {tensor.dtype}, not int8, uint8 or float32")
    if tensor.dtype in INTEGERS and not tensor.scale > 0:
        raise EngineError(f"the model's {side} holds {tensor.dtype} without a scale")
    return tensor


def _agree(tensor: Tensor, declared: tuple[int, ...]) -> None:
    if tensor.shape != declared:
        raise EngineError(f"the model's input is {tensor.shape}, its manifest says {declared}")
