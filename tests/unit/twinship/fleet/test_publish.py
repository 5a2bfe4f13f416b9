"""Publishing: what is refused, how sections are patched, and which verdict counts."""

import base64
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from inference import model_section
from inference.model_section import ModelRef
from tests.unit.twinship.fleet.conftest import FakeHub, packed
from twinship.fleet import publish
from twinship.fleet.connection import Connection
from twinship.fleet.keys import SigningKey
from twinship.fleet.publish import PublishResult, WaitOptions, publish_to
from twinship.fleet.service import HubUnavailable, PreconditionFailed
from twinship.fleet.signed_artefact import CannotPublish, SignedArtefact, sign
from twinship.fleet.twin_patch import merge, replacement

OTHERS = {"inference": {"topK": 3}, "telemetry": {"intervalSeconds": 10}}

values = st.recursive(
    st.integers() | st.booleans() | st.sampled_from(["", "x"]),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


class Clock:
    """A clock that advances only by `sleep`."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def options(wait_s: float = 60.0, until_active: bool = True) -> WaitOptions:
    """WaitOptions with a clock of their own."""
    clock = Clock()
    return WaitOptions(wait_s, until_active, 1.0, clock.now, clock.sleep)


def status(signed: SignedArtefact, state: str, version: int, **more: Any) -> dict[str, Any]:
    """The reported properties of a device that is in `state` for the desired `version`."""
    named = signed.ref.reported()
    runs = named if state in ("active", "probation") else None
    return {
        "model": {"value": runs, "ac": 200, "av": version, "ad": ""},
        "modelStatus": {"state": state, "active": runs, "candidate": named, **more},
    }


def to(hub: FakeHub, signed: SignedArtefact, how: WaitOptions | None = None, **more: Any) -> PublishResult:
    """Publish to the module `inference` of this hub."""
    return publish_to(hub, signed, "twinship", "inference", how or options(), **more)


@given(objects, objects)
def test_a_replacement_leaves_exactly_the_new_section(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Merging the patch into any old section gives the new section and nothing of the old one."""
    assert merge(before, replacement(before, after)) == after


def test_the_chunks_of_a_longer_model_are_deleted(key: SigningKey, tmp_path: Path) -> None:
    """A merge patch keeps keys that it does not name, so the patch deletes the other chunks by name."""
    long, short = tmp_path / "long", tmp_path / "short"
    long.write_bytes(packed("1.0.0", random.Random(1).randbytes(15_000)))
    short.write_bytes(packed("2.0.0"))
    hub = FakeHub(inference=OTHERS)
    to(hub, sign(long, key), options(0))
    to(hub, sign(short, key), options(0))
    inline = hub.patches[1]["model"]["source"]["inline"]
    assert [name for name, part in inline["parts"].items() if part is None] == ["01", "02", "03", "04", "05"]
    desired = hub.twins["inference"].desired
    assert model_section.parse(desired["model"]).ref.version == "2.0.0"
    assert {name: desired[name] for name in OTHERS} == OTHERS


@pytest.mark.parametrize(
    "before",
    [
        {"source": {"uri": "https://example.org/m"}, "name": "x"},
        "a word",
        {"source": "a word"},
        {"source": {"inline": {"parts": {"00": "AAAA", "99": "AAAA"}, "count": 2}}, "later": {"than": "us"}},
    ],
)
def test_the_device_can_read_the_new_section_whatever_the_old_one_was(
    before: object, key: SigningKey, artefact: Path
) -> None:
    """A uri, a wrong type and a field of a later version are deleted."""
    hub = FakeHub(inference={"model": before})
    signed = sign(artefact, key)
    to(hub, signed, options(0))
    found = model_section.parse(hub.twins["inference"].desired["model"])
    assert isinstance(found.source, model_section.Inline)
    assert found.source.inflate(found.ref.size) == artefact.read_bytes()
    assert set(hub.twins["inference"].desired["model"]) == set(signed.section())


def test_a_change_between_reading_and_writing_is_not_lost(key: SigningKey, artefact: Path) -> None:
    """After a 412 the twin is read again: the other change stays, and its stale keys are deleted too."""
    hub = FakeHub(inference=OTHERS)
    theirs = {"model": {"stale": 1}, "telemetry": {"intervalSeconds": 5}}
    hub.before_patch = [lambda: hub.change("inference", theirs)]
    result = to(hub, sign(artefact, key), options(0))
    desired = hub.twins["inference"].desired
    assert result.written
    assert desired["telemetry"] == {"intervalSeconds": 5}
    assert "stale" not in desired["model"]


def test_publishing_fails_after_five_conflicts(key: SigningKey, artefact: Path) -> None:
    """The error is that of the last conflict; nothing was written."""
    hub = FakeHub(inference=OTHERS)
    hub.before_patch = [lambda: hub.change("inference", OTHERS)] * 10
    with pytest.raises(PreconditionFailed):
        to(hub, sign(artefact, key))
    assert hub.patches == []
    assert len(hub.before_patch) == 5


def test_the_device_can_verify_the_signature(artefact: Path) -> None:
    """The signature covers name, version, size and digest of the whole artefact."""
    private = Ed25519PrivateKey.generate()
    ref = sign(artefact, SigningKey("k", private)).ref
    private.public_key().verify(base64.b64decode(ref.signature), ref.signed_bytes())
    assert (ref.name, ref.version, ref.size, ref.key_id) == (
        "digits",
        "1.0.0",
        len(artefact.read_bytes()),
        "k",
    )


def test_a_file_that_is_no_artefact_is_refused(tmp_path: Path, key: SigningKey) -> None:
    """A missing file, a .tflite without trailer and a picture each have an error with a cure."""
    (tmp_path / "bare.tflite").write_bytes(b"\0\0\0\0TFL3" + b"\0" * 100)
    (tmp_path / "x.png").write_bytes(b"\x89PNG" * 20)
    for name, complaint in [
        ("bare.tflite", "no model artefact"),
        ("x.png", "TFL3"),
        ("none", "cannot be read"),
    ]:
        with pytest.raises(
            CannotPublish, match=rf"{complaint}.*; cure: .*twinship train|{complaint}.*model.tflite"
        ):
            sign(tmp_path / name, key)


def test_a_model_too_large_for_the_twin_is_refused(tmp_path: Path, key: SigningKey) -> None:
    """The error names its characters, the characters that fit, and the cures."""
    path = tmp_path / "model.tflite"
    path.write_bytes(packed(weights=random.Random(2).randbytes(100_000)))
    with pytest.raises(
        CannotPublish,
        match=r"takes 13\d,\d{3} characters .* 28,000 .*cure: .*--store blob.*--url.*--arch micro",
    ):
        sign(path, key)


def test_a_twin_over_the_limit_is_refused_and_not_changed(tmp_path: Path, key: SigningKey) -> None:
    """IoT Hub counts all sections together; the error names the bytes of the model and the total."""
    path = tmp_path / "model.tflite"
    path.write_bytes(packed(weights=random.Random(3).randbytes(20_000)))
    hub = FakeHub(inference={"notes": {str(n): "x" * 4000 for n in range(2)}})
    with pytest.raises(
        CannotPublish, match=r"take 3\d,\d{3} bytes of 32,768, the model 2\d,\d{3} of them; cure"
    ):
        to(hub, sign(path, key))
    assert hub.patches == []
    hub = FakeHub(inference={"notes": {"0": "x" * 4000}})
    assert to(hub, sign(path, key), options(0)).written


def device(hub: FakeHub, *reports: Callable[[], Mapping[str, Any]]) -> None:
    """Let the device report once before each poll; the first read belongs to the write."""
    calls = [lambda report=report: hub.answer("inference", **report()) for report in reports]
    hub.on_read = [lambda: None, *calls]


def test_publishing_waits_through_all_states(key: SigningKey, artefact: Path) -> None:
    """Progress has each state once; the result has the last state and the waiting time."""
    hub, signed, lines = FakeHub(inference=OTHERS), sign(artefact, key), list[str]()
    states = ["checking", "proving", "proving", "loading", "probation", "active"]
    device(hub, *(lambda state=state: status(signed, state, 2) for state in states))
    result = to(hub, signed, progress=lines.append)
    assert (result.verdict.state, result.ok, result.waited_s) == ("active", True, 6.0)
    assert [line.split(":")[0] for line in lines[1:]] == [
        "pending", "checking", "proving", "loading", "probation", "active",
    ]  # fmt: skip
    assert "written to the twin of twinship/inference" in lines[0]


def test_without_until_active_probation_is_enough(key: SigningKey, artefact: Path) -> None:
    """Probation needs frames; without `until_active` publishing does not wait for them."""
    hub, signed = FakeHub(inference=OTHERS), sign(artefact, key)
    device(hub, lambda: status(signed, "probation", 2))
    result = to(hub, signed, options(60, until_active=False))
    assert (result.verdict.state, result.ok, result.waited_s) == ("probation", True, 1.0)


@pytest.mark.parametrize("state", ["refused", "withdrawn"])
def test_a_refusal_has_the_error_of_the_device(state: str, key: SigningKey, artefact: Path) -> None:
    """Code and message come from the device; a refusal is a result, not an exception."""
    hub, signed, lines = FakeHub(inference=OTHERS), sign(artefact, key), list[str]()
    error = {"code": "unknown-key", "message": "digits:1.0.0 is signed by key 01; trusted: none"}
    device(hub, lambda: status(signed, state, 2, error=error))
    result = to(hub, signed, progress=lines.append)
    assert not result.ok
    assert result.verdict.error is not None
    assert result.verdict.error.code == "unknown-key"
    assert lines[-1] == f"{state}: unknown-key: {error['message']}"
    assert json.loads(json.dumps(result.to_json()))["error"] == error


def agent(key_id: str) -> Mapping[str, Any]:
    """The desired properties of `$edgeAgent` that let inference trust this key."""
    return {"modules": {"inference": {"env": {"MODEL_TRUSTED_KEYS": {"value": key_id}}}}}


@pytest.mark.parametrize("code", ["unknown-key", "keys-unset"])
def test_a_module_that_is_not_restarted_yet_may_refuse_the_key(
    code: str, key: SigningKey, artefact: Path
) -> None:
    """`deploy` has changed its keys: the process with the new ones verifies the model again."""
    hub, lines = FakeHub(inference=OTHERS, __edgeAgent=agent(f"{key.key_id}:AA==")), list[str]()
    signed, error = sign(artefact, key), {"code": code, "message": "trusted: none"}

    def refuse() -> None:
        hub.answer("inference", **status(signed, "refused", 2, error=error))

    def accept() -> None:
        hub.answer("inference", **status(signed, "active", 2))

    hub.on_read = [lambda: None, refuse, lambda: None, accept]
    assert to(hub, signed, progress=lines.append).ok
    assert lines[-3:] == [
        f"refused: {code}: trusted: none",
        "the deployment trusts this key: waits until edgeAgent has restarted inference",
        "active",
    ]


def test_a_module_that_is_never_restarted_is_waited_for_until_the_time_is_over(
    key: SigningKey, artefact: Path
) -> None:
    """The verdict is then the refusal."""
    hub, signed = (
        FakeHub(inference=OTHERS, __edgeAgent=agent(f"0:AA==, {key.key_id}:AA==")),
        sign(artefact, key),
    )
    device(hub, lambda: status(signed, "refused", 2, error={"code": "unknown-key", "message": "x"}))
    late = to(hub, signed, options(5))
    assert (late.verdict.state, late.waited_s) == ("refused", 5.0)


@pytest.mark.parametrize("trusted", ["fedcba9876543210:AA==", "$MODEL_TRUSTED_KEYS", ""])
def test_a_key_that_the_deployment_does_not_trust_is_refused_at_once(
    trusted: str, key: SigningKey, artefact: Path
) -> None:
    """A restart would not change it."""
    hub, signed = FakeHub(inference=OTHERS, __edgeAgent=agent(trusted)), sign(artefact, key)
    device(hub, lambda: status(signed, "refused", 2, error={"code": "unknown-key", "message": "x"}))
    assert to(hub, signed).waited_s == 1.0


def test_a_verdict_on_the_previous_section_does_not_count(key: SigningKey, artefact: Path) -> None:
    """The old report stays in the twin until the device reports on the new desired version."""
    hub, signed = FakeHub(inference=OTHERS), sign(artefact, key)
    hub.answer("inference", **status(signed, "refused", 1, error={"code": "old", "message": "old"}))
    device(hub, dict, dict, lambda: status(signed, "active", 2))
    assert to(hub, signed).verdict.state == "active"


def test_another_active_model_does_not_count(key: SigningKey, tmp_path: Path) -> None:
    """`active` counts only with the digest of the published artefact."""
    (tmp_path / "a").write_bytes(packed("1.0.0"))
    (tmp_path / "b").write_bytes(packed("2.0.0"))
    ours, other = sign(tmp_path / "a", key), sign(tmp_path / "b", key)
    hub = FakeHub(inference=OTHERS)
    device(hub, lambda: status(other, "active", 2))
    result = to(hub, ours, options(5))
    assert (result.verdict.state, result.ok, result.waited_s) == (publish.PENDING, False, 5.0)


def test_a_later_section_of_somebody_else_ends_the_waiting(key: SigningKey, artefact: Path) -> None:
    """The device will never report on a section that was replaced."""
    hub, signed = FakeHub(inference=OTHERS), sign(artefact, key)
    hub.on_read = [
        lambda: None,
        lambda: hub.change("inference", {"model": {"sha256": "ff" * 32, "name": "x"}}),
    ]
    assert to(hub, signed).verdict.state == publish.SUPERSEDED


def test_a_device_that_does_not_report_is_pending(key: SigningKey, artefact: Path) -> None:
    """The section stays in the twin; progress reports an unavailable hub, and the hub is asked again."""
    hub, signed, lines = FakeHub(inference=OTHERS), sign(artefact, key), list[str]()

    def away() -> None:
        raise HubUnavailable("the hub is away; cure: wait")

    hub.on_read = [lambda: None, away, away]
    result = to(hub, signed, options(10), progress=lines.append)
    assert (result.verdict.state, result.waited_s) == (publish.PENDING, 10.0)
    assert lines[1:] == ["pending: twinship/inference is connected", *["the hub is away; cure: wait"] * 2]


def test_publishing_the_active_model_again_writes_nothing(key: SigningKey, artefact: Path) -> None:
    """The section in the twin is already the same."""
    hub, signed = FakeHub(inference=OTHERS), sign(artefact, key)
    to(hub, signed, options(0))
    hub.answer("inference", **status(signed, "active", 2))
    result = to(hub, signed)
    assert (result.written, result.ok, result.attempt, len(hub.patches)) == (False, True, 1, 1)


def test_publishing_a_refused_model_again_increases_the_attempt(key: SigningKey, artefact: Path) -> None:
    """A device tries a refused section again only if it changes; the attempt changes it."""
    hub, signed = FakeHub(inference=OTHERS), sign(artefact, key)
    to(hub, signed, options(0))
    hub.answer("inference", **status(signed, "refused", 2))
    result = to(hub, signed, options(0))
    assert (result.attempt, result.written) == (2, True)
    assert hub.twins["inference"].desired["model"]["attempt"] == 2


def test_the_printed_patch_needs_no_hub(key: SigningKey, artefact: Path) -> None:
    """The patch for az or the portal is the whole section for a twin without one."""
    patch = sign(artefact, key).patch()
    assert list(patch) == ["model"]
    assert model_section.parse(merge({}, json.loads(json.dumps(patch)))["model"]).ref.signature


def test_no_signature_and_no_artefact_in_a_repr(key: SigningKey, artefact: Path) -> None:
    """Results may be logged."""
    hub, signed = FakeHub(inference=OTHERS), sign(artefact, key)
    text = repr(to(hub, signed, options(0))) + repr(signed)
    assert len(text) < 2000
    assert signed.ref.signature not in text


CAMERA = {"camera": {"ac": 200, "av": 1, "ad": "", "value": {}}, "cameraStatus": {}}


class Connected:
    """Stands for ServiceHub: a connection to a FakeHub."""

    def __init__(self, hub: FakeHub) -> None:
        self._hub = hub

    def __call__(self, _connection: Connection) -> "Connected":
        return self

    def __enter__(self) -> FakeHub:
        return self._hub

    def __exit__(self, *_: object) -> None:
        pass


def test_a_module_without_models_gets_no_section(
    artefact: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera reports sections and never modelStatus: nothing is stored, and its twin stays as it was."""
    hub, stored = FakeHub(camera_sim={"camera": {"fps": 2}}), []
    hub.answer("camera_sim", **CAMERA)
    monkeypatch.setattr(publish, "ServiceHub", Connected(hub))
    monkeypatch.setattr(publish, "FIRST_REPORT_S", 0.0)

    def store(ref: ModelRef, data: bytes) -> str:
        stored.append(ref)
        return "https://files.example/m"

    connection = Connection("127.0.0.1", "owner", "a2V5")
    with pytest.raises(CannotPublish, match="twinship/camera_sim runs no models"):
        publish.publish(connection, artefact, key, "twinship", "camera_sim", store=store)
    assert (stored, hub.patches) == ([], [])
    hub.answer("camera_sim", modelStatus={"state": "unassigned"})  # counter-proof: now it reports on models
    publish.publish(connection, artefact, key, "twinship", "camera_sim", store=store, wait_s=0)
    assert (len(stored), len(hub.patches)) == (1, 1)


@pytest.mark.parametrize("reported", [{}, {"modelStatus": {}}, {**CAMERA, "modelStatus": {}}])
def test_a_module_that_may_run_models_is_accepted(reported: Mapping[str, Any]) -> None:
    """A module that has reported nothing yet is offline, or has never been started."""
    hub, how = FakeHub(inference={}), options()
    hub.answer("inference", **reported)
    publish.refuse_module_without_models(hub, "twinship", "inference", how)
    assert how.now() == 0.0


def test_a_module_that_reports_its_model_last_is_waited_for() -> None:
    """A module reports its settings first; edgeHub may send the rest some seconds later."""
    hub, how = FakeHub(inference={}), options()
    hub.answer("inference", telemetry={"ac": 200})
    hub.on_read = [lambda: None, lambda: None, lambda: hub.answer("inference", modelStatus={})]
    publish.refuse_module_without_models(hub, "twinship", "inference", how)
    assert how.now() == 2.0


def test_a_module_with_a_model_section_is_accepted() -> None:
    """Whatever it reports: the section is replaced, not added."""
    hub = FakeHub(camera_sim={"model": {"name": "x"}})
    hub.answer("camera_sim", **CAMERA)
    publish.refuse_module_without_models(hub, "twinship", "camera_sim", options())
