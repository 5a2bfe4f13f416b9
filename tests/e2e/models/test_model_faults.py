"""Bad models in the twin of a running module: each has its error code, and the good model keeps running.

Every artefact has a correct signature, unless the signature is the fault: the later check must find it.
test_model_addresses tests models at addresses.
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
from tests.models import NEEDS_TFLITE_RUNTIME, RUNTIMES
from tests.unit.inference.fixtures import harmful_models as harmful
from tests.unit.inference.fixtures.device import Publisher
from twinship.fleet import connection as connections
from twinship.fleet.service import HubRefused, ServiceHub
from twinship.fleet.twin_patch import replacement
from twinship.simulator.faults import client, faults
from twinship.simulator.launcher import Simulator, SimulatorSettings

pytestmark = pytest.mark.e2e

DEVICE, MODULE = "twinship", "inference"
OURS, THEIRS, RETIRED = Publisher(1), Publisher(2), Publisher(3)
S = ModelState
Section = dict[str, Any]


def artefact(flatbuffer: bytes | None = None, version: str = "2.0.0", **other: Any) -> bytes:
    """A good model, except for the arguments."""
    return harmful.artefact(flatbuffer or harmful.harmless(), version=version, **other)


def section(data: bytes, version: str = "2.0.0", signer: Publisher = OURS, **signed: Any) -> Section:
    """The desired section for these bytes; `signed` replaces fields before they are signed."""
    return section_for(signer.ref(data, name="bands", version=version, **signed), data)


def inline(found: Section, **changes: Any) -> Section:
    """The section with changes to `source.inline`."""
    return {**found, "source": {"inline": {**found["source"]["inline"], **changes}}}


GOOD = section(artefact(version="1.0.0"), version="1.0.0")


# -- the faults, in the order of the checks ------------------------------------------------------------------


def parts(change: Callable[[dict[str, str]], object]) -> Section:
    """A good section with changed chunks."""
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
    """Ten thousand bytes that inflate to ten million, in a section with the size 1000."""
    found = section(artefact(), size=1000)
    text = base64.b64encode(zlib.compress(bytes(10_000_000), 9)).decode()
    cuts = {f"{n:02}": text[n * 4000 : (n + 1) * 4000] for n in range(-(-len(text) // 4000))}
    return inline(found, count=len(cuts), parts=cuts)


#: name → the section, and the state and error code that the twin must show.
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
#: Faults for which tflite-runtime differs.
ON_TFLITE_RUNTIME = {
    # It reads behind the end of the buffer; the result depends on the memory there, and both are correct.
    "truncated flatbuffer": (S.REFUSED, {"crashes-runtime", "does-not-load"}),
    "crashes the runtime": (S.REFUSED, {"crashes-runtime"}),
    "unknown operator": (S.REFUSED, {"does-not-load"}),
    "throws on live frames": (S.WITHDRAWN, {"engine-errors"}),
}


# -- a device ------------------------------------------------------------------------------------------------


def read_more(upstream: TextIO, found: list[str]) -> int:
    """Append the model digest of each new prediction to `found`; return the length of `found`."""
    for line in iter(upstream.readline, ""):
        if '"twinship.prediction.v1"' in line and line.endswith("\n"):
            with contextlib.suppress(ValueError):  # an incomplete line at the start
                found.append(json.loads(line)["Body"]["model"]["sha256"])
    return len(found)


class Edge:
    """The manifest's modules on a simulator; the camera draws its scene, the good model is active."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.hub = ServiceHub(connections.find({}, simulator.endpoints.service_env))

    def begin(self) -> None:
        """Start the modules, send every prediction upstream, and make the good model active."""
        telemetry = {"predictions": "all", "intervalSeconds": 1}
        self.patch({"telemetry": telemetry, "inference": {"overload": "all"}})
        self.hub.patch_desired(DEVICE, "camera_sim", {"camera": {"fps": 50}}, "*")
        self.simulator.start_modules()
        assert self.verdict(GOOD, S.PROBATION) == (S.ACTIVE, "")

    def patch(self, desired: Mapping[str, Any]) -> int:
        """Send a merge patch; return the new desired `$version`."""
        return int(self.hub.patch_desired(DEVICE, MODULE, desired, "*").desired["$version"])

    def set_section(self, section: object) -> int:
        """Make this the `model` section; return the new desired `$version`."""
        before = self.desired().get("model")
        return self.patch(
            {"model": replacement(before, section) if isinstance(section, Mapping) else section}
        )

    def verdict(self, section: object, *passing: ModelState) -> tuple[str, str]:
        """Set the section; return the final state and error code."""
        return self.verdict_on(self.set_section(section), *passing)

    def verdict_on(self, version: int, *passing: ModelState) -> tuple[str, str]:
        """The final state and error code for this desired version; `passing` are further transient states."""
        # UNAVAILABLE is transient too: a busy machine repeats a proof.
        transient = {*BUSY, S.UNAVAILABLE, *passing}
        wait_until(
            lambda: self._is_final(version, transient), f"a verdict on version {version}", patience_s=180
        )
        return self.state_and_code()

    def _is_final(self, version: int, transient: set[ModelState]) -> bool:
        reported = self.reported()
        state = reported.get("modelStatus", {}).get("state")
        return bool(reported.get("model", {}).get("av", 0) >= version and state not in transient)

    def state_and_code(self) -> tuple[str, str]:
        """The present state and error code."""
        status = self.reported()["modelStatus"]
        return status["state"], status.get("error", {}).get("code", "")

    def desired(self) -> dict[str, Any]:
        """The desired properties of the module."""
        return dict(self.hub.module_twin(DEVICE, MODULE).desired)

    def reported(self) -> dict[str, Any]:
        """The reported properties of the module."""
        return dict(self.hub.module_twin(DEVICE, MODULE).reported)

    def check_predictions(self, section: Section = GOOD) -> None:
        """Check that new predictions arrive, and that this model makes them."""
        found: list[str] = []
        with self.simulator.endpoints.upstream.open() as upstream:
            upstream.seek(0, os.SEEK_END)
            wait_until(lambda: read_more(upstream, found) > 3, "new predictions")
        # The first one may come from before.
        assert set(found[1:]) == {section["sha256"]}
        assert self.reported()["modelStatus"]["active"]["sha256"] == section["sha256"]


