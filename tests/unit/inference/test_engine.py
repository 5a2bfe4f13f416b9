"""One loaded model on both runtimes: equal scores, from any thread, and errors in one line."""

import importlib.metadata
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import runtimes
from inference.artefact import InputSpec
from inference.engine import Engine, EngineError, Tensor, dequantise, quantise
from tests.models import NEEDS_TFLITE_RUNTIME, RUNTIMES
from tests.unit.inference.fixtures import tiny_model
from tests.unit.inference.fixtures.tiny_model import LABELS, SPEC, Kind, band


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_both_runtimes_give_the_right_label(runtime: str, kind: Kind) -> None:
    """An int8 and a float model find the brightest band on LiteRT and on tflite-runtime."""
    engine = Engine(tiny_model.artefact(kind=kind), runtime=runtime)
    engine.warm()
    assert (engine.runtime, engine.labels, engine.input) == (runtime, LABELS, SPEC)
    for place in range(len(LABELS)):
        scores = engine.infer(band(place))
        assert scores.shape == (len(LABELS),)
        assert scores.dtype == np.dtype(np.float32)
        assert scores.argmax() == place
        assert scores[place] > 0.99


@NEEDS_TFLITE_RUNTIME
@given(seed=st.integers(0, 2**32 - 1))
def test_both_runtimes_agree_on_any_picture(seed: int) -> None:
    """The scores differ by at most one quantum of the logits."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SPEC.height, SPEC.width, 1), np.uint8)
    first, second = (_engine(name).infer(pixels) for name in runtimes.RUNTIMES)
    assert abs(first - second).max() <= 4 / 256  # a quarter of 12/255, softmax's steepest, and a rounding


def test_the_metadata_of_a_runtime_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read them takes longer than to load a small model."""
    before = runtimes.versions()
    monkeypatch.setattr(importlib.metadata, "version", None)
    assert before
    assert runtimes.versions() == before


@NEEDS_TFLITE_RUNTIME
def test_auto_prefers_litert() -> None:
    """LiteRT is faster; tflite-runtime is the fallback."""
    assert list(runtimes.versions()) == ["litert", "tflite_runtime"]
    assert _engine("auto").runtime == "litert"


@NEEDS_TFLITE_RUNTIME
def test_without_litert_auto_is_tflite_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither is installed, the error names both packages."""
    monkeypatch.setattr(runtimes, "versions", lambda: {"tflite_runtime": "2.14.0"})
    assert Engine(tiny_model.artefact()).runtime == "tflite_runtime"
    with pytest.raises(EngineError, match="install ai-edge-litert"):
        Engine(tiny_model.artefact(), runtime="litert")
    monkeypatch.setattr(runtimes, "versions", dict)
    with pytest.raises(EngineError, match="install ai-edge-litert or tflite-runtime"):
        Engine(tiny_model.artefact())


def test_an_unknown_runtime_is_named() -> None:
    """The error for an unknown name lists the valid ones."""
    with pytest.raises(EngineError, match="'onnx' is unknown: use auto, litert, tflite_runtime"):
        Engine(tiny_model.artefact(), runtime="onnx")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_is_not_a_model_is_refused(runtime: str) -> None:
    """The error of the runtime becomes an EngineError in one line."""
    with pytest.raises(EngineError, match="refuses the model") as refused:
        runtimes.interpreter(runtime, b"nothing of the kind", 1)
    assert "\n" not in str(refused.value)


def test_an_input_that_differs_from_the_manifest_is_refused() -> None:
    """The manifest and the flatbuffer must have the same input."""
    other = InputSpec(height=9, width=4, channels=1)
    with pytest.raises(EngineError, match=r"input is \(1, 9, 4, 1\), .* says \(1, 6, 4, 1\)"):
        Engine(tiny_model.artefact(flatbuffer=tiny_model.tflite(other, LABELS)))


def test_another_number_of_labels_than_outputs_is_refused() -> None:
    """Each output needs one label."""
    with pytest.raises(EngineError, match=r"output is \(1, 3\), .* say \(1, 2\)"):
        Engine(tiny_model.artefact(labels=("a", "b"), flatbuffer=tiny_model.tflite(SPEC, LABELS)))


def test_scores_are_a_copy() -> None:
    """The next frame does not overwrite the scores of the last one."""
    for kind in ("int8", "float32"):
        engine = Engine(tiny_model.artefact(kind=kind))
        first = engine.infer(band(0))
        copy = first.copy()
        engine.infer(band(2))
        assert np.array_equal(first, copy)


def test_an_output_of_nan_is_an_error() -> None:
    """A float model may return NaN, which JSON cannot represent."""
    engine = Engine(tiny_model.artefact(kind="float32"))
    engine._quantised = np.full(256, np.nan, np.float32)
    with pytest.raises(EngineError, match="not finite"):
        engine.infer(band(0))


def test_an_engine_works_in_another_thread_than_the_one_that_created_it() -> None:
    """Concurrent calls do not mix up their pictures."""
    built: list[Engine] = []
    builder = threading.Thread(target=lambda: built.append(Engine(tiny_model.artefact())))
    builder.start()
    builder.join()
    places = [place % len(LABELS) for place in range(600)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda place: int(built[0].infer(band(place)).argmax()), places))
    assert answers == places


def test_a_picture_of_another_shape_is_refused() -> None:
    """`infer` accepts prepared pixels only."""
    with pytest.raises(ValueError, match=r"Dimension|Cannot set tensor"):
        _engine("auto").infer(np.zeros((5, 5, 1), np.uint8))


@given(
    scale=st.floats(1e-3, 2),
    offset=st.floats(-2, 2),
    tensor_scale=st.floats(1e-3, 1),
    zero_point=st.integers(-128, 127),
)
def test_quantise_follows_the_formula(
    scale: float, offset: float, tensor_scale: float, zero_point: int
) -> None:
    """stored = round((pixel * scale + offset) / tensor scale) + zero point, within the limits of the type."""
    spec = InputSpec(height=1, width=1, channels=1, scale=scale, offset=offset)
    table = quantise(spec, Tensor(0, (1,), np.dtype(np.int8), tensor_scale, zero_point))
    for pixel in (0, 1, 100, 255):
        stored = round((pixel * scale + offset) / tensor_scale) + zero_point
        assert table[pixel] == max(-128, min(127, stored))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_dequantise_inverts_quantise(dtype: type) -> None:
    """A value that the tensor can represent is unchanged."""
    tensor = Tensor(0, (1,), np.dtype(dtype), 1 / 256, -128 if dtype is np.int8 else 0)
    real = dequantise(tensor)
    assert real is not None
    stored = quantise(InputSpec(height=1, width=1, channels=1, scale=1 / 256), tensor)
    assert np.array_equal(real[stored.view(np.uint8)], np.arange(256, dtype=np.float32) / 256)


def test_a_float_tensor_gets_real_values() -> None:
    """Nothing is rounded if the model has a float input."""
    tensor = Tensor(0, (1,), np.dtype(np.float32), 0.0, 0)
    table = quantise(InputSpec(height=1, width=1, channels=1, scale=1 / 127.5, offset=-1), tensor)
    assert (table[0], table[255]) == (-1, 1)
    assert dequantise(tensor) is None


_ENGINES: dict[str, Engine] = {}


def _engine(runtime: str) -> Engine:
    if runtime not in _ENGINES:
        _ENGINES[runtime] = Engine(tiny_model.artefact(), runtime=runtime)
    return _ENGINES[runtime]
