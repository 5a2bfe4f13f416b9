"""Decides who may see the page. Pure: header values and the time in, a verdict out.

The Host header must be on a list: a stranger's name that resolves to this address (DNS rebinding) would make
a browser read the page for the stranger's site. With a token, the first visit brings it in the query or as a
bearer, and gets a cookie that is derived from it. Wrong tokens are limited, because people choose short ones.
The cookie has 256 bits, so its holders are served even while strangers guess.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

MAX_FAILURES: Final = 5
WITHIN_S: Final = 60.0
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class Verdict(Enum):
    """The answer to one request."""

    ALLOWED = 200
    WELCOME = 303  # the token is right: set the cookie, and take the token out of the address
    NO_TOKEN = 401
    FOREIGN_HOST = 421
    TOO_MANY = 429


@dataclass(frozen=True)
class Request:
    """What of a request matters; texts are "" if absent."""

    host: str
    cookie: str = ""
    query: str = ""  # ?token=
    bearer: str = ""


class Access:
    """The rules of one server."""

    def __init__(self, token: str | None, hosts: frozenset[str]) -> None:
        """`token`: None if none is needed; `hosts`: names besides loopback's, in lower case."""
        self._token = token
        self._hosts = LOOPBACK | hosts
        self._failures: deque[float] = deque(maxlen=MAX_FAILURES)
        #: the value of the cookie; "" without a token
        self.cookie = _cookie(token) if token else ""

    def decide(self, request: Request, now_s: float) -> Verdict:
        """Decide about a request. `now_s`: CLOCK_MONOTONIC."""
        if _name(request.host) not in self._hosts:
            return Verdict.FOREIGN_HOST
        if self._token is None or (request.cookie and _equal(request.cookie, self.cookie)):
            return Verdict.ALLOWED
        given = request.query or request.bearer
        if not given:
            return Verdict.NO_TOKEN
        if self._exhausted(now_s):
            return Verdict.TOO_MANY
        if _equal(given, self._token):
            return Verdict.WELCOME if request.query else Verdict.ALLOWED
        self._failures.append(now_s)
        return Verdict.NO_TOKEN

    def _exhausted(self, now_s: float) -> bool:
        return len(self._failures) == MAX_FAILURES and now_s - self._failures[0] < WITHIN_S


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _cookie(token: str) -> str:
    return hmac.new(token.encode(), b"twinship dashboard cookie", hashlib.sha256).hexdigest()


def _name(host: str) -> str:
    """The name in a Host header; "" if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises if it is no number
    except ValueError:
        return ""
    plain = parts.netloc == host and "@" not in host
    return (parts.hostname or "") if plain else ""
