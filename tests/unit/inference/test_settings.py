"""The environment and the twin sections: valid values, refusals and their messages."""

from pathlib import Path
from typing import Any

import pytest

from edgekit.settings import validate
from inference.frames.settings import InferenceSection, Settings, TelemetrySection
from inference.settings import Environment, SettingsError


def test_the_defaults_of_the_environment() -> None:
    """Only DATA_FOLDER is mandatory; signatures are required by default."""
    environment = Environment.read({"DATA_FOLDER": "/data", "METRICS_LISTEN": ""})
    assert environment == Environment(Path("/data"), None, "auto", "", None, True)


def test_every_variable_of_the_environment() -> None:
    """Each variable sets one field."""
    environment = Environment.read(
        {
            "DATA_FOLDER": "/data",
            "METRICS_LISTEN": "0.0.0.0:9600",
            "INFERENCE_RUNTIME": "tflite_runtime",
            "MODEL_TRUSTED_KEYS": "id:key",
            "MODEL_SIGNATURE": "optional",
            "MODEL_SOURCE_ALLOW": "loopback, link-local",
            "DELEGATE": "libedgetpu.so.1",
            "HEALTH_FILE": "/dev/shm/inference.alive",
        }
    )
    allowed = frozenset({"loopback", "link-local"})
    assert environment == Environment(
        Path("/data"),
        "0.0.0.0:9600",
        "tflite_runtime",
        "libedgetpu.so.1",
        "id:key",
        False,
        allowed,
        Path("/dev/shm/inference.alive"),
    )
    assert "id:key" not in repr(environment)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"DATA_FOLDER": ""}, "DATA_FOLDER is not set: name a writable folder"),
        ({"INFERENCE_RUNTIME": "onnx"}, "INFERENCE_RUNTIME=onnx: use auto, litert, tflite_runtime"),
        ({"MODEL_SOURCE_ALLOW": "all"}, "MODEL_SOURCE_ALLOW=all: use any of loopback, link-local"),
        ({"MODEL_SIGNATURE": "no"}, "MODEL_SIGNATURE=no: use required or optional"),
    ],
)
def test_an_invalid_variable_is_named_with_the_allowed_values(wrong: dict[str, str], message: str) -> None:
    """A misspelt MODEL_SIGNATURE must not switch signatures off."""
    with pytest.raises(SettingsError, match=message):
        Environment.read({"DATA_FOLDER": "/data"} | wrong)


def test_the_defaults_are_those_of_the_deployment_manifest() -> None:
    """A twin without sections gives the values of deployment.template.json."""
    assert Settings().inference.model_dump() == {
        "confidenceThreshold": 0.6,
        "topK": 3,
        "overload": "newest",
        "latencyBudgetMs": 20,
        "decodeBudgetMegapixels": 16.8,
        "drift": {"framesBetweenFalseAlarms": 100_000},
    }
    assert Settings().telemetry.model_dump() == {
        "intervalSeconds": 10,
        "predictions": "changes",
        "heartbeatSeconds": 0,
        "maxPerDay": 0,
        "blockBytes": 4_096,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("confidenceThreshold", 1.5),
        ("confidenceThreshold", "0.6"),
        ("topK", 0),
        ("topK", True),
        ("topK", 2.5),
        ("overload", "oldest"),
        ("latencyBudgetMs", 0),
        ("treshold", 0.5),
    ],
)
def test_an_invalid_field_of_inference_is_named(field: str, value: Any) -> None:
    """An unknown or mistyped field is refused by name, and the last settings stay."""
    last = InferenceSection(topK=5)
    settings, answer = validate({field: value}, InferenceSection, last)
    assert settings is last
    assert answer.ac == 400
    assert field in answer.ad


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("intervalSeconds", 0.5),
        ("intervalSeconds", 1e9),
        ("predictions", "some"),
        ("maxPerDay", 199),
        ("maxPerDay", -1),
        ("blockBytes", 511),
        ("heartbeatSeconds", -1),
    ],
)
def test_an_invalid_field_of_telemetry_is_named(field: str, value: Any) -> None:
    """The interval is 1 s to 1 hour; a budget that lets nothing through is none."""
    _, answer = validate({field: value}, TelemetrySection, TelemetrySection())
    assert (answer.ac, field in answer.ad) == (400, True)


def test_an_integer_is_accepted_as_a_float() -> None:
    """A twin stores 10.0 as 10."""
    settings, answer = validate({"intervalSeconds": 5}, TelemetrySection, TelemetrySection())
    assert (settings.intervalSeconds, answer.ac) == (5, 200)
