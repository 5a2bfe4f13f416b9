"""Downloads a model from an https address into a partial file, in a child process that can be killed.

`python -m inference.models.download` is the child. It reads a DownloadRequest from stdin, because an address
may hold a secret and every user can read command lines. Fetcher runs it. A download checks only the number of
bytes; `verification` checks the rest. A message shows an address without its query, which may hold a SAS.
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
    confine,
    module_command,
    outcome,
    print_result,
    raise_verdict,
)
from inference.models.errors import ModelRefused, ModelUnavailable
from inference.models.partial_file import PartialFile
from inference.models.store import ModelStore, disk_error

MAX_MEMORY_BYTES: Final = 512 * 1024**2  # of addresses
_CPU_S: Final = 120
_CHUNK_BYTES: Final = 64 * 1024
_MAX_REDIRECTS: Final = 5
_MAX_STALE: Final = 2  # in one download, a partial file may turn out to be stale this often
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
#: HTTP status → code and text. Other 4xx are denied, everything else is unavailable.
_REFUSALS: Final[Mapping[int, tuple[str, str]]] = {
    401: ("source-denied", "it asks for credentials; a shared access signature may be missing"),
    403: ("source-denied", "it denies access; a shared access signature may have expired"),
    404: ("source-missing", "nothing is there"),
    410: ("source-missing", "nothing is there any more"),
}
_PASSING: Final = frozenset({408, 421, 425, 429})  # the 4xx after which a retry may succeed


@dataclass(frozen=True)
class FetchSettings:
    """Limits of a download. `authorities`: the variables by which OpenSSL finds trusted certificates."""

    allowed: frozenset[str] = frozenset()  # of allowed_addresses.KINDS
    authorities: Mapping[str, str] = field(default_factory=dict)
    connect_s: float = 10.0
    silence_s: float = 30.0  # the longest time without a byte
    total_s: float = 600.0  # then the next try resumes this one


@dataclass(frozen=True)
class DownloadRequest:
    """What the child reads from stdin."""

    uri: str = field(repr=False)
    size: int
    path: str
    allowed: tuple[str, ...]
    connect_s: float
    silence_s: float


class Fetcher:
    """Downloads one model at a time in `child`, which the reconciler may cancel."""

    def __init__(self, store: ModelStore, child: ChildProcess, settings: FetchSettings) -> None:
        self._store = store
        self._child = child
        self._settings = settings

    def fetch(self, ref: ModelRef, uri: str) -> bytes:
        """The bytes, at most ref.size of them. Raises ModelRefused or ModelUnavailable.

        Resumes a partial download if the strong ETag matches.
        """
        partial = self._store.partial_file(ref.sha256)
        try:
            resumed = partial.progress()[1] > 0
            self._run(uri, ref.size, partial)
            data = partial.read(ref.size)
            partial.remove()
        except ModelRefused as error:
            partial.path.unlink(missing_ok=True)
            raise ModelRefused(error.code, f"{ref}: {error}") from error
        except OSError as error:
            raise disk_error(error, partial.path.parent) from error
        if resumed and hashlib.sha256(data).hexdigest() != ref.sha256:
            raise ModelUnavailable(
                "source-changed", f"{ref}: the rest does not fit the bytes of an earlier try"
            )
        return data

    def _run(self, uri: str, size: int, partial: PartialFile) -> None:
        settings = self._settings
        request = DownloadRequest(
            uri, size, str(partial.path), tuple(settings.allowed), settings.connect_s, settings.silence_s
        )
        try:
            ended = self._child.run(
                module_command("inference.models.download"),
                timeout_s=settings.total_s,
                stdin=json.dumps(asdict(request)).encode(),
                environment=settings.authorities,
            )
        except TookTooLong as error:
            received = f"{partial.progress()[1]} of {size} bytes in {settings.total_s:g} s"
            raise ModelUnavailable(
                "source-unavailable", f"{shown(uri)}: {received}; the next try resumes"
            ) from error
        raise_verdict(ended.result)
        if ended.status or ended.result is None:
            raise ModelUnavailable("source-unavailable", f"the download ended with status {ended.status}")


def main() -> int:
    """The child process."""
    confine(MAX_MEMORY_BYTES, _CPU_S)
    return print_result(carry_out(sys.stdin.buffer.read()))


def carry_out(stdin: bytes) -> Ended:
    """The child's work; `stdin` is a DownloadRequest as JSON."""
    request = DownloadRequest(**json.loads(stdin))
    return outcome(lambda: {"fetched": download(request)})


def download(request: DownloadRequest) -> int:
    """Download until the partial file holds all `size` bytes. Raises ModelRefused or ModelUnavailable."""
    partial, uri, redirects, stale = PartialFile(Path(request.path)), request.uri, 0, 0
    try:
        while True:
            etag, offset = partial.progress()
            if offset == request.size:
                return offset
            with _Exchange(replace(request, uri=uri), etag, offset) as exchange:
                if exchange.status in _REDIRECTS:
                    uri, redirects = _followed(uri, exchange.header("Location"), redirects), redirects + 1
                elif exchange.is_stale:
                    partial.remove()
                    stale += 1
                    if stale > _MAX_STALE:
                        raise ModelUnavailable("source-changed", f"{shown(uri)}: it changes while it is read")
                else:
                    return exchange.store(partial)
    except OSError as error:
        raise disk_error(error, partial.path.parent) from error


