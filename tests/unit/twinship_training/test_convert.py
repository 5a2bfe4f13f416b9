"""The flatbuffer: in four optimisations, without what no runtime needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference.runtimes import versions
from twinship_training.convert import OPTIMISATIONS, converted, minimum_runtime, too_old
from twinship_training.networks.architectures import ARCHITECTURES
from twinship_training.strip_metadata import ALIGNMENT, slim


@pytest.fixture(scope="module")
def flatbuffers() -> dict[str, bytes]:
    """An untrained SVM in each optimisation."""
    model = ARCHITECTURES["svm"].build((28, 28, 1), 10)
    pictures = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    return {name: converted(model, name, pictures) for name in OPTIMISATIONS}


def unpacked(tflite: bytes) -> Any:
    """The flatbuffer as objects."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))


def packed(model: Any) -> bytes:
    """Objects as a flatbuffer again, as the schema's own packer does it."""
    import flatbuffers as library  # type: ignore[import-untyped]

    builder = library.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_fewer_bits_are_fewer_bytes(flatbuffers: dict[str, bytes]) -> None:
    """A quarter of float32 in int8, half in float16."""
    sizes = {name: len(content) for name, content in flatbuffers.items()}
    assert sizes["int8"] < 0.4 * sizes["float32"]
    assert sizes["dynamic"] < 0.4 * sizes["float32"]
    assert 0.4 * sizes["float32"] < sizes["float16"] < 0.6 * sizes["float32"]


def test_the_converter_says_which_runtime_is_needed(flatbuffers: dict[str, bytes]) -> None:
    """int8 runs on every runtime here; a dense layer of int8 weights alone needs a newer tflite-runtime."""
    minimum = {name: minimum_runtime(content) for name, content in flatbuffers.items()}
    assert too_old(minimum["int8"]) == too_old(minimum["float32"]) == {}
    assert set(too_old(minimum["dynamic"])) == {"tflite_runtime"} & set(versions())
    assert all("2.17.0" in why for why in too_old(minimum["dynamic"]).values())


def test_a_slim_model_has_no_names_but_two(flatbuffers: dict[str, bytes]) -> None:
    """Input and output can still be told; inner names are gone from every optimisation."""
    for content in flatbuffers.values():
        (graph,) = unpacked(content).subgraphs
        assert {tensor.name for tensor in graph.tensors} == {b"", b"input", b"output"}


def test_names_and_notes_are_all_that_goes(flatbuffers: dict[str, bytes]) -> None:
    """Long names put back and taken out again: the same bytes; so nothing else was touched."""
    model = unpacked(flatbuffers["int8"])
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"a/very/long/name/of/tensor/{number}".encode()
    model.description = "converted by somebody"
    fat = packed(model)
    assert len(fat) > len(flatbuffers["int8"]) + 200
    assert slim(fat) == flatbuffers["int8"]


def test_numbers_stay_aligned(flatbuffers: dict[str, bytes]) -> None:
    """TFLite's schema promises that weights begin at multiples of 16 bytes; the packer forgets it."""

    def unaligned(content: bytes) -> int:
        from tensorflow.lite.python import schema_py_generated as schema

        model = schema.Model.GetRootAsModel(content, 0)
        buffers = (model.Buffers(place) for place in range(model.BuffersLength()))
        filled = [buffer for buffer in buffers if buffer.DataLength()]
        return sum(buffer._tab.Vector(buffer._tab.Offset(4)) % ALIGNMENT != 0 for buffer in filled)

    assert [unaligned(content) for content in flatbuffers.values()] == [0, 0, 0, 0]
    assert unaligned(packed(unpacked(flatbuffers["int8"]))) > 0
