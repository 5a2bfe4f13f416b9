"""The flatbuffer: four optimisations, and no metadata that no runtime needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inference.artefact import InputSpec
from inference.dataset.pictures import input_spec
from inference.evaluate import too_old
from inference.runtimes import versions
from twinship.packaging import model_file
from twinship_training.convert import (
    ALIGNMENT,
    OPTIMISATIONS,
    convert,
    minimum_runtime,
    strip_metadata,
    with_metadata,
)
from twinship_training.networks.architectures import ARCHITECTURES

SPEC = input_spec((28, 28, 1))


@pytest.fixture(scope="module")
def flatbuffers() -> dict[str, bytes]:
    """An untrained SVM in each optimisation."""
    model = ARCHITECTURES["svm"].build((28, 28, 1), 10)
    pictures = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    return {name: convert(model, name, pictures, SPEC) for name in OPTIMISATIONS}


def unpacked(tflite: bytes) -> Any:
    """The flatbuffer as objects."""
    from tensorflow.lite.python import schema_py_generated as schema

    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))


def packed(model: Any) -> bytes:
    """The flatbuffer of these objects, made by the schema's own packer."""
    import flatbuffers as library  # type: ignore[import-untyped]

    builder = library.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_fewer_bits_are_fewer_bytes(flatbuffers: dict[str, bytes]) -> None:
    """int8 takes about a quarter of float32, float16 a half."""
    sizes = {name: len(content) for name, content in flatbuffers.items()}
    assert sizes["int8"] < 0.4 * sizes["float32"]
    assert sizes["dynamic"] < 0.4 * sizes["float32"]
    assert 0.4 * sizes["float32"] < sizes["float16"] < 0.6 * sizes["float32"]


def test_the_converter_says_which_runtime_is_needed(flatbuffers: dict[str, bytes]) -> None:
    """int8 runs on every installed runtime; "dynamic" needs a newer tflite-runtime for its dense layer."""
    minimum = {name: minimum_runtime(content) for name, content in flatbuffers.items()}
    assert too_old(minimum["int8"]) == too_old(minimum["float32"]) == {}
    assert set(too_old(minimum["dynamic"])) == {"tflite_runtime"} & set(versions())
    assert all("2.17.0" in why for why in too_old(minimum["dynamic"]).values())


def test_only_input_and_output_have_names(flatbuffers: dict[str, bytes]) -> None:
    """In every optimisation the names of inner tensors are removed."""
    for content in flatbuffers.values():
        (graph,) = unpacked(content).subgraphs
        assert {tensor.name for tensor in graph.tensors} == {b"", b"input", b"output"}


def test_strip_metadata_changes_nothing_else(flatbuffers: dict[str, bytes]) -> None:
    """If names are added and removed again, the bytes are the same."""
    model = unpacked(flatbuffers["int8"])
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"a/very/long/name/of/tensor/{number}".encode()
    model.description = "converted by somebody"
    named = packed(model)
    assert len(named) > len(flatbuffers["int8"]) + 200
    assert strip_metadata(named) == strip_metadata(flatbuffers["int8"])


def test_other_tools_find_normalisation_and_labels(flatbuffers: dict[str, bytes]) -> None:
    """As TFLite Model Metadata: 0 to 255 become 0 to 1, the labels are in labels.txt."""
    for content in flatbuffers.values():
        found = model_file.read(content).metadata
        assert (found.mean, found.std, found.label_files) == ((0.0,), (255.0,), ("labels.txt",))
    colour = InputSpec(height=4, width=6, channels=3, scale=1 / 127.5, offset=-1.0)
    found = model_file.read(with_metadata(strip_metadata(flatbuffers["int8"]), colour)).metadata
    assert (found.mean, found.std) == ((127.5,) * 3, (127.5,) * 3)


def test_weights_stay_aligned(flatbuffers: dict[str, bytes]) -> None:
    """TFLite's schema promises multiples of 16 bytes; its own packer does not keep that."""

    def unaligned(content: bytes) -> int:
        from tensorflow.lite.python import schema_py_generated as schema

        model = schema.Model.GetRootAsModel(content, 0)
        buffers = (model.Buffers(index) for index in range(model.BuffersLength()))
        filled = [buffer for buffer in buffers if buffer.DataLength()]
        return sum(buffer._tab.Vector(buffer._tab.Offset(4)) % ALIGNMENT != 0 for buffer in filled)

    assert [unaligned(content) for content in flatbuffers.values()] == [0, 0, 0, 0]
    assert unaligned(packed(unpacked(flatbuffers["int8"]))) > 0
