"""Log lines: their form, their redaction and their rate."""

import io
import json
import logging

import pytest

from edgekit.log import FloodFilter, JsonLines, RateLimiter, one_line, redact

SECOND = 10**9
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
def test_redact_removes_secrets(text: str) -> None:
    """A connection string or token that is logged by mistake shows its form only."""
    assert KEY[:-1] not in redact(text)


SECRET = "p4ss-Word~1"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n" + SECRET + "\n-----END EC PRIVATE KEY-----"


@pytest.mark.parametrize(
    "text",
    [
        f"HostName%3Dh%3BSharedAccessKey%3D{SECRET}%3BModuleId%3Dm",
        f"SharedAccessKey%253D{SECRET}",
        f"SharedAccessKey\\u003d{SECRET}",
        f"SharedAccessKey&#61;{SECRET}",
        f"SharedAccessKey =\n  {SECRET}",
        f"https%3A%2F%2Fx.blob%2Fy%3Fsig%3D{SECRET}%26se%3D1",
        f"https%3A%2F%2Fx.blob%2Fy%3Fsv%3D1%26sig%3D{SECRET}%26se%3D1",
        f'{{"password": "{SECRET}", "x": 1}}',
        f'{{"password":"one two {SECRET}"}}',
        f'{{"password": "a\\"b {SECRET}"}}',
        f"{{'password': 'one {SECRET}'}}",
        json.dumps(json.dumps({"password": f"one {SECRET}", "x": 1})),
        json.dumps({"inner": json.dumps({"SharedAccessKey": f'a"b{SECRET}'})}),
        f"https://user:{SECRET}@host/path",
        f"https://user:a@b{SECRET}@host/path",
        f"https://{SECRET}@host/path",
        f"Authorization: Bearer {SECRET}",
        f'{{"authorization": "bearer {SECRET}"}}',
        f"Authorization: Basic {SECRET}",
        PEM,
        f"key: {PEM!r} and more",
        PEM[: PEM.index("\n-----END")],
        f"AccountName=a;AccountKey={SECRET};EndpointSuffix=core.windows.net",
        f'"symmetricKey": "{SECRET}"',
        f"client_secret={SECRET}",
    ],
)
def test_redact_removes_secrets_in_any_encoding(text: str) -> None:
    """Percent-encoded, in JSON, in a URL, in a header, as PEM: the secret is gone."""
    assert SECRET in text
    assert SECRET not in redact(text)


def test_redact_removes_a_key_that_is_split_over_lines() -> None:
    """A connection string that was wrapped at any place leaves no part of its key."""
    text = f"HostName=h;SharedAccessKeyName=p;SharedAccessKey={KEY};ModuleId=m"
    begin = text.index(KEY)
    for place in range(begin, begin + len(KEY)):
        found = redact(f"{text[:place]}\n   {text[place:]}")
        assert found.startswith("HostName=h;SharedAccessKeyName=p;SharedAccessKey=")
        assert found.endswith("***;ModuleId=m")
        assert not any(KEY[part : part + 6] in found for part in range(len(KEY) - 6)), found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pw@host/a?b=c@d", "https://***@host/a?b=c@d"),
        (
            "HostName%3Dh%3BSharedAccessKey%3Dabc%3BModuleId%3Dm",
            "HostName%3Dh%3BSharedAccessKey%3D***%3BModuleId%3Dm",
        ),
        ('{"password": "abc", "x": 1}', '{"password": ***, "x": 1}'),
        ("SharedAccessKey=abc\nModuleId=m", "SharedAccessKey=***\nModuleId=m"),
        (f"a {PEM} b", "a *** b"),
    ],
)
def test_redact_leaves_the_text_around_a_secret(text: str, expected: str) -> None:
    """What is no secret stays readable."""
    assert redact(text) == expected


