"""Bad addresses by twin on running modules: what the twin shows of each, and that the good model answers on.

Every model is good, correctly signed and too large for a twin; what is wrong is its address or what answers
there. What time can mend becomes active without another word. Finer points of HTTP are test_fetch's.
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
from tests.e2e.test_model_faults import DEVICE, GOOD, MODULE, OURS, Edge, artefact, running
from tests.e2e.waiting import wait_until
from tests.unit.inference.models.model_server import Answer, ModelServer, Request, begin, cut, only, whole
from twinship.fleet.methods import invoke

pytestmark = pytest.mark.e2e

S = ModelState
Section = dict[str, Any]
#: A shared access signature, as Azure Storage words it: no part of it is anybody's business.
SAS = "sv=2024-11-04&se=2020-02-29T00%3A00%3A00Z&sr=b&sp=r&sig=s3cret%2Fs3cret%3D"
PATH = f"/models/bands.tflite?{SAS}"
CUT_AFTER = 100_000
#: Where a machine on a cloud is handed its tokens.
METADATA = "169.254.169.254"


def large(version: str) -> bytes:
    """A good model and 200 KB that do not compress: members of other names are left alone."""
    data = io.BytesIO(artefact(version=version))
    with zipfile.ZipFile(data, "a") as trailer:
        trailer.writestr("padding.bin", random.Random(version).randbytes(200_000))
    return data.getvalue()


# -- what answers --------------------------------------------------------------------------------------------

Serve = Callable[[bytes], Answer]  # how a server that was to hand out this model answers


def always(answer: Answer) -> Serve:
    """Whatever the model is."""
    return lambda data: answer


def leads_to(target: str) -> Serve:
    """A redirect."""
    return always(only(302, Location=target))


def endless(request: Request) -> None:
    """Chunks until the other side hangs up."""
    begin(request, Transfer_Encoding="chunked")
    while True:
        request.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")


def first_half(data: bytes) -> Answer:
    """The connection breaks on the way, and for the time being nobody answers for the rest."""
    return lambda request: (only(503) if request.headers.get("Range") else cut(data, CUT_AFTER))(request)


def second_half(data: bytes) -> Answer:
    """The rest for who has the beginning, and nothing for anybody else."""
    return lambda request: (whole(data) if request.headers.get("Range") else only(503))(request)


def changing(data: bytes) -> Answer:
    """What was begun is not what the rest belongs to, under one ETag."""
    begun = cut(bytes(len(data)), CUT_AFTER)
    return lambda request: (whole(data) if request.headers.get("Range") else begun)(request)


# -- the faults ----------------------------------------------------------------------------------------------

#: What the section must mend. Name → the address, or what answers at the server's; the code; how often the
#: server is asked.
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
    # The resolver makes METADATA of it, as of any name that leads there.
    "a name that leads to metadata": (f"https://2852039166{PATH}", "source-forbidden", 0),
}


def unavailable(stranger: ModelServer) -> Mapping[str, tuple[Serve, str, Serve]]:
    """What time can mend. Name → what answers; the code; what answers when it is mended.

    `stranger` is a server whose certificate nobody here trusts.
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
class Delivered:
    """A device, the server that it fetches from, and which model is the good one at the moment."""

    edge: Edge
    server: ModelServer
    good: Section = field(default_factory=lambda: dict(GOOD))
    _versions: Iterator[int] = field(default_factory=lambda: iter(range(2, 1000)))

    def wished(self, source: str | Serve, **signed: Any) -> tuple[Section, bytes]:
        """The section of a model new to the device: at this address, or at a server that answers so."""
        version = f"{next(self._versions)}.0.0"
        data = large(version)
        if not isinstance(source, str):
            self.server.answer = source(data)
        self.server.asked.clear()
        ref = OURS.ref(data, name="bands", version=version, **signed)
        section = section_at(ref, self.server.uri(PATH))
        return ({**section, "source": {"uri": source}} if isinstance(source, str) else section), data

    def refused(self, source: str | Serve, **signed: Any) -> tuple[str, str, int]:
        """State, code, and how often the server was asked. The good model answers on."""
        section, _ = self.wished(source, **signed)
        version = self.edge.section(section)
        wait_until(lambda: self.is_judged(version), f"a verdict on version {version}")
        self.keeps_answering()
        return *self.edge.shown(), len(self.server.asked)

    def mended(self, serve: Serve, code: str, mends: Serve) -> tuple[str, str]:
        """State and code of a wish that nobody repeats, when the server is well again after this code."""
        section, data = self.wished(serve)
        version = self.edge.section(section)
        wait_until(lambda: self.shows(version, S.UNAVAILABLE, code), f"unavailable, {code}")
        self.keeps_answering()
        return self.becomes_active(version, section, mends(data))

    def becomes_active(self, version: int, section: Section, answer: Answer) -> tuple[str, str]:
        """What the twin shows in the end, when the server answers so from now on."""
        self.server.answer = answer
        shown = self.edge.answered(version, S.PROBATION)
        self.good = section
        self.keeps_answering()
        return shown

    def shows(self, version: int, state: ModelState, code: str) -> bool:
        """Whether the twin answers this desired version so."""
        return self.is_judged(version) and self.edge.shown() == (state, code)

    def is_judged(self, version: int) -> bool:
        """Whether the first try of this desired version has ended, well or not."""
        reported = self.edge.reported()
        return bool(
            reported.get("model", {}).get("av", 0) >= version and reported["modelStatus"]["state"] not in BUSY
        )

    def keeps_answering(self) -> None:
        """The good model does, and nothing of the address is told."""
        self.edge.keeps_answering(self.good)
        tells_nothing(json.dumps(self.edge.reported()), "the twin")

    def written(self) -> Mapping[str, str]:
        """Everything that modules and agents have logged and sent."""
        folder = self.edge.simulator.endpoints.upstream.parent
        paths = [self.edge.simulator.endpoints.upstream, *sorted((folder / "logs").iterdir())]
        return {path.name: path.read_text() for path in paths}


