"""Downloads over real TLS, from a server that does everything wrong."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from inference.model_section import ModelRef, ModelState
from inference.models.child_process import ChildProcess, Ended
from inference.models.download import Fetcher, FetchSettings, carry_out, shown
from inference.models.errors import CODES, ModelRefused, ModelUnavailable
from inference.models.store import Memory, ModelStore
from tests.unit.inference.fixtures.device import eventually
from tests.unit.inference.models.model_server import ModelServer, Request, begin, cut, only, whole

DATA = bytes(range(256)) * 900  # 230,400 bytes, as the article's CNN
REF = ModelRef("tiny", "1.0.0", len(DATA), hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModelServer]:
    with ModelServer(tmp_path, whole(DATA)) as serving:
        yield serving


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    made = ModelStore(tmp_path / "data")
    made.open()
    return made


class SameProcess(ChildProcess):
    """Does the child's work in this process: a child takes a third of a second to start."""

    def run(
        self,
        command: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        idle: bool = False,
    ) -> Ended:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            return carry_out(stdin)


def fetching(server: ModelServer, store: ModelStore, child: ChildProcess) -> Callable[..., bytes]:
    """Fetch from this server, which is on loopback and has an authority of its own."""

    def fetched(uri: str | None = None, ref: ModelRef = REF, **settings: Any) -> bytes:
        known = {"allowed": frozenset({"loopback"}), "authorities": {"SSL_CERT_FILE": str(server.ca_pem)}}
        fetcher = Fetcher(store, child, FetchSettings(**{**known, **settings}))
        return fetcher.fetch(ref, uri or server.uri())

    return fetched


@pytest.fixture
def fetch(server: ModelServer, store: ModelStore) -> Callable[..., bytes]:
    return fetching(server, store, SameProcess())


@pytest.fixture
def fetch_in_child(server: ModelServer, store: ModelStore) -> Callable[..., bytes]:
    return fetching(server, store, ChildProcess())


def code(fetch: Callable[..., bytes], *words: str, **settings: Any) -> str:
    """The code of the error, whose text must not hold the address's secret."""
    with pytest.raises((ModelRefused, ModelUnavailable)) as raised:
        fetch(*words, **settings)
    error = raised.value
    assert isinstance(error, ModelRefused | ModelUnavailable)
    refused = CODES[error.code].state is ModelState.REFUSED
    assert isinstance(error, ModelRefused if refused else ModelUnavailable)
    assert "s3cret" not in str(error)
    assert "\n" not in str(error)
    return error.code


def parts(store: ModelStore) -> list[Path]:
    """The partial files on disk."""
    return list(store.path("x").parent.glob("*.part"))


def test_a_download_is_complete_and_leaves_no_partial_file(
    fetch_in_child: Callable[..., bytes], server: ModelServer, store: ModelStore
) -> None:
    """It sends one request, for the address of the twin with its query."""
    assert fetch_in_child() == DATA
    assert [asked[":path"] for asked in server.requests] == ["/models/tiny.tflite?sig=s3cret"]
    assert parts(store) == []


def test_the_certificate_is_verified_for_the_host_name(
    fetch: Callable[..., bytes], server: ModelServer
) -> None:
    """The connection goes to a checked IP address; the certificate must be for the name."""
    assert fetch(server.uri(name="localhost")) == DATA


def test_a_certificate_for_another_name_is_not_trusted(
    fetch: Callable[..., bytes], server: ModelServer, tmp_path: Path
) -> None:
    """It must be for the host of the address."""
    (tmp_path / "other").mkdir()
    with ModelServer(tmp_path / "other", whole(DATA), names=("elsewhere.example",)) as other:
        trusting = {"SSL_CERT_FILE": str(other.ca_pem)}
        assert code(fetch, other.uri(name="localhost"), authorities=trusting) == "source-untrusted"
    assert not other.requests


def test_an_unknown_authority_is_not_trusted(
    fetch_in_child: Callable[..., bytes], server: ModelServer
) -> None:
    """Without SSL_CERT_FILE only public authorities are trusted."""
    assert code(fetch_in_child, authorities={}) == "source-untrusted"
    assert not server.requests


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "source-missing"),
        (410, "source-missing"),
        (401, "source-denied"),
        (403, "source-denied"),
        (400, "source-denied"),
        (429, "source-unavailable"),
        (500, "source-unavailable"),
        (503, "source-unavailable"),
        (204, "source-unavailable"),
        (304, "source-unavailable"),
    ],
)
def test_each_status_has_its_code(
    fetch: Callable[..., bytes], server: ModelServer, status: int, expected: str
) -> None:
    """Refused if only another section can help; unavailable if a retry may succeed."""
    server.answer = only(status)
    assert code(fetch) == expected


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1/x",
        "file:///etc/passwd",
        "ftp://x/y",
        "https://user:word@127.0.0.1/x",
    ],
)
def test_a_redirect_to_anything_but_https_is_refused(
    fetch: Callable[..., bytes], server: ModelServer, target: str
) -> None:
    """The rules of the first address hold for every redirect."""
    server.answer = only(302, Location=target)
    assert code(fetch) == "source-forbidden"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "target", ["https://169.254.169.254/token", "https://[fe80::1]/", "https://168.63.129.16/"]
)
def test_a_redirect_to_a_forbidden_address_is_refused(
    fetch: Callable[..., bytes], server: ModelServer, target: str
) -> None:
    """Link-local and metadata addresses get no request, even if loopback is allowed."""
    server.answer = only(307, Location=target)
    assert code(fetch) == "source-forbidden"


