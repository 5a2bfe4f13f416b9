"""Bad models by twin on running modules: what the twin shows of each, and that the good one answers on.

Every artefact is correctly signed, unless the signature is the fault: the later check must be the one that
catches it. Models behind an address are test_model_addresses'.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest

from inference.model_section import ModelState, section_for
from inference.models.states import BUSY
from tests.e2e.conftest import ROOT
from tests.e2e.waiting import wait_until
from tests.unit.inference import harmful_models as harmful
from tests.unit.inference.device import Publisher
from twinship.fleet import connection as connections
from twinship.fleet.twin_patch import replacement
from twinship.fleet.service import HubRefused, ServiceHub
from twinship.simulator.faults import client, faults
from twinship.simulator.launcher import Simulator, SimulatorSettings

pytestmark = pytest.mark.e2e

DEVICE, MODULE = "twinship", "inference"
OURS, THEIRS, RETIRED = Publisher(1), Publisher(2), Publisher(3)
S = ModelState
Section = dict[str, Any]


def artefact(flatbuffer: bytes | None = None, version: str = "2.0.0", **other: Any) -> bytes:
    """A model that is good, unless told otherwise."""
    return harmful.artefact(flatbuffer or harmful.harmless(), version=version, **other)


def section(data: bytes, version: str = "2.0.0", signer: Publisher = OURS, **signed: Any) -> Section:
    """The desired section for these bytes; `signed` takes the place of what is right, signature included."""
    return section_for(signer.ref(data, name="bands", version=version, **signed), data)


def inline(found: Section, **changes: Any) -> Section:
    """The section with other words about its parts."""
    return {**found, "source": {"inline": {**found["source"]["inline"], **changes}}}


GOOD = section(artefact(version="1.0.0"), version="1.0.0")


# -- the faults, in the order of the checks ------------------------------------------------------------------


def parts(change: Callable[[dict[str, str]], object]) -> Section:
    """A good section with its parts changed."""
    found = section(artefact())
    changed = dict(found["source"]["inline"]["parts"])
    change(changed)
    return inline(found, parts=changed)


def both_sources() -> Section:
    found = section(artefact())
    return {**found, "source": {**found["source"], "uri": "https://models.example/digits.tflite"}}


def flipped() -> Section:
    data = artefact()
    other = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    return section_for(OURS.ref(data, name="bands", version="2.0.0"), other)


def unsigned() -> Section:
    data = artefact()
    return section_for(replace(OURS.ref(data, name="bands", version="2.0.0"), signature="", key_id=""), data)


def bomb() -> Section:
    """Ten million bytes in ten thousand, while the section speaks of a thousand."""
    found = section(artefact(), size=1000)
    text = base64.b64encode(zlib.compress(bytes(10_000_000), 9)).decode()
    cuts = {f"{n:02}": text[n * 4000 : (n + 1) * 4000] for n in range(-(-len(text) // 4000))}
    return inline(found, count=len(cuts), parts=cuts)


#: name → the section that is written, the state and the error code that the twin shall show.
FAULTS: Mapping[str, tuple[Callable[[], object], ModelState, str]] = {
    "section of the wrong type": (lambda: 7, S.REFUSED, "bad-section"),
    "an empty section": (dict, S.REFUSED, "bad-section"),
    "inline and uri at once": (both_sources, S.REFUSED, "bad-section"),
    "missing part": (lambda: parts(lambda p: p.pop("00")), S.REFUSED, "bad-section"),
    "extra part": (lambda: parts(lambda p: p.update({"07": "AAAA"})), S.REFUSED, "bad-section"),
    "count off": (lambda: inline(section(artefact()), count=2), S.REFUSED, "bad-section"),
    "bad base64": (lambda: parts(lambda p: p.update({"00": "§§§§"})), S.REFUSED, "bad-section"),
    "no zlib": (lambda: parts(lambda p: p.update({"00": "AAAA"})), S.REFUSED, "bad-section"),
    "zip bomb by ratio": (bomb, S.REFUSED, "wrong-size"),
    "zip bomb by absolute size": (lambda: section(artefact(), size=2**40), S.REFUSED, "too-large"),
    "wrong size": (lambda: section(artefact(), size=len(artefact()) - 1), S.REFUSED, "wrong-size"),
    "unsigned": (unsigned, S.REFUSED, "unsigned"),
    "unknown key": (lambda: section(artefact(), signer=THEIRS), S.REFUSED, "unknown-key"),
    "retired key": (lambda: section(artefact(), signer=RETIRED), S.REFUSED, "unknown-key"),
    "signature of another version": (
        lambda: {**section(artefact()), "version": "2.0.1"},
        S.REFUSED,
        "bad-signature",
    ),
    "wrong digest": (lambda: section(artefact(), sha256="0" * 64), S.REFUSED, "wrong-digest"),
    "flipped byte": (flipped, S.REFUSED, "wrong-digest"),
    "not a TFLite file": (lambda: section(b"GIF89a no model at all"), S.REFUSED, "bad-artefact"),
    "no trailer": (lambda: section(harmful.harmless()), S.REFUSED, "bad-artefact"),
    "another model than its manifest says": (
        lambda: section(artefact(version="9.9.9")),
        S.REFUSED,
        "wrong-name",
    ),
    "truncated flatbuffer": (lambda: section(artefact(harmful.harmless()[:600])), S.REFUSED, "does-not-load"),
    "unknown operator": (lambda: section(artefact(harmful.unknown_operator())), S.REFUSED, "does-not-load"),
    "wrong input shape": (
        lambda: section(artefact(harmful.harmless(shape=(1, 4, 6, 1)))),
        S.REFUSED,
        "does-not-load",
    ),
    "wrong input type": (lambda: section(artefact(harmful.harmless(kind=2))), S.REFUSED, "does-not-load"),
    "labels fewer than outputs": (
        lambda: section(artefact(labels=("top", "middle"))),
        S.REFUSED,
        "does-not-load",
    ),
    "probe answers wrong": (lambda: section(artefact(expected="middle")), S.REFUSED, "wrong-answers"),
    "probe too slow": (lambda: section(artefact(budget_ms=1e-6)), S.REFUSED, "over-budget"),
    "crashes the runtime": (lambda: section(artefact(harmful.crashes())), S.REFUSED, "crashes-runtime"),
    "throws on live frames": (lambda: section(artefact(harmful.throws())), S.WITHDRAWN, "engine-errors"),
}
#: Those that the older runtime meets in its own way.
ON_TFLITE_RUNTIME = {
    # It reads on behind the end: what lies there in memory decides, and both are right.
    "truncated flatbuffer": (S.REFUSED, {"crashes-runtime", "does-not-load"}),
    "crashes the runtime": (S.REFUSED, {"crashes-runtime"}),
    "unknown operator": (S.REFUSED, {"does-not-load"}),
    "throws on live frames": (S.WITHDRAWN, {"engine-errors"}),
}


# -- a device ------------------------------------------------------------------------------------------------


def read_more(upstream: TextIO, found: list[str]) -> int:
    """Add the digest of the model of each prediction that has arrived since; how many there are now."""
    for line in iter(upstream.readline, ""):
        if '"twinship.prediction.v1"' in line and line.endswith("\n"):
            with contextlib.suppress(ValueError):  # what was half written when we came
                found.append(json.loads(line)["Body"]["model"]["sha256"])
    return len(found)


class Edge:
    """The manifest's modules on a simulator: the camera draws, the good model has passed probation."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.hub = ServiceHub(connections.find({}, simulator.endpoints.service_env))

    def begin(self) -> None:
        """All frames answered and told, the good model in charge."""
        told = {"predictions": "all", "intervalSeconds": 1}
        self.patch({"telemetry": told, "inference": {"overload": "all"}})
        self.hub.patch_desired(DEVICE, "camera_sim", {"camera": {"fps": 50}}, "*")
        self.simulator.start_modules()
        assert self.verdict(GOOD, S.PROBATION) == (S.ACTIVE, "")

    def patch(self, desired: Mapping[str, Any]) -> int:
        """A merge patch, as any twin client sends it; the desired `$version` after it."""
        return int(self.hub.patch_desired(DEVICE, MODULE, desired, "*").desired["$version"])

    def section(self, wanted: object) -> int:
        """Write exactly this section."""
        before = self.desired().get("model")
        return self.patch({"model": replacement(before, wanted) if isinstance(wanted, Mapping) else wanted})

    def verdict(self, wanted: object, *passing: ModelState) -> tuple[str, str]:
        """What the twin shows in the end: state and error code."""
        return self.answered(self.section(wanted), *passing)

    def answered(self, version: int, *passing: ModelState) -> tuple[str, str]:
        """The same of the section that has this desired version; `passing` are states that will not last."""
        # A trial that this machine had no time for is repeated.
        passing_by = {*BUSY, S.UNAVAILABLE, *passing}
        wait_until(
            lambda: self._is_answered(version, passing_by), f"a verdict on version {version}", patience_s=180
        )
        return self.shown()

    def _is_answered(self, version: int, passing: set[ModelState]) -> bool:
        reported = self.reported()
        state = reported.get("modelStatus", {}).get("state")
        return bool(reported.get("model", {}).get("av", 0) >= version and state not in passing)

    def shown(self) -> tuple[str, str]:
        """State and error code as they are now."""
        status = self.reported()["modelStatus"]
        return status["state"], status.get("error", {}).get("code", "")

    def desired(self) -> dict[str, Any]:
        """What is asked of the module."""
        return dict(self.hub.module_twin(DEVICE, MODULE).desired)

    def reported(self) -> dict[str, Any]:
        """What the module says of itself."""
        return dict(self.hub.module_twin(DEVICE, MODULE).reported)

    def keeps_answering(self, wanted: Section = GOOD) -> None:
        """Frames that come from now on are answered, and by this model."""
        found: list[str] = []
        with self.simulator.endpoints.upstream.open() as upstream:
            upstream.seek(0, os.SEEK_END)
            wait_until(lambda: read_more(upstream, found) > 3, "answers")
        # The first may have been under way.
        assert set(found[1:]) == {wanted["sha256"]}
        assert self.reported()["modelStatus"]["active"]["sha256"] == wanted["sha256"]