def tells_nothing(text: str, where: str) -> None:
    """No part of SAS that could be anything else's stands there."""
    for part in (SAS, "s3cret", "sig=", "se=2020", "2020-02-29", "sv=2024"):
        assert part not in text, f"{part} in {where}"


def lost(upstream: str) -> set[tuple[str, int]]:
    """Frames without an answer between the first that has one and the last."""
    answered: dict[str, set[int]] = {}
    for line in upstream.splitlines():
        if '"twinship.prediction.v1"' in line:
            frame = json.loads(line)["Body"]["frame"]
            answered.setdefault(frame["run"], set()).add(frame["seq"])
    return {(r, s) for r, seqs in answered.items() for s in range(min(seqs), max(seqs)) if s not in seqs}


@contextmanager
def delivered(
    folder: Path, server: ModelServer, *trusted: ModelServer, **environment: str
) -> Iterator[Delivered]:
    """A device that trusts these servers and nobody else."""
    trust = folder / "trusted.pem"
    trust.write_text("".join(each.ca_pem.read_text() for each in (server, *trusted)))
    with running(folder, SSL_CERT_FILE=str(trust), **environment) as edge:
        yield Delivered(edge, server)


@contextmanager
def serving(folder: Path, **how: Any) -> Iterator[ModelServer]:
    """A server with an authority of its own."""
    folder.mkdir()
    with ModelServer(folder, only(404), **how) as server:
        yield server


# -- the tests -----------------------------------------------------------------------------------------------