@pytest.mark.parametrize(
    "unit",
    [
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "SharedAccessKey=",
        "password: a\n",
        "password \\",
        'password":"\\',
        "password:\\\\'a",
        "sig%25",
        "sig=%25",
        "Bearer ",
        "Authorization: ",
        "://",
        "://a:",
        "a@",
        "aB%2B",
        "A" * 41 + "-",
        " ",
        "\n",
        "\\",
        "%25",
    ],
)
def test_redact_ends_for_any_long_text(unit: str) -> None:
    """300,000 characters: a quadratic pattern would need minutes for them."""
    text = "password=abc " + unit * (300_000 // len(unit))
    assert redact(text).startswith("password=***")


@pytest.mark.parametrize(
    "text",
    [
        "SharedAccessKeyName=policy",
        "password is not set",
        "https://host:8443/path@2?mail=a@b",
        "-----BEGIN CERTIFICATE-----",
        "mail of bearer a",
        "the signature of design=x",
        "model digits 1.2.0 " + "0123456789abcdef" * 4,
        "frame camera-0123456789abcdef-7 took 3 ms",
        "/data/models/" + "a" * 60,
    ],
)
def test_redact_keeps_other_text(text: str) -> None:
    """Digests, frame ids and paths stay readable."""
    assert redact(text) == text


def records(*events: tuple[str, int, float]) -> list[logging.LogRecord]:
    """Log records of (logger, line number, time in seconds)."""
    result = []
    for name, number, created in events:
        record = logging.LogRecord(name, logging.WARNING, "f.py", number, "event %s", ("x",), None)
        record.created = created
        result.append(record)
    return result


def test_an_event_is_one_json_line_with_its_extra_fields() -> None:
    """A text of several lines is still one line in the log."""
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


def test_redaction_keeps_the_line_valid_json() -> None:
    """A quote right after a secret belongs to the text; extra fields are redacted too."""
    record = logging.LogRecord("a", logging.INFO, "f.py", 1, 'sig=%s" and so on', (KEY,), None)
    record.tokens = {"x": [f"SharedAccessKey={KEY}", 1.5, None], "y": ValueError(f"sig={KEY}")}
    text = JsonLines("m").format(record)
    event = json.loads(text)
    assert KEY[:-1] not in text
    assert event["event"] == 'sig=***" and so on'
    assert event["tokens"] == {"x": ["SharedAccessKey=***", 1.5, None], "y": "sig=***"}


def test_a_repetitive_logger_writes_five_events_a_minute() -> None:
    """The first event of the next minute says how many were suppressed."""
    flood_filter = FloodFilter()
    flood = records(*[("azure.iot.device.common", 7, 60.0 + second / 10) for second in range(100)])
    assert sum(flood_filter.filter(record) for record in flood) == 5
    later = records(("azure.iot.device.common", 7, 130.0))[0]
    assert flood_filter.filter(later)
    assert json.loads(JsonLines("m").format(later))["repeats"] == 95


def test_each_line_of_code_has_its_own_limit() -> None:
    """A flood from one line does not hide an event from another."""
    flood_filter = FloodFilter()
    flood = records(*[("edgekit.hub.twin", 7, 60.0)] * 10)
    assert sum(flood_filter.filter(record) for record in flood) == 5
    assert flood_filter.filter(records(("edgekit.hub.twin", 8, 60.0))[0])


def test_a_modules_own_events_are_never_suppressed() -> None:
    """Only the loggers of the connection are limited."""
    flood_filter = FloodFilter()
    assert all(flood_filter.filter(record) for record in records(*[("camera_sim.camera", 7, 60.0)] * 50))


def test_the_rate_limiter_counts_suppressed_events() -> None:
    """The first event passes at once, the next one after the interval, with the count between them."""
    limiter = RateLimiter(interval_s=10)
    assert [limiter.allow("size", at * SECOND) for at in (0, 1, 9, 10, 11)] == [0, None, None, 2, None]


def test_the_rate_limiter_allows_a_number_of_events_per_interval() -> None:
    """`limit` events pass in each interval."""
    limiter = RateLimiter(2, interval_s=10)
    assert [limiter.allow("size", at * SECOND) for at in (0, 1, 2, 10, 11, 12)] == [0, 0, None, 1, 0, None]


def test_the_rate_limiter_separates_kinds() -> None:
    """A flood of one kind does not hide another kind."""
    limiter = RateLimiter()
    limiter.allow("size", 0)
    assert limiter.allow("image", 1) == 0


def test_an_error_is_one_line_with_its_causes() -> None:
    """The SDK hides the reason in the innermost cause."""
    outer, inner = ValueError("Could not\nconnect"), OSError(f"sig={KEY}")
    outer.__cause__ = inner
    assert one_line(outer) == "ValueError: Could not connect; because of OSError: sig=***"