@contextlib.contextmanager
def running(folder: Path, runtime: str = "litert", **environment: str) -> Iterator[Edge]:
    """A device that trusts OURS alone; `environment` is its inference module's."""
    settings = SimulatorSettings(
        ROOT / "deployment.template.json",
        folder / "simulator",
        {"MODEL_TRUSTED_KEYS": OURS.trusted},
        module_environment={MODULE: {"INFERENCE_RUNTIME": runtime, **environment}},
    )
    with Simulator(settings) as simulator:
        edge = Edge(simulator)
        with edge.hub:
            edge.begin()
            yield edge


# -- the tests -----------------------------------------------------------------------------------------------


def test_every_fault_has_its_name_and_the_good_model_answers(tmp_path: Path) -> None:
    """One bad section after the other; none runs, each is named by the check that is there for it."""
    with running(tmp_path) as edge:
        found = {}
        for name, (wanted, state, _) in FAULTS.items():
            found[name] = edge.verdict(wanted(), *({S.PROBATION} if state is S.WITHDRAWN else ()))
            edge.keeps_answering()
        assert found == {name: (state, code) for name, (_, state, code) in FAULTS.items()}
        assert edge.simulator.states()[MODULE].restart_count == 0, "no twin ends the process"

        too_slow_for_the_operator(edge)
        what_the_hub_refuses(edge)
        stale_parts(edge)
        no_section(edge)
        killed_and_started_again(edge)
        fifty_quick_changes(edge)