@contextlib.contextmanager
def running(folder: Path, runtime: str = "litert", **environment: str) -> Iterator[Edge]:
    """A device that trusts only OURS; `environment` is for its inference module."""
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


@pytest.mark.long
def test_every_fault_has_its_code_and_the_good_model_keeps_running(tmp_path: Path) -> None:
    """None of the bad models runs, and each has the error code of the check that finds it."""
    with running(tmp_path) as edge:
        found = {}
        for name, (make_section, state, _) in FAULTS.items():
            found[name] = edge.verdict(make_section(), *({S.PROBATION} if state is S.WITHDRAWN else ()))
            edge.check_predictions()
        assert found == {name: (state, code) for name, (_, state, code) in FAULTS.items()}
        assert edge.simulator.states()[MODULE].restart_count == 0, "no section ends the process"

        check_latency_budget(edge)
        check_refusals_of_the_hub(edge)
        check_stale_chunks(edge)
        check_no_section(edge)
        check_restart(edge)
        check_fifty_quick_changes(edge)


def check_latency_budget(edge: Edge) -> None:
    """A model that passes its probes but is too slow on live frames is withdrawn; the previous one runs."""
    edge.patch({"inference": {"latencyBudgetMs": 1e-6}})
    assert edge.verdict(section(artefact(version="3.0.0"), "3.0.0"), S.PROBATION) == (S.WITHDRAWN, "too-slow")
    edge.check_predictions()
    edge.patch({"inference": {"latencyBudgetMs": 1000}})


