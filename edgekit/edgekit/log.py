"""JSON-lines logging to stdout with redaction and rate limiting.

No secret may reach a line, not even from a message or an exception that somebody else wrote.

>>> redact("HostName=h;SharedAccessKey=abc;ModuleId=m")
'HostName=h;SharedAccessKey=***;ModuleId=m'
>>> limiter = RateLimiter(interval_s=10)
>>> [limiter.allow("bad size", second * 10**9) for second in (0, 1, 2, 11)]
[0, None, None, 2]
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from threading import Lock

_LEVEL = "RuntimeLogLevel"
# edgeAgent's names for a level, and Python's.
_LEVELS = {
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "information": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "critical": logging.CRITICAL,
}
_HIDDEN = "***"
# "=" or ":" as text, in a URL (also encoded twice), in JSON and in HTML.
_SEPARATOR = r"(?:[=:]|%(?:25)*3[DA]|\\+u003[DA]|&\#(?:61|58|x3D|x3A);)"
_NAMES = (
    r"SharedAccessKey|SharedAccessSignature|AccountKey|(?:primary|secondary|symmetric|api)_?key"
    r"|(?:access|refresh|sas)_?token|client_?secret|passphrase|password|passwd|pwd"
)
# Text that every match contains, in lower case → the pattern; most texts contain none, which costs little.
# Each repetition is possessive or ends at a character that begins no other match, so that the time is linear
# in the length of the text.
_SECRETS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (
        ("private key-----",),
        re.compile(
            r"()-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)",
            re.DOTALL,
        ),
    ),
    (("sharedaccesssignature",), re.compile(r"(SharedAccessSignature\s++)[^\s\"']++", re.IGNORECASE)),
    (
        ("key", "sharedaccess", "token", "secret", "pass", "pwd"),
        re.compile(
            rf"((?:{_NAMES})(?:\\*[\"'])?\s*+{_SEPARATOR}\s*+)(?:"
            r'"(?:[^"\\]|\\.)*+"?'  # JSON
            r"|'(?:[^'\\]|\\.)*+'?"  # Python
            r"|\\++[\"'](?:[^\"'\\]|\\++[^\"'\\]|\\{2,}+[\"'])*+"  # JSON inside JSON
            r"|(?:[A-Za-z0-9+/]++[ \t]*+[\r\n]\s*+){1,8}+[A-Za-z0-9+/]*+={1,2}(?![A-Za-z0-9])"  # over lines
            r"|(?:[^;&,\s\"'}%]|%(?!(?:25)*(?:26|3B)))++)",
            re.IGNORECASE | re.DOTALL,
        ),
    ),
    (
        ("sig",),
        re.compile(
            r"((?:(?<![A-Za-z0-9])|(?<=%[0-9A-F]{2}))sig(?:=|%(?:25)*3D|\\+u003D))"
            r"(?:[^&;\s\"'%]|%(?!(?:25)*(?:26|3B)))++",
            re.IGNORECASE,
        ),
    ),
    (
        ("bearer", "authorization"),
        re.compile(
            rf"(\bBearer\s++|Authorization[\"']?\s*+{_SEPARATOR}\s*+[\"']?Basic\s++)[\w.~+/%=-]{{8,}}+",
            re.IGNORECASE,
        ),
    ),
    (("://",), re.compile(r"(://)[^\s/?#\"']+(?=@)")),  # user:password@host
    # Base64 of 32 bytes or more, the form of every IoT Hub key; a hexadecimal digest has no padding.
    (
        ("=", "%3d"),
        re.compile(r"()(?<![A-Za-z0-9+/%])(?:[A-Za-z0-9+/]|%2[BF]){42,}+(?:=|%3D){1,2}", re.IGNORECASE),
    ),
)
# These loggers repeat themselves while a hub is away, the SDK with a traceback at each new attempt (ref 2.8).
_REPETITIVE = ("azure", "paho", "edgekit")
_PER_MINUTE = 5
# The fields of every log record; all other fields were passed as `extra`.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def setup(module: str) -> None:
    """Log to stdout as `module`, at the level that RuntimeLogLevel names (default info)."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(module))
    handler.addFilter(FloodFilter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS.get(os.environ.get(_LEVEL, "").lower(), logging.INFO))
    for talkative in ("azure", "paho", "urllib3", "PIL"):
        logging.getLogger(talkative).setLevel(max(logging.WARNING, root.level))


def redact(text: str) -> str:
    """Replace everything in the text that looks like a key, a signature or a password."""
    lower = text.lower()
    for parts, secret in _SECRETS:
        if any(part in lower for part in parts):
            text = secret.sub(rf"\1{_HIDDEN}", text)
    return text


def one_line(error: BaseException) -> str:
    """An error and its causes on one line, redacted; the SDK hides the reason in the innermost cause."""
    seen: list[str] = []
    each: BaseException | None = error
    while each is not None and len(seen) < 4:
        text = " ".join(str(each).split())
        seen.append(f"{type(each).__name__}: {text}" if text else type(each).__name__)
        each = each.__cause__
    return redact("; because of ".join(seen))


def _clean(value: object) -> object:
    """Convert a value to JSON types and redact its strings."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return redact(str(value))


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, module, logger, event and its `extra` fields."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self._module = module

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        event: dict[str, object] = {
            "time": f"{second}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "module": self._module,
            "logger": record.name,
            "event": redact(record.getMessage()),
        }
        event |= {name: _clean(value) for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            event["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(event, ensure_ascii=False)


@dataclass(slots=True)
class _Interval:
    begin_ns: int
    count: int = 0


class RateLimiter:
    """Lets `limit` events of each kind pass in `interval_s` and counts the others. Thread-safe.

    It keeps every kind for ever, so a kind must not come from the text of a message.
    """

    def __init__(self, limit: int = 1, interval_s: float = 10) -> None:
        self._limit = limit
        self._interval_ns = int(interval_s * 1e9)
        self._lock = Lock()
        self._intervals: dict[Hashable, _Interval] = {}

    def allow(self, kind: Hashable, now_ns: int) -> int | None:
        """None: suppress the event. Otherwise log it; the number counts those suppressed before it."""
        with self._lock:
            last = self._intervals.get(kind)
            if last is None or now_ns - last.begin_ns >= self._interval_ns:
                self._intervals[kind] = _Interval(now_ns, count=1)
                return max(0, last.count - self._limit) if last else 0
            last.count += 1
            return 0 if last.count <= self._limit else None


class FloodFilter(logging.Filter):
    """Lets 5 events a minute pass from each line of the connection's code; `repeats` counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self._limiter = RateLimiter(_PER_MINUTE, interval_s=60)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write the event."""
        if not record.name.startswith(_REPETITIVE):
            return True
        suppressed = self._limiter.allow((record.name, record.lineno), int(record.created * 1e9))
        if suppressed:
            record.repeats = suppressed
        return suppressed is not None