def too_slow_for_the_operator(edge: Edge) -> None:
    """It passes its probes, and is too slow on live frames: withdrawn, and the one before it answers."""
    edge.patch({"inference": {"latencyBudgetMs": 1e-6}})
    assert edge.verdict(section(artefact(version="3.0.0"), "3.0.0"), S.PROBATION) == (S.WITHDRAWN, "too-slow")
    edge.keeps_answering()
    edge.patch({"inference": {"latencyBudgetMs": 1000}})


def what_the_hub_refuses(edge: Edge) -> None:
    """An overlong part, and a section larger than a twin, are 400 there and never reach the device."""
    before = edge.desired()
    found = section(artefact())
    for bad in (
        inline(found, parts={"00": "A" * 4097}),
        inline(found, count=9, parts={f"{number:02}": "A" * 4000 for number in range(9)}),
    ):
        with pytest.raises(HubRefused) as refused:
            edge.section(bad)
        assert refused.value.status == 400
    edge.keeps_answering()
    assert edge.desired() == before


def stale_parts(edge: Edge) -> None:
    """Somebody's merge patch leaves parts of a longer model behind: named, part for part."""
    edge.verdict(inline(section(artefact()), count=2, parts={"00": "AAAA", "01": "AAAA"}))
    version = edge.patch({"model": section(artefact())})
    assert edge.answered(version) == (S.REFUSED, "bad-section")
    assert "parts.01: extra" in edge.reported()["modelStatus"]["error"]["message"]
    edge.keeps_answering()


