"""The operator of a measurement reads the twin when a frame shows the new model, and yields to the frames."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from inference.model_section import ModelRef
from twinship.bench import BenchFailed
from twinship.bench.rig import operator
from twinship.bench.rig.operator import FALLBACK_S, Operator, idle_priority
from twinship.bench.rig.rig import Rig
from twinship.demo.watch import Watch
from twinship.fleet.service import ModuleTwin
from twinship.fleet.signed_artefact import SignedArtefact

MODEL = Path("model.tflite")
REF = ModelRef("digits", "1.1.0", 5, "b" * 64, "signature", "key")


class OneModule:
    """A hub with one twin. The module reports the new model in `serve`."""

    def __init__(self, state: str) -> None:
        self.reads = 0
        self.desired: dict[str, Any] = {"$version": 1}
        self.reported: dict[str, Any] = {}
        self._state = state

    def module_twin(self, device: str, module: str) -> ModuleTwin:
        """The twin; every read is counted."""
        self.reads += 1
        return ModuleTwin(device, module, "*", "Connected", self.desired, self.reported)

    def patch_desired(self, device: str, module: str, patch: Any, etag: str) -> ModuleTwin:
        """Write the section."""
        self.desired = {"$version": 2, **patch}
        return ModuleTwin(device, module, etag, "Connected", self.desired, self.reported)

    def serve(self) -> None:
        """Report the model that the twin names."""
        named = {"name": REF.name, "version": REF.version, "sha256": REF.sha256}
        self.reported = {
            "model": {"av": 2},
            "modelStatus": {"state": self._state, "active": named},
        }


class Answers:
    """In place of Watch: the new model answers within the first wait, or never."""

    def __init__(self, hub: OneModule, *, served: bool) -> None:
        self.waited: list[tuple[str, float]] = []
        self._hub = hub
        self._served = served

    def wait_version(self, version: str, timeout_s: float) -> bool:
        """Return at once."""
        self.waited.append((version, timeout_s))
        self._hub.serve()
        return self._served


class Signer:
    """In place of Rig."""

    connection = None

    def __init__(self) -> None:
        self.signed: list[Path] = []

    def sign(self, model: Path) -> SignedArtefact:
        """The section as an address, so that no artefact is needed."""
        self.signed.append(model)
        return SignedArtefact(REF, b"", "https://models.example/model.tflite")


def an_operator(hub: OneModule, answers: Answers, signer: Signer) -> Operator:
    """An operator with an open connection to this hub."""
    found = Operator(cast(Rig, signer), cast(Watch, answers), [MODEL])
    found.hub = cast(Any, hub)
    return found


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is late."""
    monkeypatch.setattr(operator, "REPORT_S", 0.0)
    monkeypatch.setattr(operator, "AGAIN_S", 0.0)


def test_the_twin_is_read_once_after_the_first_answer_of_the_new_model() -> None:
    """One read before the write and one after the answer; the model was signed beforehand."""
    hub, signer = OneModule("probation"), Signer()
    answers = Answers(hub, served=True)
    found = an_operator(hub, answers, signer)
    assert signer.signed == [MODEL]
    assert found.publish(MODEL).ok
    assert answers.waited == [("1.1.0", FALLBACK_S)]
    assert hub.reads == 2
    assert signer.signed == [MODEL]


def test_a_model_that_answers_nothing_is_found_in_the_twin() -> None:
    """A refused model never answers: the twin is read after FALLBACK_S all the same."""
    hub = OneModule("refused")
    with pytest.raises(BenchFailed, match=r"did not accept digits:1\.1\.0: refused"):
        an_operator(hub, Answers(hub, served=False), Signer()).publish(MODEL)


def test_after_a_rollback_the_twin_is_read_until_it_shows_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module reports a moment after it answered the method; a twin that never shows it is an error."""
    hub = OneModule("withdrawn")
    found = an_operator(hub, Answers(hub, served=True), Signer())
    monkeypatch.setattr(time, "sleep", lambda _seconds: hub.serve())
    found.wait_withdrawn()
    assert hub.reads == 2
    monkeypatch.setattr(operator, "VERDICT_S", 0.0)
    hub.reported = {}
    with pytest.raises(BenchFailed, match="does not report that it went back"):
        found.wait_withdrawn()


def test_the_operator_yields_and_other_threads_do_not() -> None:
    """The simulator runs in the same process on its own threads, and they keep their priority and cores."""
    cores = os.sched_getaffinity(0)
    with ThreadPoolExecutor(1) as other:
        before = other.submit(os.sched_getscheduler, 0).result()
        with idle_priority():
            assert os.sched_getscheduler(0) == os.SCHED_IDLE
            assert os.sched_getaffinity(0) == (cores - {max(cores)} or cores)
            assert other.submit(os.sched_getscheduler, 0).result() == before
            assert other.submit(os.sched_getaffinity, 0).result() == cores
    assert os.sched_getaffinity(0) == cores
    assert os.sched_getscheduler(0) in (before, os.SCHED_IDLE)  # the latter if the system refuses the return


def prediction(version: str, seq: int) -> str:
    """One prediction as it arrives upstream."""
    body = {
        "schema": "twinship.prediction.v1",
        "frame": {"camera": "c", "run": "r", "seq": seq},
        "top": [{"label": "1", "confidence": 1.0}],
        "uncertain": False,
        "model": {"name": "digits", "version": version, "sha256": "a" * 64},
        "captured": 1,
        "stages_ms": {"invoke": 1.0},
    }
    return json.dumps({"SystemProperties": {"connectionDeviceId": "d"}, "EnqueuedTimeUtc": "", "Body": body})


def test_a_version_is_seen_in_the_newest_answer(tmp_path: Path) -> None:
    """A version that answered earlier, or not at all, is not."""
    upstream = tmp_path / "upstream.jsonl"
    upstream.write_text(prediction("1.0.0", 0) + "\n" + prediction("1.1.0", 1) + "\n")
    with closing(Watch(upstream)) as watch:
        assert watch.wait_more(1, 5.0)
        assert watch.wait_version("1.1.0", 5.0)
        assert not watch.wait_version("1.0.0", 0.0)
        assert not watch.wait_version("2.0.0", 0.0)
