"""Bad addresses in the twin of a running module: each has its error code, and the good model keeps running.

Every model is good, correctly signed and too large for a twin; the fault is its address or the server. After
a transient fault the model becomes active without a new section. test_download tests the details of HTTP.
"""

from __future__ import annotations

import io
import json
import random
import socket
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inference.model_section import ModelState, section_at
from inference.models.states import BUSY
from tests.e2e.models.test_model_faults import DEVICE, GOOD, MODULE, OURS, Edge, artefact, running
from tests.e2e.waiting import wait_until
from tests.unit.inference.models.model_server import Answer, ModelServer, Request, begin, cut, only, whole
from twinship.fleet.methods import invoke

pytestmark = pytest.mark.e2e

S = ModelState
Section = dict[str, Any]
#: A shared access signature as in Azure Storage; no part of it may appear in a log or a report.
SAS = "sv=2024-11-04&se=2020-02-29T00%3A00%3A00Z&sr=b&sp=r&sig=s3cret%2Fs3cret%3D"
PATH = f"/models/bands.tflite?{SAS}"
CUT_AFTER = 100_000
#: The metadata service of cloud machines, which hands out tokens.
METADATA = "169.254.169.254"


def large(version: str) -> bytes:
    """A good model with 200 KB of incompressible data in its trailer, which modules ignore."""
    data = io.BytesIO(artefact(version=version))
    with zipfile.ZipFile(data, "a") as trailer:
        trailer.writestr("padding.bin", random.Random(version).randbytes(200_000))
    return data.getvalue()


# -- the server ---------------------------------------------------------------------------------------------

Serve = Callable[[bytes], Answer]  # the answer of a server that should send this model


def always(answer: Answer) -> Serve:
    """The same answer for every model."""
    return lambda data: answer


def leads_to(target: str) -> Serve:
    """A redirect."""
    return always(only(302, Location=target))


def endless(request: Request) -> None:
    """Send chunks until the client closes the connection."""
    begin(request, Transfer_Encoding="chunked")
    while True:
        request.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")


def first_half(data: bytes) -> Answer:
    """The connection breaks, and requests for the rest are answered with 503."""
    return lambda request: (only(503) if request.headers.get("Range") else cut(data, CUT_AFTER))(request)


def second_half(data: bytes) -> Answer:
    """Requests for the rest succeed, other requests are answered with 503."""
    return lambda request: (whole(data) if request.headers.get("Range") else only(503))(request)


def changing(data: bytes) -> Answer:
    """The first part and the rest belong to different files with the same ETag."""
    first = cut(bytes(len(data)), CUT_AFTER)
    return lambda request: (whole(data) if request.headers.get("Range") else first)(request)


# -- the faults ----------------------------------------------------------------------------------------------

#: Permanent faults. Name → the address, or the server's answer; the error code; the number of requests.
REFUSED: Mapping[str, tuple[str | Serve, str, int]] = {
    "404": (always(only(404)), "source-missing", 1),
    "expired SAS": (always(only(403)), "source-denied", 1),
    "redirect to http": (leads_to(f"http://127.0.0.1{PATH}"), "source-forbidden", 1),
    "redirect to metadata": (leads_to(f"https://{METADATA}{PATH}"), "source-forbidden", 1),
    "redirect to link-local": (leads_to(f"https://169.254.7.7{PATH}"), "source-forbidden", 1),
    "redirects in a circle": (leads_to(PATH), "source-forbidden", 6),
    "endless body": (always(endless), "wrong-size", 1),
    "one byte too many": (lambda data: whole(data + b"x"), "wrong-size", 1),
    "file": (f"file:///etc/passwd?{SAS}", "bad-section", 0),
    "http": (f"http://127.0.0.1{PATH}", "bad-section", 0),
    "metadata": (f"https://{METADATA}{PATH}", "source-forbidden", 0),
    "link-local": (f"https://169.254.7.7{PATH}", "source-forbidden", 0),
    # The resolver turns this name into METADATA.
    "a name that leads to metadata": (f"https://2852039166{PATH}", "source-forbidden", 0),
}


def unavailable(stranger: ModelServer) -> Mapping[str, tuple[Serve, str, Serve]]:
    """Transient faults. Name → the server's answer; the error code; the answer after the repair.

    `stranger` is a server with an untrusted certificate.
    """
    return {
        "500": (always(only(500)), "source-unavailable", whole),
        "cut half way": (first_half, "source-unavailable", second_half),
        "a name without an address": (
            leads_to(f"https://no-such.invalid{PATH}"),
            "source-unavailable",
            whole,
        ),
        "an unknown authority": (leads_to(stranger.uri(PATH)), "source-untrusted", whole),
        "it changes on the way": (changing, "source-changed", whole),
    }