def check_refusals_of_the_hub(edge: Edge) -> None:
    """An overlong chunk and a section larger than a twin are 400 at the hub; the device sees neither."""
    before = edge.desired()
    found = section(artefact())
    for bad in (
        inline(found, parts={"00": "A" * 4097}),
        inline(found, count=9, parts={f"{number:02}": "A" * 4000 for number in range(9)}),
    ):
        with pytest.raises(HubRefused) as refused:
            edge.set_section(bad)
        assert refused.value.status == 400
    edge.check_predictions()
    assert edge.desired() == before


def check_stale_chunks(edge: Edge) -> None:
    """If a merge patch leaves chunks of a longer model, the error names each of them."""
    edge.verdict(inline(section(artefact()), count=2, parts={"00": "AAAA", "01": "AAAA"}))
    version = edge.patch({"model": section(artefact())})
    assert edge.verdict_on(version) == (S.REFUSED, "bad-section")
    assert "parts.01: extra" in edge.reported()["modelStatus"]["error"]["message"]
    edge.check_predictions()


def check_no_section(edge: Edge) -> None:
    """Without a section the model keeps running, and the state is `unassigned`."""
    assert edge.verdict(None) == (S.UNASSIGNED, "")
    edge.check_predictions()


def check_restart(edge: Edge) -> None:
    """A new process runs the last good model, and does not try a refused model again."""
    bad = FAULTS["crashes the runtime"][0]()
    assert edge.verdict(bad) == (S.REFUSED, "crashes-runtime")
    process = edge.simulator.states()[MODULE].pid
    assert process is not None
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: edge.simulator.states()[MODULE].restart_count == 1, "the restart")
    version = edge.patch({"notes": "the twin is read again"})
    assert edge.verdict_on(version) == (S.REFUSED, "crashes-runtime")
    # A proof in this process would have reported its time; the first report deleted that of the last process.
    assert "proveMs" not in edge.reported()["modelStatus"]["timings"]
    edge.check_predictions()


def check_fifty_quick_changes(edge: Edge) -> None:
    """Only the last section counts, whatever was in progress."""
    sections = [section(artefact(version=f"4.{n}"), f"4.{n}") for n in range(50)]
    version = [edge.patch({"model": each}) for each in sections][-1]
    assert edge.verdict_on(version, S.PROBATION) == (S.ACTIVE, "")
    edge.check_predictions(sections[-1])


@pytest.mark.long
@NEEDS_TFLITE_RUNTIME
def test_faults_on_tflite_runtime(tmp_path: Path) -> None:
    """tflite-runtime does not verify flatbuffers: a truncated one mostly crashes the child process."""
    with running(tmp_path, "tflite_runtime") as edge:
        for name, (state, codes) in ON_TFLITE_RUNTIME.items():
            found, code = edge.verdict(FAULTS[name][0](), S.PROBATION)
            assert (found, code in codes) == (state, True), (name, code)
            edge.check_predictions()


@pytest.mark.long
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_model_that_hangs_the_runtime(tmp_path: Path, runtime: str) -> None:
    """An endless loop ends with the time limit of the proof; the good model keeps running."""
    with running(tmp_path, runtime) as edge:
        version = edge.set_section(section(artefact(harmful.hangs())))
        edge.check_predictions()
        assert edge.verdict_on(version) == (S.REFUSED, "hangs-runtime")
        edge.check_predictions()


@pytest.mark.long
def test_after_a_black_hole_the_module_restarts_with_its_model(tmp_path: Path) -> None:
    """If the hub accepts connections and sends nothing, the module exits with 75 and runs its model again."""
    with running(tmp_path) as edge:
        folder = edge.simulator.endpoints.service_env.parent
        client.set_fault(folder, faults.BLACK_HOLE)
        client.set_fault(folder, faults.DROP_CONNECTIONS)
        wait_until(lambda: edge.simulator.states()[MODULE].exit_code == 75, "exit 75", patience_s=180)
        client.end_faults(folder)
        edge.check_predictions()
        assert edge.simulator.states()[MODULE].restart_count >= 1
