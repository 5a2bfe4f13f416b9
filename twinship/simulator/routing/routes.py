"""Routes: the endpoints of a message, with priority and time to live (ref 4.6, 4.7), and the store limit.

Parses the desired properties of `$edgeHub`; one error refuses all of them.

>>> routing = Routing.parse({"schemaVersion": "1.1", "routes": {
...     "frames": 'FROM /messages/modules/camera/* INTO BrokeredEndpoint("/modules/model/inputs/frames")',
...     "up": {"route": "FROM /messages/modules/model/outputs/* INTO $upstream", "priority": 3},
... }})
>>> routing.match(RoutedMessage("/messages/modules/camera/outputs/frames", {}, {}, b""))
(Sink(module='model', input='frames', priority=2000000000, ttl_s=7200.0),)
>>> [sink.priority for sink in routing.match(RoutedMessage("/messages/modules/model/outputs/x", {}, {}, b""))]
[3]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from twinship.simulator.common.tokens import ExpressionError, Kind, tokenise
from twinship.simulator.routing.condition import ConditionParser, Predicate
from twinship.simulator.routing.lexer import RULES
from twinship.simulator.routing.message import RoutedMessage

LOWEST_PRIORITY = 2_000_000_000  # of a route without a priority (ref 4.7)
MAX_PRIORITY = 9
DEFAULT_TIME_TO_LIVE_S = 7200.0
MAX_SECONDS = 2**32 - 1
UPSTREAM = "$upstream"
TWIN_SOURCE = "/twinchangenotifications/"
MAX_CACHED_SOURCES = 1024
_SCHEMA_VERSION = re.compile(r"([0-9]+)\.([0-9]+)(\.[0-9]+){0,2}")
_LAST_MINOR = 3


class RouteError(ValueError):
    """The desired properties of `$edgeHub` are invalid: status 400, the old ones stay in force."""


class StoreFull(Exception):
    """The store is at its limit: the message is not stored and must not be acknowledged (ref 4.4)."""


@dataclass(frozen=True)
class Sink:
    """An endpoint with the priority and time to live of a route."""

    module: str | None  # None: $upstream
    input: str
    priority: int = LOWEST_PRIORITY  # 0 is the most urgent
    ttl_s: float | None = None  # None: for ever

    @property
    def endpoint(self) -> tuple[str | None, str]:
        """Module and input; a message goes to each endpoint once (ref statement 52, statement 53)."""
        return (self.module, self.input)


@dataclass(frozen=True)
class Route:
    """One compiled route. `source` is a prefix in lower case that ends with '/'."""

    name: str
    source: str
    condition: Predicate | None
    sink: Sink


class Routing:
    """All compiled routes of one configuration."""

    def __init__(self, routes: Sequence[Route] = ()) -> None:
        self.routes = tuple(routes)
        # A module chooses its output names, so the cache must be bounded.
        self._from = lru_cache(maxsize=MAX_CACHED_SOURCES)(self._routes_from)

    @classmethod
    def parse(
        cls, desired_edge_hub: Mapping[str, Any], known_modules: Collection[str] | None = None
    ) -> Routing:
        """Compile the desired properties of `$edgeHub`; raises RouteError for the first error.

        With `known_modules`, a route into another module is an error too.
        """
        minor = _schema_minor(desired_edge_hub.get("schemaVersion"))
        if "mqttBroker" in desired_edge_hub:
            raise RouteError("mqttBroker is not supported: the feature was withdrawn; remove the section")
        default_ttl_s = _default_time_to_live_s(desired_edge_hub.get("storeAndForwardConfiguration"))
        routes = desired_edge_hub.get("routes", {})
        if not isinstance(routes, Mapping):
            raise RouteError("routes is not an object of routes by name")
        compiled = []
        for name, value in routes.items():
            try:
                route = _route(name, value, minor, default_ttl_s)
                if route is not None:
                    _check_module(route.sink.module, known_modules)
                    compiled.append(route)
            except (ExpressionError, _BadRoute) as error:
                raise RouteError(f"route {name!r}: {error}") from None
        return cls(compiled)

    def match(self, message: RoutedMessage) -> tuple[Sink, ...]:
        """The sinks of a message: each endpoint once, by the matching route of lowest priority number."""
        found: dict[tuple[str | None, str], Sink] = {}
        for route in self._from(message.source):
            if route.condition is None or route.condition(message):
                sink = route.sink
                other = found.get(sink.endpoint)
                if other is None or sink.priority < other.priority:
                    found[sink.endpoint] = sink
        return tuple(found.values())

    def _routes_from(self, source: str) -> tuple[Route, ...]:
        closed = _closed(source)
        return tuple(route for route in self.routes if closed.startswith(route.source))


def parse_route(name: str, text: str, priority: int = LOWEST_PRIORITY, ttl_s: float | None = None) -> Route:
    """Compile `[SELECT *] FROM <source> [WHERE <condition>] INTO <sink>`; raises ExpressionError."""
    parser = _RouteParser(tokenise(text, RULES))
    if parser.found("select"):
        parser.expect("*", "'*' after SELECT")
    parser.expect("from", "FROM")
    source = parser.source()
    condition, wanted = None, "WHERE or INTO"
    if parser.found("where"):
        condition, wanted = parser.predicate(twin_source=source == TWIN_SOURCE), "an operator or INTO"
    parser.expect("into", wanted)
    module, input_name = parser.sink()
    parser.end("nothing after the sink")
    return Route(name, source, condition, Sink(module, input_name, priority, ttl_s))


def max_size_bytes(desired_edge_hub: Mapping[str, Any]) -> int | None:
    """The store limit in the desired properties of `$edgeHub`, None without one; raises RouteError."""
    section = desired_edge_hub.get("storeAndForwardConfiguration")
    limits = section.get("storeLimits") if isinstance(section, Mapping) else None
    if limits is None:
        return None
    limit = limits.get("maxSizeBytes") if isinstance(limits, Mapping) else None
    if type(limit) is not int or limit <= 0:
        raise RouteError(
            f"storeAndForwardConfiguration.storeLimits.maxSizeBytes is {limit!r}, not a whole number above 0"
        )
    return limit


class _BadRoute(Exception):
    """The object of a route is invalid, apart from its text."""


class _RouteParser(ConditionParser):
    def source(self) -> str:
        """The prefix of the sources that match."""
        if self.next.key != "/":
            raise self.next.instead_of("a source such as /messages/*")
        path = ""
        while self.found("/"):
            item = self.take()
            if item.kind is not Kind.NAME and item.key != "*":
                raise item.instead_of("a name or '*' in the source")
            path += "/" + item.text
        return _closed(path.rstrip("*"))

    def sink(self) -> tuple[str | None, str]:
        """Module and input; `$upstream` is (None, "")."""
        if self.next.text.lower() == UPSTREAM:
            self.take()
            return None, ""
        self.expect("brokeredendpoint", f"{UPSTREAM} or BrokeredEndpoint(...)")
        self.expect("(")
        address = self.take()
        if address.kind is not Kind.STRING:
            raise address.instead_of("an address in quotes")
        self.expect(")")
        segments = address.text[1:-1].strip().removeprefix("/").removesuffix("/").split("/")
        if len(segments) != 4 or not all(segments) or (segments[0], segments[2]) != ("modules", "inputs"):
            raise address.instead_of("an address like /modules/<module>/inputs/<input>")
        return segments[1], segments[3]


def _closed(path: str) -> str:
    return path.strip().rstrip("/").lower() + "/"


def _route(name: str, value: object, minor: int, default_ttl_s: float | None) -> Route | None:
    if isinstance(value, str):
        if minor == 0 and not value.strip():
            return None  # schema 1.0 ignores an empty route
        return parse_route(name, value, LOWEST_PRIORITY, default_ttl_s)
    if not isinstance(value, Mapping):
        raise _BadRoute("is neither text nor an object with route, priority, timeToLiveSecs")
    if minor == 0:
        raise _BadRoute("is an object; schemaVersion 1.0 takes only text, write 1.1")
    text = value.get("route")
    if not isinstance(text, str):
        raise _BadRoute("has no text under 'route'")
    priority = _whole(value, "priority", MAX_PRIORITY, LOWEST_PRIORITY)
    own_ttl_s = _whole(value, "timeToLiveSecs", MAX_SECONDS, 0)
    return parse_route(name, text, priority, float(own_ttl_s) if own_ttl_s else default_ttl_s)


def _whole(value: Mapping[str, Any], key: str, largest: int, default: int) -> int:
    if key not in value:
        return default
    number = value[key]
    if type(number) is not int or not 0 <= number <= largest:
        raise _BadRoute(f"{key} is {number!r}, not a whole number from 0 to {largest}")
    return number


def _schema_minor(version: object) -> int:
    match = _SCHEMA_VERSION.fullmatch(str(version))
    if match is None:
        raise RouteError(f"schemaVersion is {version!r}, not one of 1.0 to 1.{_LAST_MINOR}")
    if match[1] != "1" or int(match[2]) > _LAST_MINOR:
        raise RouteError(f"schemaVersion {version} is not supported: 1.0 to 1.{_LAST_MINOR} are")
    return int(match[2])


def _default_time_to_live_s(section: object) -> float | None:
    """storeAndForwardConfiguration.timeToLiveSecs; a negative number means no limit (ref 4.7)."""
    if section is None:
        return DEFAULT_TIME_TO_LIVE_S
    seconds = section.get("timeToLiveSecs", 7200) if isinstance(section, Mapping) else None
    if type(seconds) is not int:
        raise RouteError(f"storeAndForwardConfiguration.timeToLiveSecs is {seconds!r}, not a whole number")
    return None if seconds < 0 else float(seconds)


def _check_module(module: str | None, known_modules: Collection[str] | None) -> None:
    if module is not None and known_modules is not None and module not in known_modules:
        raise _BadRoute(f"names module {module!r}, which does not exist")