def test_every_bad_address_has_its_name_and_the_good_model_answers(tmp_path: Path) -> None:
    """One after the other; what the section must mend is asked once, what time can mend until it is well."""
    with (
        serving(tmp_path / "source") as server,
        serving(tmp_path / "stranger") as stranger,
        delivered(tmp_path, server) as device,
    ):
        found: dict[str, tuple[str, str, int]] = {}
        for name, (source, _, _) in REFUSED.items():
            found[name] = device.refused(source)
        assert found == {name: (S.REFUSED, code, asked) for name, (_, code, asked) in REFUSED.items()}
        larger_than_a_model_may_be(device)
        nothing_is_left_on_disk(device)

        mended = {}
        for name, (serve, code, mends) in unavailable(stranger).items():
            mended[name] = device.mended(serve, code, mends)
            if name == "cut half way":
                went_on_where_it_was(server)
        assert mended == dict.fromkeys(mended, (S.ACTIVE, ""))
        assert not stranger.asked
        nobody_resolves_it(device)
        found_after_all(device)

        assert device.edge.simulator.states()[MODULE].restart_count == 0
        wait_until(lambda: not lost(device.written()["upstream.jsonl"]), "answers to all frames")
        assert {"inference.log", "hub.log"} <= device.written().keys()
        for where, text in device.written().items():
            tells_nothing(text, where)


def larger_than_a_model_may_be(device: Delivered) -> None:
    """What is declared so large is not asked for."""
    assert device.refused(always(endless), size=2**40) == (S.REFUSED, "too-large", 0)


def nothing_is_left_on_disk(device: Delivered) -> None:
    """Of what was refused: neither a model nor a part of one."""
    data = Path(device.edge.simulator.module_environment(MODULE)["DATA_FOLDER"])
    assert [path.name for path in (data / "models").iterdir()] == [f"{GOOD['sha256']}.tflite"]


def went_on_where_it_was(server: ModelServer) -> None:
    """One request for the whole; every other one for the rest. Who has it answered to no other one."""
    first, *others = server.asked
    assert "Range" not in first
    assert others
    assert {(asked["Range"], asked["If-Range"]) for asked in others} == {(f"bytes={CUT_AFTER}-", '"one"')}


def nobody_resolves_it(device: Delivered) -> None:
    """A name without an address is looked up again and again; the model that answers does not mind."""
    section, _ = device.wished(f"https://no-such.invalid{PATH}")
    version = device.edge.section(section)
    wait_until(lambda: device.shows(version, S.UNAVAILABLE, "source-unavailable"), "unavailable")
    tried = check_ms(device.edge)
    wait_until(lambda: check_ms(device.edge) != tried, "another try")
    device.keeps_answering()
    assert not device.server.asked


def check_ms(edge: Edge) -> float:
    """How long the last check took: another one takes another time."""
    return float(edge.reported()["modelStatus"]["timings"]["checkMs"])


def found_after_all(device: Delivered) -> None:
    """What was not there is not asked for again, until a person says so."""
    section, data = device.wished(always(only(404)))
    version = device.edge.section(section)
    wait_until(lambda: device.shows(version, S.REFUSED, "source-missing"), "refused, source-missing")
    device.server.answer = whole(data)
    device.keeps_answering()
    assert len(device.server.asked) == 1
    assert invoke(device.edge.hub, DEVICE, MODULE, "reload").status == 200
    wait_until(lambda: device.edge.shown()[0] != S.REFUSED, "another try")
    assert device.becomes_active(version, section, whole(data)) == (S.ACTIVE, "")


def test_no_loopback_without_permission(tmp_path: Path) -> None:
    """However it is spelt, and nobody is asked there; also where a server of the network leads there."""
    own = own_address()
    with (
        serving(tmp_path / "inner") as inner,
        serving(tmp_path / "outer", address=own, names=(own,)) as outer,
        delivered(tmp_path, outer, inner, MODEL_SOURCE_ALLOW="") as device,
    ):
        inner_port = inner.uri("").rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "[::1]"):
            uri = f"https://{host}:{inner_port}{PATH}"
            assert device.refused(uri) == (S.REFUSED, "source-forbidden", 0), host
        if own != "127.0.0.1":
            led = device.refused(leads_to(inner.uri(PATH, name="localhost")))
            assert led == (S.REFUSED, "source-forbidden", 1)
            # The counter-proof: where it led from is an address that may be asked.
            section, data = device.wished(whole)
            version = device.edge.section(section)
            assert device.becomes_active(version, section, whole(data)) == (S.ACTIVE, "")
        assert not inner.asked


def own_address() -> str:
    """This machine's own on its network; loopback where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])
