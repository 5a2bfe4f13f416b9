"""What a log line holds, and what it must not."""

import io
import json
import logging

import pytest

from edgekit.log import JsonLines, Thinning, one_line, redact

KEY = "q6ZJkXkO0V6Xy1n2c3b4m5a6s7d8f9g0hjklqwertyu="


@pytest.mark.parametrize(
    "text",
    [
        f"HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY};ModuleId=m",
        f"password: SharedAccessSignature sr=h%2Fdevices&sig={KEY[:-1]}%3D&se=1700000000",
        f"https://x.blob/y?sv=1&sig={KEY[:-1]}%3D&se=1",
        f"key is {KEY} here",
        f'{{"primaryKey": "{KEY[:20]}", "x": 1}}'.replace(KEY[:20], KEY),
        f"Password={KEY[:-1]}",
    ],
)
def test_secrets_do_not_reach_a_line(text: str) -> None:
    """Whoever logs a connection string or a token by mistake logs its shape only."""
    assert KEY[:-1] not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "model digits 1.2.0 " + "0123456789abcdef" * 4,
        "frame camera-0123456789abcdef-7 took 3 ms",
        "/data/models/" + "a" * 60,
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """A digest, a frame and a path are what a log is read for."""
    assert redact(text) == text


def records(*events: tuple[str, int, float]) -> list[logging.LogRecord]:
    """Records of (logger, line number, time)."""
    made = []
    for name, number, created in events:
        record = logging.LogRecord(name, logging.WARNING, "f.py", number, "event %s", ("x",), None)
        record.created = created
        made.append(record)
    return made


def test_a_line_is_json_with_its_extras() -> None:
    """One event, one line, however many lines its text has."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines("camera_sim"))
    logger = logging.Logger("edgekit.lifecycle")
    logger.addHandler(handler)
    logger.info("stopped: %s", "SIGTERM\nor so", extra={"left": {"unsent": 2}})
    event = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "info",
        "module": "camera_sim",
        "logger": "edgekit.lifecycle",
        "event": "stopped: SIGTERM\nor so",
        "left": {"unsent": 2},
    }


def test_a_line_stays_json_when_a_secret_is_taken_out() -> None:
    """A quote right after a secret is part of the text, not of the line; extras are redacted too."""
    record = logging.LogRecord("a", logging.INFO, "f.py", 1, 'sig=%s" and so on', (KEY,), None)
    record.tokens = {"x": [f"SharedAccessKey={KEY}", 1.5, None], "y": ValueError(f"sig={KEY}")}
    text = JsonLines("m").format(record)
    event = json.loads(text)
    assert KEY[:-1] not in text
    assert event["event"] == 'sig=***" and so on'
    assert event["tokens"] == {"x": ["SharedAccessKey=***", 1.5, None], "y": "sig=***"}


def test_the_sdk_cannot_flood_the_log() -> None:
    """Five a minute from one place, and the next minute says how many there were."""
    thinning = Thinning()
    flood = records(*[("azure.iot.device.common", 7, 60.0 + second / 10) for second in range(100)])
    assert sum(thinning.filter(record) for record in flood) == 5
    later = records(("azure.iot.device.common", 7, 130.0))[0]
    assert thinning.filter(later)
    assert json.loads(JsonLines("m").format(later))["repeats"] == 95


def test_a_modules_own_events_are_never_thinned() -> None:
    """Only a connection's troubles repeat themselves each second."""
    thinning = Thinning()
    assert all(thinning.filter(record) for record in records(*[("camera_sim.camera", 7, 60.0)] * 50))


def test_an_error_is_one_line_with_its_causes() -> None:
    """The SDK hides the reason in the innermost of its errors."""
    outer, inner = ValueError("Could not\nconnect"), OSError(f"sig={KEY}")
    outer.__cause__ = inner
    assert one_line(outer) == "ValueError: Could not connect; because of OSError: sig=***"
