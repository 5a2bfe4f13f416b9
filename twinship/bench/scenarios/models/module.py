"""The inference module without a hub: message bytes in, prediction bytes out, in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edgekit.clock import mono_ns
from edgekit.frame.message import RAW, FrameId, Message
from inference.artefact import Artefact, read
from inference.engine import Engine
from inference.frames.frame_path import FramePath
from inference.frames.preprocess import decode_file
from inference.frames.publisher import Publisher
from inference.frames.settings import Settings, TelemetrySection
from inference.metrics import StageHistograms
from inference.model_section import ModelRef
from inference.models.active_model import ActiveModel
from inference.models.installer import Running
from twinship.bench.catalogue import Bench
from twinship.bench.peers.frames import frame_message
from twinship.bench.report.figures import median, median_range
from twinship.bench.rig.own_process import own_process
from twinship.bench.scenarios.models.invoke import invocations_us

FRAMES: Final = 5_000
WARM: Final = 500
PART: Final = 500  # frames between two runs of the bare interpreter, so that both meet the same load
SIDE: Final = 28  # pixels


def measure(bench: Bench) -> Mapping[str, Any]:
    """µs per frame, and how much of it the bare interpreter does not need, from the same seconds.

    A frame is a PNG, the camera's default encoding; under `raw` it is the bare pixels.
    """
    return own_process(_measured, bench.models[0], bench.pictures)


def _measured(model: Path, pictures: Path) -> dict[str, Any]:
    artefact = read(model.read_bytes())
    ref = ModelRef(artefact.manifest.name, artefact.manifest.version, artefact.size, artefact.sha256)
    running = Running(ref, Engine(artefact), artefact.manifest)
    files = [path.read_bytes() for path in sorted(pictures.glob("*.png"))]
    pixels = [decode_file(each).tobytes() for each in files]
    return {
        **_figures(running, artefact, [(each, "image/png") for each in files]),
        "raw": _figures(running, artefact, [(each, RAW) for each in pixels]),
        "runtime": running.engine.runtime,
    }


def _figures(running: Running, artefact: Artefact, pictures: Sequence[tuple[bytes, str]]) -> dict[str, Any]:
    answer_us = _frame_path(running)
    frames_us: list[float] = []
    bare_us: list[float] = []
    for first in range(0, WARM + FRAMES, PART):
        taken = [
            answer_us(_message(*pictures[seq % len(pictures)], seq)) for seq in range(first, first + PART)
        ]
        if first >= WARM:
            frames_us += taken
            bare_us += invocations_us(artefact, running.engine.runtime, PART)
    whole, bare = median(frames_us), median(bare_us)
    return {
        "p50_us": round(whole, 2),
        "invoke_p50_us": round(bare, 2),
        "beyond_invoke_us": round(whole - bare, 2),
        "p50_range_us": median_range(frames_us),
    }


def _frame_path(running: Running) -> Callable[[Message], float]:
    """The whole frame path with a hub that acknowledges at once: a function from a frame to its µs."""

    def send(_output: str, _message: Message, on_stored: Callable[[int], None]) -> bool:
        on_stored(mono_ns())
        return True

    active_model = ActiveModel(lambda _running, _ending: None)
    active_model.set(running)
    publisher = Publisher(send, instance="0123456789abcdef", observe=StageHistograms().observe)
    path = FramePath(active_model, publisher)
    path.apply(Settings(telemetry=TelemetrySection(predictions="all")))

    def answer_us(message: Message) -> float:
        began = mono_ns()
        path.receive(message, began)
        arrival = path.next(began)
        assert arrival is not None  # this thread has just put it into the queue
        path.answer(arrival)
        return (mono_ns() - began) / 1e3

    return answer_us


def _message(image: bytes, content_type: str, seq: int) -> Message:
    return frame_message(FrameId("camera", "0123456789abcdef", seq), image, content_type, SIDE)
