"""edgeAgent's GetModuleLogs (ref 8): selects modules, filters their log lines and encodes the result.

Without Docker, log lines have no time of their own. A line's time and level come from its JSON object or from
the text after a syslog priority such as `<6>`; a line without them gets those of the line before it.

The caller's patterns can take any time, so the agent runs this in a process that it can kill (log_search.py).
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

MAX_PAYLOAD_BYTES: Final = 127_000  # edgeAgent's limit: 128 KiB for a direct method, with a margin
ALL_MODULES: Final = "all"
MAX_PATTERN_CHARACTERS: Final = 256
MAX_SEARCHED_CHARACTERS: Final = 4096  # of a line: its pattern reads no more
MAX_ITEMS: Final = 100
MAX_TIME_CHARACTERS: Final = 64
_ENCODINGS, _CONTENT_TYPES = ("none", "gzip"), ("text", "json")
_INFORMATION: Final = 6
# edgeAgent filters by syslog severity.
_SEVERITIES: Final = {
    "critical": 2,
    "fatal": 2,
    "error": 3,
    "warning": 4,
    "info": 6,
    "information": 6,
    "debug": 7,
}
_PRIORITY = re.compile(r"<([0-7])>\s*(\S+ \S+)?")
_DURATION = re.compile(r"(\d+)\s*(d|h|m|s)[a-z]*", re.IGNORECASE)
_SECONDS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class PayloadInvalid(ValueError):
    """The payload is invalid for this method: status 400."""


@dataclass(frozen=True)
class LogFilter:
    """Conditions for log lines. Times are seconds since the epoch; `severity` must match exactly."""

    tail: int | None = None
    since: float | None = None
    until: float | None = None
    severity: int | None = None
    pattern: re.Pattern[str] | None = None

    @classmethod
    def parse(cls, section: object, now: float) -> LogFilter:
        """Parse the `filter` of an item; raises PayloadInvalid."""
        if not isinstance(section, Mapping):
            raise PayloadInvalid("filter must be an object")
        return cls(
            tail=_whole(section, "tail"),
            since=_moment(section, "since", now),
            until=_moment(section, "until", now),
            severity=_whole(section, "loglevel"),
            pattern=_pattern(section.get("regex"), "regex"),
        )

    def select(self, lines: Iterable[LogLine]) -> list[LogLine]:
        """The lines that match; with `tail`, the last of these."""
        matching = [line for line in lines if self._matches(line)]
        return matching if self.tail is None else matching[max(0, len(matching) - self.tail) :]

    def _matches(self, line: LogLine) -> bool:
        return bool(
            (self.since is None or (line.time is not None and line.time >= self.since))
            and (self.until is None or (line.time is not None and line.time <= self.until))
            and (self.severity is None or line.severity == self.severity)
            and (
                self.pattern is None or self.pattern.search(line.text, 0, MAX_SEARCHED_CHARACTERS) is not None
            )
        )


@dataclass(frozen=True)
class LogLine:
    """One line without its line break. `time`: seconds since the epoch, None before the first known time."""

    text: str
    severity: int
    time: float | None


@dataclass(frozen=True)
class LogsRequest:
    """Patterns for module names, each with a filter (the first match counts), and the output format."""

    items: Sequence[tuple[str, LogFilter]]
    encoding: str
    content_type: str

    @classmethod
    def parse(cls, payload: object, now: float) -> LogsRequest:
        """Parse the payload; raises PayloadInvalid."""
        if not isinstance(payload, Mapping) or not payload.get("schemaVersion"):
            raise PayloadInvalid("the payload must be an object with schemaVersion")
        items = payload.get("items")
        items = [items] if isinstance(items, Mapping) else items
        if not isinstance(items, list):
            raise PayloadInvalid("items must be an object or an array of objects")
        if len(items) > MAX_ITEMS:
            raise PayloadInvalid(f"items has {len(items)} entries, at most {MAX_ITEMS}")
        return cls(
            items=[_item(item, now) for item in items],
            encoding=_one_of(payload, "encoding", _ENCODINGS),
            content_type=_one_of(payload, "contentType", _CONTENT_TYPES),
        )

    def modules(self, known: Iterable[str]) -> dict[str, LogFilter]:
        """The filter for each requested module."""
        found: dict[str, LogFilter] = {}
        names = list(known)
        for pattern, log_filter in self.items:
            every = pattern.casefold() == ALL_MODULES
            for name in names:
                if every or re.search(pattern, name, re.IGNORECASE):
                    found.setdefault(name, log_filter)
        return found


def module_logs(request: LogsRequest, logs: Mapping[str, Path], *, hub: str, device: str) -> list[Any]:
    """One entry for each requested module: id and payload, or payloadBytes with gzip."""
    return [
        _entry(request, name, log_filter.select(read(logs[name])), {"iothub": hub, "device": device})
        for name, log_filter in request.modules(logs).items()
    ]


def read(path: Path) -> Iterator[LogLine]:
    """Every line of a log and of its rotated files, oldest first."""
    older = sorted(path.parent.glob(f"{path.name}.[0-9]*"), reverse=True)
    severity, moment = _INFORMATION, None
    for file in (*older, path):
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        for line in text.splitlines():
            severity, moment = _level_and_time(line) or (severity, moment)
            yield LogLine(line, severity, moment)


def _entry(
    request: LogsRequest, name: str, lines: Sequence[LogLine], place: Mapping[str, str]
) -> dict[str, str]:
    if request.content_type == "text":
        content = "".join(f"{line.text}\n" for line in lines)
    else:
        content = json.dumps([_as_json(line, {**place, "id": name}) for line in lines], ensure_ascii=False)
    data = content.encode()
    if request.encoding == "gzip":
        data = gzip.compress(data)
    if len(data) > MAX_PAYLOAD_BYTES:
        return {"id": name, "payload": _too_large(len(data))}
    if request.encoding == "gzip":
        return {"id": name, "payloadBytes": base64.b64encode(data).decode("ascii")}
    return {"id": name, "payload": content}


def _as_json(line: LogLine, place: Mapping[str, str]) -> dict[str, Any]:
    moment = None if line.time is None else datetime.fromtimestamp(line.time, UTC).isoformat()
    return {**place, "stream": "stdout", "loglevel": line.severity, "text": line.text, "timestamp": moment}


def _too_large(size: int) -> str:
    return (
        "The payload is too large for a direct method: "
        f"GetModuleLogs returns at most {MAX_PAYLOAD_BYTES} bytes, these logs have {size}. "
        "Request less with tail, since, until, loglevel or regex."
    )


def _level_and_time(line: str) -> tuple[int, float | None] | None:
    """The severity and time in the text of a line; None if it has none."""
    if match := _PRIORITY.match(line):
        return int(match[1]), _iso(match[2] or "")
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    severity = _SEVERITIES.get(str(event.get("level", "")).lower(), _INFORMATION)
    return severity, _iso(str(event.get("time", "")))


def _item(item: object, now: float) -> tuple[str, LogFilter]:
    if not isinstance(item, Mapping) or not isinstance(item.get("id"), str) or not item["id"]:
        raise PayloadInvalid("each of items must be an object with an id")
    _pattern(item["id"], "id")
    return item["id"], LogFilter.parse(item.get("filter") or {}, now)


def _one_of(payload: Mapping[str, Any], name: str, allowed: Sequence[str]) -> str:
    value = str(payload.get(name) or allowed[0]).lower()
    if value not in allowed:
        raise PayloadInvalid(f"{name} must be one of {', '.join(allowed)}")
    return value


def _whole(section: Mapping[str, Any], name: str) -> int | None:
    value = section.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise PayloadInvalid(f"{name} must be a whole number")
    return value


def _pattern(value: object, name: str) -> re.Pattern[str] | None:
    if value is None:
        return None
    text = str(value)
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise PayloadInvalid(f"{name} has {len(text)} characters, at most {MAX_PATTERN_CHARACTERS}")
    try:
        return re.compile(text, re.IGNORECASE if name == "id" else 0)
    except (re.error, OverflowError, RecursionError) as error:  # a{99999999999} overflows
        raise PayloadInvalid(f"{name} is not a regular expression: {error}") from None


def _moment(section: Mapping[str, Any], name: str, now: float) -> float | None:
    """A time as edgeAgent reads it: epoch seconds, ISO 8601, or a duration before now ("1h 30m")."""
    value = section.get(name)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    if len(text) > MAX_TIME_CHARACTERS:  # the expression for a duration takes quadratic time
        raise PayloadInvalid(f"{name} has {len(text)} characters, at most {MAX_TIME_CHARACTERS}")
    if text.isdecimal():
        return float(text)
    if text and not _DURATION.sub("", text).strip():
        return now - sum(float(number) * _SECONDS[unit.lower()] for number, unit in _DURATION.findall(text))
    moment = _iso(text)
    if moment is None:
        raise PayloadInvalid(f'{name} must be ISO 8601, seconds since the epoch, or a duration as "2h"')
    return moment


def _iso(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
