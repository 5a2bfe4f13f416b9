"""Take out of a flatbuffer what no runtime needs: the names of inner tensors, the converter's notes.

They are a tenth of a small model's file. The numbers stay as they are, aligned as TFLite's schema asks.
"""

from __future__ import annotations

from typing import Any, Final

IDENTIFIER: Final = b"TFL3"
ALIGNMENT: Final = 16  # bytes: `force_align` of Buffer.data in TFLite's schema.fbs, which the packer forgets
MINIMUM_RUNTIME: Final = (
    b"min_runtime_version"  # a note of the converter's: the first TensorFlow that loads it
)


def slim(tflite: bytes) -> bytes:
    """The same model; input and output are called so, all other tensors nothing."""
    import flatbuffers  # type: ignore[import-untyped]
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.name = b""
        for name, places in ((b"input", graph.inputs), (b"output", graph.outputs)):
            for place in places:
                graph.tensors[place].name = name
    for note in [each for each in model.metadata or () if each.name != MINIMUM_RUNTIME]:
        model.buffers[note.buffer].data = None
        model.metadata.remove(note)
    model.description = None
    model.buffers = [_aligned(schema, buffer) for buffer in model.buffers]
    builder = flatbuffers.Builder(len(tflite))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _aligned(schema: Any, buffer: Any) -> Any:
    class Aligned(schema.BufferT):  # type: ignore[misc]
        """Packs its data where a runtime may compute with it in place."""

        def Pack(self, builder: Any) -> int:
            if self.data is None or not len(self.data):
                return int(super().Pack(builder))
            builder.StartVector(1, len(self.data), ALIGNMENT)
            builder.head -= len(self.data)
            builder.Bytes[builder.head : builder.head + len(self.data)] = bytes(self.data)
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return int(schema.BufferEnd(builder))

    return Aligned(buffer.data, buffer.offset, buffer.size)