# -- a device and a source -----------------------------------------------------------------------------------


@dataclass
class DownloadingDevice:
    """A device, the server that it downloads from, and the section of the model that now runs."""

    edge: Edge
    server: ModelServer
    good: Section = field(default_factory=lambda: dict(GOOD))
    _versions: Iterator[int] = field(default_factory=lambda: iter(range(2, 1000)))

    def new_section(self, source: str | Serve, **signed: Any) -> tuple[Section, bytes]:
        """A new model and its section, with this address or with this answer of the server."""
        version = f"{next(self._versions)}.0.0"
        data = large(version)
        if not isinstance(source, str):
            self.server.answer = source(data)
        self.server.requests.clear()
        ref = OURS.ref(data, name="bands", version=version, **signed)
        section = section_at(ref, self.server.uri(PATH))
        return ({**section, "source": {"uri": source}} if isinstance(source, str) else section), data

    def refused(self, source: str | Serve, **signed: Any) -> tuple[str, str, int]:
        """State, code and number of requests for a permanent fault, while the good model runs."""
        section, _ = self.new_section(source, **signed)
        version = self.edge.set_section(section)
        wait_until(lambda: self.has_verdict(version), f"a verdict on version {version}")
        self.check_predictions()
        return *self.edge.state_and_code(), len(self.server.requests)

    def recovered(self, serve: Serve, code: str, repaired: Serve) -> tuple[str, str]:
        """State and code for a transient fault after the repair. The section is written once."""
        section, data = self.new_section(serve)
        version = self.edge.set_section(section)
        wait_until(lambda: self.shows(version, S.UNAVAILABLE, code), f"unavailable, {code}")
        self.check_predictions()
        return self.becomes_active(version, section, repaired(data))

    def becomes_active(self, version: int, section: Section, answer: Answer) -> tuple[str, str]:
        """State and code in the end, when the server gives this answer from now on."""
        self.server.answer = answer
        result = self.edge.verdict_on(version, S.PROBATION)
        self.good = section
        self.check_predictions()
        return result

    def shows(self, version: int, state: ModelState, code: str) -> bool:
        """Whether the twin shows this state and code for this desired version."""
        return self.has_verdict(version) and self.edge.state_and_code() == (state, code)

    def has_verdict(self, version: int) -> bool:
        """Whether the first try of this desired version has ended."""
        reported = self.edge.reported()
        return bool(
            reported.get("model", {}).get("av", 0) >= version and reported["modelStatus"]["state"] not in BUSY
        )

    def check_predictions(self) -> None:
        """Check that the good model runs, and that the twin shows no part of the address."""
        self.edge.check_predictions(self.good)
        check_no_secret(json.dumps(self.edge.reported()), "the twin")

    def written(self) -> Mapping[str, str]:
        """File name → all logs of the modules and the simulator, and all messages sent upstream."""
        folder = self.edge.simulator.endpoints.upstream.parent
        paths = [self.edge.simulator.endpoints.upstream, *sorted((folder / "logs").iterdir())]
        return {path.name: path.read_text() for path in paths}


def check_no_secret(text: str, where: str) -> None:
    """Check that the text contains no part of SAS."""
    for part in (SAS, "s3cret", "sig=", "se=2020", "2020-02-29", "sv=2024"):
        assert part not in text, f"{part} in {where}"


def lost(upstream: str) -> set[tuple[str, int]]:
    """The frames without a prediction between the first and the last frame with one."""
    answered: dict[str, set[int]] = {}
    for line in upstream.splitlines():
        if '"twinship.prediction.v1"' in line:
            frame = json.loads(line)["Body"]["frame"]
            answered.setdefault(frame["run"], set()).add(frame["seq"])
    return {(r, s) for r, seqs in answered.items() for s in range(min(seqs), max(seqs)) if s not in seqs}


@contextmanager
def downloading(
    folder: Path, server: ModelServer, *trusted: ModelServer, **environment: str
) -> Iterator[DownloadingDevice]:
    """A device that trusts only these servers."""
    trust = folder / "trusted.pem"
    trust.write_text("".join(each.ca_pem.read_text() for each in (server, *trusted)))
    with running(folder, SSL_CERT_FILE=str(trust), **environment) as edge:
        yield DownloadingDevice(edge, server)


@contextmanager
def serving(folder: Path, **how: Any) -> Iterator[ModelServer]:
    """A server with its own CA."""
    folder.mkdir()
    with ModelServer(folder, only(404), **how) as server:
        yield server


