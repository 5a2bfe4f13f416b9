"""A model from an https address into a file, in a process that may be ended at any moment.

`python -m inference.models.download` is the child: it reads an Order from stdin (an address may hold a secret, and a
command line is for everyone to see), writes into the Part, says how it ended in one line. Fetcher is the
parent's side. Judges no bytes but for their number: size, signature and digest are `trust`'s.

An address in a message is without its query: that is where a SAS stands.
"""

import hashlib
import json
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from inference.model_section import ModelRef
from inference.models.allowed_addresses import why_forbidden
from inference.models.child_process import (
    ChildProcess,
    Ended,
    TookTooLong,
    answer,
    confine,
    outcome,
    raise_verdict,
)
from inference.models.errors import ModelRefused, ModelUnavailable
from inference.models.partial_file import Part
from inference.models.store import ModelStore, disk_trouble

MAX_MEMORY_BYTES: Final = 512 * 1024**2  # of addresses
_CPU_S: Final = 120
_CHUNK_BYTES: Final = 64 * 1024
_MAX_REDIRECTS: Final = 5
_MAX_STALE: Final = 2  # so often a part may turn out to belong to something else, in one download
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: HTTP status → the code, and what it means. The rest: 4xx denied, everything else unavailable.
_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    401: ("source-denied", "it asks for credentials; a shared access signature may be missing"),
    403: ("source-denied", "it denies access; a shared access signature may have expired"),
    404: ("source-missing", "nothing is there"),
    410: ("source-missing", "nothing is there any more"),
}
_PASSING: Final = frozenset({408, 421, 425, 429})  # the 4xx that may be another next time


@dataclass(frozen=True)
class FetchSettings:
    """How models are fetched. `authorities`: the variables by which OpenSSL finds trusted certificates."""

    allowed: frozenset[str] = frozenset()  # of addresses.KINDS
    authorities: Mapping[str, str] = field(default_factory=dict)
    connect_s: float = 10.0
    silence_s: float = 30.0  # so long nothing may come
    total_s: float = 600.0  # then the next try goes on from where this one was


@dataclass(frozen=True)
class Order:
    """What the child is told."""

    uri: str = field(repr=False)
    size: int
    part: str
    allowed: tuple[str, ...]
    connect_s: float
    silence_s: float


class Fetcher:
    """Downloads one model at a time, in `child`, which whoever holds it may cancel."""

    def __init__(self, store: ModelStore, child: ChildProcess, settings: FetchSettings) -> None:
        self._store = store
        self._child = child
        self._settings = settings

    def fetch(self, ref: ModelRef, uri: str) -> bytes:
        """The bytes, at most ref.size of them. Raises ModelRefused or ModelUnavailable.

        A part of an earlier try is gone on from where the server says that it is the same thing.
        """
        part = self._store.part(ref.sha256)
        try:
            resumed = part.begun()[1] > 0
            self._run(uri, ref.size, part)
            data = part.read(ref.size)
            part.remove()
        except ModelRefused as error:
            part.path.unlink(missing_ok=True)
            raise ModelRefused(error.code, f"{ref}: {error}") from error
        except OSError as error:
            raise disk_trouble(error, part.path.parent) from error
        if resumed and hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ModelUnavailable("source-changed", f"{ref}: what was begun does not fit to the rest")
        return data

    def _run(self, uri: str, size: int, part: Part) -> None:
        settings = self._settings
        order = Order(
            uri, size, str(part.path), tuple(settings.allowed), settings.connect_s, settings.silence_s
        )
        try:
            ended = self._child.run(
                (sys.executable, "-I", "-m", "inference.models.download"),
                timeout_s=settings.total_s,
                said_to=json.dumps(asdict(order)).encode(),
                environment=settings.authorities,
            )
        except TookTooLong as error:
            come = f"{part.begun()[1]} of {size} bytes in {settings.total_s:g} s"
            raise ModelUnavailable("source-unavailable", f"{shown(uri)}: {come}; it goes on") from error
        raise_verdict(ended.said)
        if ended.status or ended.said is None:
            raise ModelUnavailable("source-unavailable", f"the download ended with status {ended.status}")