def test_a_redirect_to_another_https_address_is_followed(
    fetch: Callable[..., bytes], server: ModelServer
) -> None:
    """Blob stores and release pages redirect; relative redirects work too."""
    server.answer = lambda request: (whole(DATA) if request.path == "/b" else only(302, Location="/b"))(
        request
    )
    assert fetch() == DATA


def test_redirects_in_a_circle_end(fetch: Callable[..., bytes], server: ModelServer) -> None:
    """Five redirects are the maximum."""
    server.answer = only(301, Location="/again")
    assert code(fetch) == "source-forbidden"
    assert len(server.requests) == 6


def test_loopback_is_forbidden_unless_it_is_allowed(fetch: Callable[..., bytes], server: ModelServer) -> None:
    """By address and by name, before any byte is sent."""
    assert code(fetch, allowed=frozenset()) == "source-forbidden"
    assert code(fetch, server.uri(name="localhost"), allowed=frozenset()) == "source-forbidden"
    assert not server.requests


def test_a_name_without_an_address(fetch: Callable[..., bytes]) -> None:
    """DNS is a matter of the network, so the download is tried again."""
    assert code(fetch, "https://no-such-name.invalid/m?sig=s3cret") == "source-unavailable"


def test_a_port_without_a_server(fetch: Callable[..., bytes]) -> None:
    """A refused connection is tried again."""
    assert code(fetch, "https://127.0.0.1:9/m?sig=s3cret") == "source-unavailable"


def test_no_proxy_of_the_environment_is_used(
    fetch: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy of the device SDK leads to edgeHub only."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch() == DATA


def endless(request: Request) -> None:
    """Chunks for ever."""
    begin(request, Transfer_Encoding="chunked")
    while True:
        request.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")


def unframed(data: bytes) -> Callable[[Request], None]:
    """Neither a length nor chunks: the body ends with the connection."""

    def answer(request: Request) -> None:
        begin(request)
        request.wfile.write(data)

    return answer


def chunked(data: bytes) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        begin(request, Transfer_Encoding="chunked")
        request.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n\r\n")

    return answer


@pytest.mark.parametrize("answer", [unframed(DATA), chunked(DATA), cut(DATA, len(DATA))])
def test_every_framing_works(
    fetch: Callable[..., bytes], server: ModelServer, answer: Callable[[Request], None]
) -> None:
    """With a length, in chunks, until the end of the connection."""
    server.answer = answer
    assert fetch() == DATA


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (endless, "wrong-size"),
        (unframed(DATA + b"x"), "wrong-size"),
        (unframed(DATA[:-1]), "source-unavailable"),  # that may be a cut
        (chunked(DATA + b"x"), "wrong-size"),
        (chunked(DATA[:-1]), "wrong-size"),
        (whole(DATA + b"x"), "wrong-size"),
        (whole(DATA[:-1]), "wrong-size"),
    ],
)
def test_a_body_of_another_size(
    fetch: Callable[..., bytes],
    server: ModelServer,
    store: ModelStore,
    answer: Callable[[Request], None],
    expected: str,
) -> None:
    """At most `size` bytes are read; a refused download leaves no partial file."""
    server.answer = answer
    assert code(fetch) == expected
    assert bool(parts(store)) == (expected == "source-unavailable")
    for part in parts(store):
        assert part.stat().st_size <= len(DATA) + 16


def test_a_body_shorter_than_its_length_is_unavailable(
    fetch: Callable[..., bytes], server: ModelServer
) -> None:
    """Content-Length is right but bytes are missing: the network is at fault."""
    server.answer = cut(DATA, 1000)
    assert code(fetch) == "source-unavailable"


def test_an_interrupted_download_is_resumed(
    fetch_in_child: Callable[..., bytes], server: ModelServer, store: ModelStore
) -> None:
    """Also after a restart of the module: the partial file holds its ETag."""
    server.answer = cut(DATA, 100_000)
    assert code(fetch_in_child) == "source-unavailable"
    ModelStore(store.path("x").parents[1]).open()
    server.answer = whole(DATA)
    assert fetch_in_child() == DATA
    assert server.requests[1]["Range"] == "bytes=100000-"
    assert server.requests[1]["If-Range"] == '"one"'
    assert parts(store) == []