# -- the tests -----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_every_bad_address_has_its_code_and_the_good_model_keeps_running(tmp_path: Path) -> None:
    """After a permanent fault there is one request, after a transient one more until it succeeds."""
    with (
        serving(tmp_path / "source") as server,
        serving(tmp_path / "stranger") as stranger,
        downloading(tmp_path, server) as device,
    ):
        found: dict[str, tuple[str, str, int]] = {}
        for name, (source, _, _) in REFUSED.items():
            found[name] = device.refused(source)
        assert found == {name: (S.REFUSED, code, requests) for name, (_, code, requests) in REFUSED.items()}
        check_size_limit(device)
        check_store(device)

        recovered = {}
        for name, (serve, code, repaired) in unavailable(stranger).items():
            recovered[name] = device.recovered(serve, code, repaired)
            if name == "cut half way":
                check_resumed(server)
        assert recovered == dict.fromkeys(recovered, (S.ACTIVE, ""))
        assert not stranger.requests
        check_unknown_name(device)
        check_reload(device)

        assert device.edge.simulator.states()[MODULE].restart_count == 0
        wait_until(lambda: not lost(device.written()["upstream.jsonl"]), "predictions for all frames")
        assert {"inference.log", "hub.log"} <= device.written().keys()
        for where, text in device.written().items():
            check_no_secret(text, where)


def check_size_limit(device: DownloadingDevice) -> None:
    """A model whose declared size is over the limit is not downloaded."""
    assert device.refused(always(endless), size=2**40) == (S.REFUSED, "too-large", 0)


def check_store(device: DownloadingDevice) -> None:
    """Refused models leave neither a file nor a partial file."""
    data = Path(device.edge.simulator.module_environment(MODULE)["DATA_FOLDER"])
    assert [path.name for path in (data / "models").iterdir()] == [f"{GOOD['sha256']}.tflite"]


def check_resumed(server: ModelServer) -> None:
    """The first request is for the whole file, every other one for the rest."""
    first, *others = server.requests
    assert "Range" not in first
    assert others
    assert {(head["Range"], head["If-Range"]) for head in others} == {(f"bytes={CUT_AFTER}-", '"one"')}


def check_unknown_name(device: DownloadingDevice) -> None:
    """A name without an address is looked up again; the good model keeps running."""
    section, _ = device.new_section(f"https://no-such.invalid{PATH}")
    version = device.edge.set_section(section)
    wait_until(lambda: device.shows(version, S.UNAVAILABLE, "source-unavailable"), "unavailable")
    tried = check_ms(device.edge)
    wait_until(lambda: check_ms(device.edge) != tried, "another try")
    device.check_predictions()
    assert not device.server.requests


def check_ms(edge: Edge) -> float:
    """The duration of the last check; it differs for each check."""
    return float(edge.reported()["modelStatus"]["timings"]["checkMs"])


def check_reload(device: DownloadingDevice) -> None:
    """A missing file is requested again only after the method `reload`."""
    section, data = device.new_section(always(only(404)))
    version = device.edge.set_section(section)
    wait_until(lambda: device.shows(version, S.REFUSED, "source-missing"), "refused, source-missing")
    device.server.answer = whole(data)
    device.check_predictions()
    assert len(device.server.requests) == 1
    assert invoke(device.edge.hub, DEVICE, MODULE, "reload").status == 200
    wait_until(lambda: device.edge.state_and_code()[0] != S.REFUSED, "another try")
    assert device.becomes_active(version, section, whole(data)) == (S.ACTIVE, "")


@pytest.mark.long
def test_no_loopback_without_permission(tmp_path: Path) -> None:
    """Loopback addresses are refused in every spelling, without a request, also after a redirect."""
    own = own_address()
    with (
        serving(tmp_path / "inner") as inner,
        serving(tmp_path / "outer", address=own, names=(own,)) as outer,
        downloading(tmp_path, outer, inner, MODEL_SOURCE_ALLOW="") as device,
    ):
        inner_port = inner.uri("").rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "[::1]"):
            uri = f"https://{host}:{inner_port}{PATH}"
            assert device.refused(uri) == (S.REFUSED, "source-forbidden", 0), host
        if own != "127.0.0.1":
            redirected = device.refused(leads_to(inner.uri(PATH, name="localhost")))
            assert redirected == (S.REFUSED, "source-forbidden", 1)
            # Counter-proof: the address of the redirecting server is allowed.
            section, data = device.new_section(whole)
            version = device.edge.set_section(section)
            assert device.becomes_active(version, section, whole(data)) == (S.ACTIVE, "")
        assert not inner.requests


def own_address() -> str:
    """This machine's address on its network; loopback if there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
