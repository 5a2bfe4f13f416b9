"""Logs as one JSON line an event on stdout: secrets taken out, floods thinned; decides no event's level."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from threading import Lock

_LEVEL = "RuntimeLogLevel"
# What edgeAgent may put into RuntimeLogLevel, in its words and in Python's.
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
_SECRETS = (
    re.compile(r"(SharedAccessSignature\s+)[^\s\"']+", re.IGNORECASE),
    re.compile(
        r"((?:SharedAccessKey|SharedAccessSignature|AccountKey|password)\s*=\s*)[^;\s\"']+", re.IGNORECASE
    ),
    re.compile(r"(\bsig(?:=|%3D))[^&;\s\"']+", re.IGNORECASE),
    re.compile(r"(\"?(?:primary|secondary)_?key\"?\s*[:=]\s*\"?)[^\",}\s]+", re.IGNORECASE),
    # 32 bytes and more in base64, as every key of the hub looks; a hexadecimal digest has no padding.
    re.compile(r"()(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{42,}={1,2}"),
)
# These repeat themselves for as long as a hub is away, the SDK with a traceback each second (ref 2.8).
_THINNED = ("azure", "paho", "edgekit")
_PER_MINUTE = 5
# What the standard library puts into a record; everything else was passed as `extra`.
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "repeats"}


def setup(module: str) -> None:
    """Send every event of this process to stdout, at the level that RuntimeLogLevel names (info without)."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(module))
    handler.addFilter(Thinning())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS.get(os.environ.get(_LEVEL, "").lower(), logging.INFO))
    for talkative in ("azure", "paho", "urllib3", "PIL"):
        logging.getLogger(talkative).setLevel(max(logging.WARNING, root.level))


def redact(text: str) -> str:
    """The text without anything that looks like a key, a signature or a password."""
    for secret in _SECRETS:
        text = secret.sub(rf"\1{_HIDDEN}", text)
    return text


def one_line(error: BaseException) -> str:
    """An error and its causes in one line, as the SDK hides the reason in the innermost."""
    seen: list[str] = []
    each: BaseException | None = error
    while each is not None and len(seen) < 4:
        text = " ".join(str(each).split())
        seen.append(f"{type(each).__name__}: {text}" if text else type(each).__name__)
        each = each.__cause__
    return redact("; because of ".join(seen))


def _clean(value: object) -> object:
    """The value as JSON can say it, every text in it redacted."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(inner) for inner in value]
    return redact(str(value))


class JsonLines(logging.Formatter):
    """`{"time", "level", "module", "logger", "event"}` and whatever was passed as `extra`, one line each."""

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
        if (repeats := getattr(record, "repeats", 0)) > 0:
            event["repeats"] = repeats
        if record.exc_info:
            event["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(event, ensure_ascii=False)


class Thinning(logging.Filter):
    """At most 5 events a minute from one place of the connection's code; the next counts those left out."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = Lock()
        self._minutes: dict[tuple[str, int], tuple[int, int]] = {}  # place → (minute, events in it)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the event is to be written."""
        if not record.name.startswith(_THINNED):
            return True
        place, minute = (record.name, record.lineno), int(record.created // 60)
        with self._lock:
            last_minute, count = self._minutes.get(place, (minute, 0))
            if last_minute != minute:
                record.repeats = max(0, count - _PER_MINUTE)
                count = 0
            self._minutes[place] = (minute, count + 1)
        return count < _PER_MINUTE


class RateLimiter:
    """At most one line for each kind in `interval_s`. Kinds are words of ours, never what a sender chose."""

    def __init__(self, interval_s: float = 10) -> None:
        self._interval_ns = int(interval_s * 1e9)
        self._said: dict[str, int] = {}
        self._unsaid: dict[str, int] = {}

    def allow(self, kind: str, now: int) -> int | None:
        """How many times it went unsaid since the last line, if a line is due at `now` (ns); else None."""
        if kind in self._said and now - self._said[kind] < self._interval_ns:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return None
        self._said[kind] = now
        return self._unsaid.pop(kind, 0)