@pytest.mark.parametrize("careless", [False, True])
def test_another_etag_starts_again(fetch: Callable[..., bytes], server: ModelServer, careless: bool) -> None:
    """The partial file is stale, whether or not the server supports If-Range."""
    server.answer = cut(bytes(len(DATA)), 100_000, '"zero"')
    assert code(fetch) == "source-unavailable"

    def ignores_if_range(request: Request) -> None:
        if request.headers.get("Range"):
            request.headers.replace_header("If-Range", '"one"')
        whole(DATA)(request)

    server.answer = ignores_if_range if careless else whole(DATA)
    assert fetch() == DATA


@pytest.mark.parametrize("etag", ["", 'W/"weak"', '"' + "x" * 600 + '"'])
def test_without_a_strong_etag_nothing_is_resumed(
    fetch: Callable[..., bytes], server: ModelServer, etag: str
) -> None:
    """If-Range needs a strong ETag."""
    server.answer = cut(DATA, 100_000, etag)
    assert code(fetch) == "source-unavailable"
    server.answer = whole(DATA)
    assert fetch() == DATA
    assert "Range" not in server.requests[1]


def test_a_wrong_etag_costs_one_more_try(fetch: Callable[..., bytes], server: ModelServer) -> None:
    """Two files under one ETag make a wrong digest, which is not the model's fault."""
    server.answer = cut(bytes(len(DATA)), 100_000)
    assert code(fetch) == "source-unavailable"
    server.answer = whole(DATA)
    assert code(fetch) == "source-changed"
    assert fetch() == DATA


def test_a_range_that_does_not_exist_starts_again(fetch: Callable[..., bytes], server: ModelServer) -> None:
    """416: the file is shorter now than the partial file."""
    server.answer = cut(DATA, 100_000)
    assert code(fetch) == "source-unavailable"
    server.answer = lambda request: (only(416) if request.headers.get("Range") else whole(DATA))(request)
    assert fetch() == DATA


def test_there_is_one_partial_file_at_a_time(
    fetch: Callable[..., bytes], server: ModelServer, store: ModelStore
) -> None:
    """Fifty quick changes of the twin must not fill the disk."""
    server.answer = cut(DATA, 100_000)
    for number in range(3):
        other = ModelRef("tiny", f"{number}", len(DATA), f"{number}" * 64)
        assert code(fetch, ref=other) == "source-unavailable"
        assert len(parts(store)) == 1
    store.sweep(Memory())
    assert parts(store) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"silence_s": 0.2}, "sends nothing"), ({"total_s": 1.0, "silence_s": 60.0}, "in 1 s")],
)
def test_a_body_that_stops_coming(
    fetch_in_child: Callable[..., bytes], server: ModelServer, settings: dict[str, float], said: str
) -> None:
    """Silence and the whole download have time limits; the bytes so far stay."""

    def stalls(request: Request) -> None:
        begin(request, Content_Length=len(DATA), ETag='"one"')
        request.wfile.write(DATA[:50_000])
        server.ended.wait(60)

    server.answer = stalls
    with pytest.raises(ModelUnavailable, match=said):
        fetch_in_child(**settings)
    server.answer = whole(DATA)
    assert fetch_in_child() == DATA
    assert server.requests[-1].get("Range", "bytes=50000-") == "bytes=50000-"


def test_the_child_sees_nothing_of_the_modules_environment(
    server: ModelServer, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets no proxies and no secrets; the request comes on stdin, because command lines are public."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("EdgeHubConnectionString", "secret")
    seen: list[str] = []

    def looks(request: Request) -> None:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if b"inference.models.download" in (process / "cmdline").read_bytes():
                    seen.append((process / "cmdline").read_text() + (process / "environ").read_text())
            except OSError:
                continue
        whole(DATA)(request)

    server.answer = looks
    assert fetching(server, store, ChildProcess())() == DATA
    assert seen
    for secret in ("s3cret", "proxy", "EdgeHubConnectionString"):
        assert not any(secret in text for text in seen)


def test_a_download_ends_when_it_is_cancelled(server: ModelServer, store: ModelStore) -> None:
    """Whatever it is waiting for."""
    child = ChildProcess()
    ended: list[str] = []

    def waits(request: Request) -> None:
        server.ended.wait(60)

    server.answer = waits
    thread = threading.Thread(target=lambda: ended.append(code(fetching(server, store, child))))
    thread.start()
    eventually(lambda: server.requests)
    child.cancel()
    thread.join(60)
    assert ended == ["source-unavailable"]


def test_a_disk_error_in_a_download_has_its_code(fetch: Callable[..., bytes], store: ModelStore) -> None:
    """It is not reported as a fault of the source."""
    blocked = store.path(REF.sha256).with_suffix(".part")
    blocked.mkdir()
    assert code(fetch) == "disk-error"


def test_what_a_message_shows_of_an_address() -> None:
    """It shows no query, user or fragment, because they may hold secrets."""
    uri = "https://user:word@store.example:444/m/x.tflite?sv=1&sig=abc#frag"
    assert shown(uri) == "https://store.example:444/m/x.tflite"
    assert shown("https://[broken") == "an invalid address"