def no_section(edge: Edge) -> None:
    """A null takes the section away: what runs keeps running, and the twin says so."""
    assert edge.verdict(None) == (S.UNASSIGNED, "")
    edge.keeps_answering()


def killed_and_started_again(edge: Edge) -> None:
    """The next process answers with the last good model, and tries no model that was refused before."""
    bad = FAULTS["crashes the runtime"][0]()
    assert edge.verdict(bad) == (S.REFUSED, "crashes-runtime")
    process = edge.simulator.states()[MODULE].pid
    assert process is not None
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: edge.simulator.states()[MODULE].restart_count == 1, "the restart")
    version = edge.patch({"notes": "the twin is read again"})
    assert edge.answered(version) == (S.REFUSED, "crashes-runtime")
    # A trial by this process would have left its time; that of the one before went with its first report.
    assert "proveMs" not in edge.reported()["modelStatus"]["timings"]
    edge.keeps_answering()


def fifty_quick_changes(edge: Edge) -> None:
    """Only the last one counts, whatever was under way."""
    wanted = [section(artefact(version=f"4.{n}"), f"4.{n}") for n in range(50)]
    version = [edge.patch({"model": each}) for each in wanted][-1]
    assert edge.answered(version, S.PROBATION) == (S.ACTIVE, "")
    edge.keeps_answering(wanted[-1])


@pytest.mark.long
def test_the_older_runtime_meets_them_too(tmp_path: Path) -> None:
    """tflite-runtime verifies no flatbuffer: it mostly dies of half a one, in its own process."""
    with running(tmp_path, "tflite_runtime") as edge:
        for name, (state, codes) in ON_TFLITE_RUNTIME.items():
            found, code = edge.verdict(FAULTS[name][0](), S.PROBATION)
            assert (found, code in codes) == (state, True), (name, code)
            edge.keeps_answering()


@pytest.mark.long
@pytest.mark.parametrize("runtime", ["litert", "tflite_runtime"])
def test_a_model_that_hangs_the_runtime(tmp_path: Path, runtime: str) -> None:
    """An endless loop ends with the proof's time, while the good model answers."""
    with running(tmp_path, runtime) as edge:
        version = edge.section(section(artefact(harmful.hangs())))
        edge.keeps_answering()
        assert edge.answered(version) == (S.REFUSED, "hangs-runtime")
        edge.keeps_answering()


@pytest.mark.long
def test_a_black_hole_is_exit_75_and_the_last_good_model(tmp_path: Path) -> None:
    """The edge accepts and says nothing: the module leaves, is started again, and knows its model."""
    with running(tmp_path) as edge:
        folder = edge.simulator.endpoints.service_env.parent
        client.set_fault(folder, faults.BLACK_HOLE)
        client.set_fault(folder, faults.DROP_CONNECTIONS)
        wait_until(lambda: edge.simulator.states()[MODULE].exit_code == 75, "exit 75", patience_s=180)
        client.end_faults(folder)
        edge.keeps_answering()
        assert edge.simulator.states()[MODULE].restart_count >= 1