class _Exchange:
    """One HTTP request and its response."""

    def __init__(self, request: DownloadRequest, etag: str, offset: int) -> None:
        self._request = request
        self._offset = offset if offset < request.size else 0
        self._etag = etag if self._offset else ""
        self._at = shown(request.uri)

    def __enter__(self) -> "_Exchange":
        headers = {"User-Agent": "twinship-inference", "Accept-Encoding": "identity"}
        if self._offset:
            headers |= {"Range": f"bytes={self._offset}-", "If-Range": self._etag}
        timeout = urllib3.Timeout(connect=self._request.connect_s, read=self._request.silence_s)
        parts = urlsplit(self._request.uri)
        try:
            self._pool = _Pool(
                parts.hostname or "",
                parts.port or 443,
                ssl_context=ssl.create_default_context(),
                timeout=timeout,
                retries=False,
                allowed=frozenset(self._request.allowed),
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
        """The server has another file now than the one of the partial file."""
        if self.status == 416:
            return self._offset > 0
        if self.status != 206:
            return False
        begins = self.header("Content-Range").startswith(f"bytes {self._offset}-")
        return not begins or _strong(self.header("ETag")) != self._etag

    def store(self, partial: PartialFile) -> int:
        """Append the body to the partial file. Raises ModelRefused, ModelUnavailable, OSError of the disk."""
        if self.status not in (200, 206):
            raise _refusal(self.status, self._at)
        here = self._offset if self.status == 206 else 0
        self._check_length(here)
        with partial.writing(_strong(self.header("ETag")), here) as file:
            while here < self._request.size and (chunk := self._chunk(self._request.size - here)):
                file.write(chunk)
                here += len(chunk)
        self._check_end(here)
        return here

    def _check_length(self, here: int) -> None:
        """Refuse a wrong Content-Length before the body is read."""
        text = self.header("Content-Length")
        if text.isdecimal() and here + int(text[:18]) != self._request.size:
            raise self._wrong_size(str(here + int(text[:18])))

    def _check_end(self, here: int) -> None:
        size = self._request.size
        if here < size and not self._response.chunked:
            # Without a length and without chunks, the end of the body looks like a lost connection.
            raise ModelUnavailable("source-unavailable", f"{self._at}: it ended after {here} of {size} bytes")
        if here < size:
            raise self._wrong_size(str(here))
        if self._chunk(1):
            raise self._wrong_size(f"more than {size}")

    def _wrong_size(self, found: str) -> ModelRefused:
        return ModelRefused("wrong-size", f"{self._at}: {found} bytes, not {self._request.size}")

    def _chunk(self, max_bytes: int) -> bytes:
        try:
            return self._response.read1(min(_CHUNK_BYTES, max_bytes), decode_content=False) or b""
        except HTTPError as error:
            raise _translated(error, self._at) from error


class _Connection(HTTPSConnection):
    """Resolves the host name once, checks the addresses, and connects to those addresses only.

    It uses no proxy: urllib3 reads none from the environment; the proxy of the device SDK leads to edgeHub.
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
                self.host = name  # TLS verifies this one
        raise failure or NewConnectionError(self, "no address")

    def _addresses(self) -> list[str]:
        """All addresses of the host. Raises ModelRefused if one of them is forbidden."""
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
    """An address for a message: one short line without query, user and fragment.

    >>> shown("https://models.example/digits.tflite?sig=secret")
    'https://models.example/digits.tflite'
    """
    try:
        parts = urlsplit(uri)
        text = f"https://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        return "an invalid address"
    return "".join(character for character in text if character.isprintable())[:200]


def _followed(uri: str, location: str, redirects: int) -> str:
    """The target of a redirect. Raises ModelRefused if it is no https address, and after too many."""
    if redirects >= _MAX_REDIRECTS:
        raise ModelRefused("source-forbidden", f"{shown(uri)}: more than {_MAX_REDIRECTS} redirects")
    try:
        target = urlsplit(urljoin(uri, location))
        allowed = target.scheme == "https" and target.hostname and "@" not in target.netloc
    except ValueError:
        allowed = False
    if not allowed or not location.isascii() or not location.isprintable():
        raise ModelRefused(
            "source-forbidden", f"{shown(uri)}: it redirects to something that is no https address"
        )
    return target._replace(fragment="").geturl()


def _refusal(status: int, at: str) -> Exception:
    if status in _REFUSALS:
        code, text = _REFUSALS[status]
        return ModelRefused(code, f"{at}: {status}: {text}")
    if 400 <= status < 500 and status not in _PASSING:
        return ModelRefused("source-denied", f"{at}: {status}")
    return ModelUnavailable("source-unavailable", f"{at}: it answers {status}")


# Errors of urllib3. Subclasses come first.
_ERRORS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (SSLError, "source-untrusted", "no TLS, or a certificate that is not trusted here (SSL_CERT_FILE)"),
    (NameResolutionError, "source-unavailable", "this name has no address"),
    (ConnectTimeoutError, "source-unavailable", "it cannot be reached in time"),
    (NewConnectionError, "source-unavailable", "it cannot be reached"),
    (ReadTimeoutError, "source-unavailable", "it sends nothing any more"),
    (HTTPError, "source-unavailable", "the connection broke"),
)


def _translated(error: Exception, at: str) -> Exception:
    for kind, code, text in _ERRORS:
        if isinstance(error, kind):
            return ModelUnavailable(code, f"{at}: {text}")
    return ModelRefused("source-forbidden", f"{at}: not a usable address")


def _strong(etag: str) -> str:
    """The ETag if If-Range may use it; "" for a weak one and for none."""
    return etag if len(etag) > 2 and etag.startswith('"') and etag.endswith('"') else ""


def authorities(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables of the module's environment that name trusted TLS certificates."""
    return {name: variables[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if variables.get(name)}


if __name__ == "__main__":
    sys.exit(main())