def main() -> int:
    """The child's whole life."""
    confine(MAX_MEMORY_BYTES, _CPU_S)
    return answer(carry_out(sys.stdin.buffer.read()))


def carry_out(told: bytes) -> Ended:
    """The child's work: what came of an Order, which is its JSON."""
    order = Order(**json.loads(told))
    return outcome(lambda: {"fetched": download(order)})


def download(order: Order) -> int:
    """Until the part holds all `size` bytes; their number. Raises ModelRefused or ModelUnavailable."""
    part, uri, redirects, stale = Part(Path(order.part)), order.uri, 0, 0
    try:
        while True:
            etag, offset = part.begun()
            if offset == order.size:
                return offset
            with _Exchange(replace(order, uri=uri), etag, offset) as exchange:
                if exchange.status in _REDIRECTS:
                    uri, redirects = _followed(uri, exchange.header("Location"), redirects), redirects + 1
                elif exchange.is_stale:
                    part.remove()
                    stale += 1
                    if stale > _MAX_STALE:
                        raise ModelUnavailable("source-changed", f"{shown(uri)}: it changes while it is read")
                else:
                    return exchange.store(part)
    except OSError as error:
        raise disk_trouble(error, part.path.parent) from error


class _Exchange:
    """One request and its answer."""

    def __init__(self, order: Order, etag: str, offset: int) -> None:
        self._order = order
        self._offset = offset if offset < order.size else 0
        self._etag = etag if self._offset else ""
        self._at = shown(order.uri)

    def __enter__(self) -> "_Exchange":
        headers = {"User-Agent": "twinship-inference", "Accept-Encoding": "identity"}
        if self._offset:
            headers |= {"Range": f"bytes={self._offset}-", "If-Range": self._etag}
        timeout = urllib3.Timeout(connect=self._order.connect_s, read=self._order.silence_s)
        parts = urlsplit(self._order.uri)
        try:
            self._pool = _Pool(
                parts.hostname or "",
                parts.port or 443,
                ssl_context=ssl.create_default_context(),
                timeout=timeout,
                retries=False,
                allowed=frozenset(self._order.allowed),
            )
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            self._response = self._pool.urlopen(
                "GET", target, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
        except (HTTPError, ValueError, UnicodeError) as error:
            raise _translated(error, self._at) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._pool.close()

    @property
    def status(self) -> int:
        return int(self._response.status)

    def header(self, name: str) -> str:
        return str(self._response.headers.get(name, ""))

    @property
    def is_stale(self) -> bool:
        """The range is not one of what the part belongs to."""
        if self.status == 416:
            return self._offset > 0
        if self.status != 206:
            return False
        begins = self.header("Content-Range").startswith(f"bytes {self._offset}-")
        return not begins or _strong(self.header("ETag")) != self._etag

    def store(self, part: Part) -> int:
        """Append what comes to the part. Raises ModelRefused, ModelUnavailable, OSError of the disk."""
        if self.status not in (200, 206):
            raise _refusal(self.status, self._at)
        here = self._offset if self.status == 206 else 0
        self._check_length(here)
        with part.writing(_strong(self.header("ETag")), here) as file:
            while here < self._order.size and (chunk := self._chunk(self._order.size - here)):
                file.write(chunk)
                here += len(chunk)
        self._check_end(here)
        return here

    def _check_length(self, here: int) -> None:
        """What says that it is of another size need not be read."""
        text = self.header("Content-Length")
        if text.isdecimal() and here + int(text[:18]) != self._order.size:
            raise self._wrong_size(str(here + int(text[:18])))

    def _check_end(self, here: int) -> None:
        size = self._order.size
        if here < size and not self._response.chunked:
            # Neither a length nor chunks: the end of such a body cannot be told from a cut.
            raise ModelUnavailable("source-unavailable", f"{self._at}: it ended after {here} of {size} bytes")
        if here < size:
            raise self._wrong_size(str(here))
        if self._chunk(1):
            raise self._wrong_size(f"more than {size}")

    def _wrong_size(self, bytes_there: str) -> ModelRefused:
        return ModelRefused("wrong-size", f"{self._at}: {bytes_there} bytes, not {self._order.size}")

    def _chunk(self, most: int) -> bytes:
        try:
            return self._response.read1(min(_CHUNK_BYTES, most), decode_content=False) or b""
        except HTTPError as error:
            raise _translated(error, self._at) from error


class _Connection(HTTPSConnection):
    """Connects to addresses that were looked at, and to no others: a name is resolved once.

    No proxy of the environment is asked: urllib3 asks none by itself, and the one that the device SDK may
    need leads to edgeHub.
    """

    allowed: frozenset[str]

    def _new_conn(self) -> socket.socket:
        name = self.host
        failure: Exception | None = None
        for address in self._addresses():
            self.host = address
            try:
                return super()._new_conn()
            except (NewConnectionError, ConnectTimeoutError) as error:
                failure = error
            finally:
                self.host = name  # TLS asks for this one
        raise failure or NewConnectionError(self, "no address")

    def _addresses(self) -> list[str]:
        """All of this name. Raises ModelRefused for one among them that is forbidden."""
        try:
            found = socket.getaddrinfo(self.host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(self.host, self, socket.gaierror(str(error))) from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for address in addresses:
            if kind := why_forbidden(address, self.allowed):
                text = f"{self.host}: {address} is a {kind} address, and MODEL_SOURCE_ALLOW does not allow it"
                raise ModelRefused("source-forbidden", text)
        return addresses


class _Pool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Connection

    def __init__(self, *arguments: Any, allowed: frozenset[str], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._allowed = allowed

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        connection.allowed = self._allowed
        return connection


def shown(uri: str) -> str:
    """An address as a message may hold it: no query, no user, no fragment, one short line."""
    try:
        parts = urlsplit(uri)
        text = f"https://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "an address that is none"
    return "".join(character for character in text if character.isprintable())[:200]


def _followed(uri: str, location: str, before: int) -> str:
    """Where a redirect leads. Raises ModelRefused for what is no https address, and for too many."""
    if before >= _MAX_REDIRECTS:
        raise ModelRefused("source-forbidden", f"{shown(uri)}: more than {_MAX_REDIRECTS} redirects")
    try:
        target = urlsplit(urljoin(uri, location))
        fine = target.scheme == "https" and target.hostname and "@" not in target.netloc
    except ValueError:
        fine = False
    if not fine or not location.isascii() or not location.isprintable():
        raise ModelRefused("source-forbidden", f"{shown(uri)}: it redirects to what is no https address")
    return target._replace(fragment="").geturl()


def _refusal(status: int, at: str) -> Exception:
    if status in _REFUSALS:
        code, words = _REFUSALS[status]
        return ModelRefused(code, f"{at}: {status}: {words}")
    if 400 <= status < 500 and status not in _PASSING:
        return ModelRefused("source-denied", f"{at}: {status}")
    return ModelUnavailable("source-unavailable", f"{at}: it answers {status}")


# Of urllib3's errors the more special first: several are kinds of others.
_TROUBLE: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (SSLError, "source-untrusted", "no TLS, or a certificate that is not trusted here (SSL_CERT_FILE)"),
    (NameResolutionError, "source-unavailable", "this name has no address"),
    (ConnectTimeoutError, "source-unavailable", "it cannot be reached in time"),
    (NewConnectionError, "source-unavailable", "it cannot be reached"),
    (ReadTimeoutError, "source-unavailable", "it has gone silent"),
    (HTTPError, "source-unavailable", "the connection broke"),
)


def _translated(error: Exception, at: str) -> Exception:
    for kind, code, words in _TROUBLE:
        if isinstance(error, kind):
            return ModelUnavailable(code, f"{at}: {words}")
    return ModelRefused("source-forbidden", f"{at}: no address that can be asked")


def _strong(etag: str) -> str:
    """An ETag that If-Range may name; "" for a weak one and for none."""
    return etag if len(etag) > 2 and etag.startswith('"') and etag.endswith('"') else ""


def authorities(variables: Mapping[str, str]) -> dict[str, str]:
    """What of the module's environment says whom to trust in TLS."""
    return {name: variables[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if variables.get(name)}


if __name__ == "__main__":
    sys.exit(main())
