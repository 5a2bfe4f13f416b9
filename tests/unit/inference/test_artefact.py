"""The artefact file: what pack writes any TFLite runtime and unzip can read, and read survives anything."""

import contextlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.artefact import (
    MAX_ARTEFACT_BYTES,
    BadArtefact,
    InputSpec,
    Manifest,
    Probes,
    pack,
    read,
)
from inference.runtimes import interpreter
from tests.models import LABELS, tiny_artefact, tiny_tflite

TFLITE = b"\x1c\0\0\0TFL3" + bytes(range(200))
SPEC = InputSpec(height=2, width=2, channels=1)
PROBES = Probes(bytes(8), ("a", "b"))
MEMBERS = ("manifest.json", "labels.txt", "probes.json", "probes.bin")


def manifest(**fields: Any) -> Manifest:
    known: dict[str, Any] = {
        "name": "digits",
        "version": "1.0.0",
        "architecture": "micro",
        "input": SPEC,
        "latencyBudgetMs": 5,
    }
    return Manifest(**known | fields)


def small() -> bytes:
    return pack(TFLITE, manifest(), ["a", "b"], PROBES)


def rezipped(change: Callable[[dict[str, bytes]], object], compression: int = zipfile.ZIP_STORED) -> bytes:
    """The small artefact with other members."""
    with zipfile.ZipFile(io.BytesIO(small())) as trailer:
        members = {name: trailer.read(name) for name in trailer.namelist()}
    change(members)
    buffer = io.BytesIO()
    buffer.write(TFLITE)
    with zipfile.ZipFile(buffer, "w", compression) as trailer:
        for name, content in members.items():
            trailer.writestr(name, content)
    return buffer.getvalue()


def test_reading_gives_back_what_was_packed() -> None:
    """An artefact is taken apart into exactly what went in."""
    described = manifest(metrics={"accuracy": 0.995, "per": [1, 2]}, minimumRuntime={"litert": "2.0"})
    artefact = read(pack(TFLITE, described, ["a", "b"], PROBES))
    assert artefact.tflite == TFLITE
    assert artefact.manifest == described
    assert artefact.labels == ("a", "b")
    assert artefact.probes == PROBES
    assert artefact.probes.count == 2
    assert artefact.size == len(artefact.data)


def test_the_same_model_gives_the_same_bytes() -> None:
    """Nothing in the file depends on when or where it was packed."""
    assert small() == small()


@pytest.mark.parametrize("runtime", ["litert", "tflite_runtime"])
def test_any_runtime_loads_the_file_with_its_trailer(runtime: str) -> None:
    """The trailer is invisible to a TFLite runtime."""
    interpreter(runtime, tiny_artefact(), 1).allocate_tensors()


def test_unzip_lists_the_members() -> None:
    """The description can be read with any zip tool."""
    with zipfile.ZipFile(io.BytesIO(tiny_artefact())) as trailer:
        assert sorted(trailer.namelist()) == sorted(MEMBERS)
        assert trailer.read("labels.txt").decode().split() == list(LABELS)
        assert json.loads(trailer.read("manifest.json"))["schema"] == "twinship.model.v1"
        assert trailer.testzip() is None


def test_every_truncated_prefix_is_refused() -> None:
    """Half a file is no artefact, wherever it ends."""
    data = small()
    for length in range(len(data)):
        with pytest.raises(BadArtefact):
            read(data[:length])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    """Whatever bytes are changed, read answers or raises BadArtefact."""
    damaged = bytearray(small())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadArtefact):
        read(bytes(damaged))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    """Bytes that nobody packed are no artefact."""
    with pytest.raises(BadArtefact):
        read(b"\0\0\0\0TFL3" + data)


def put(name: str, content: bytes) -> Callable[[dict[str, bytes]], object]:
    return lambda members: members.update({name: content})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        *((lambda members, name=name: members.pop(name), f"0 members named {name}") for name in MEMBERS),
        (put("manifest.json", b"{"), "manifest.json"),
        (put("manifest.json", b"[]"), "manifest.json"),
        (put("manifest.json", b'{"schema":"twinship.model.v2"}'), "schema"),
        (put("labels.txt", b"\xff\n"), "UTF-8"),
        (put("labels.txt", b"a\na\n"), "twice"),
        (put("labels.txt", b"a\nb\n\n"), "not a label"),
        (put("labels.txt", b"a\n\x1bb\n"), "not a label"),
        (put("labels.txt", b"a\n" + b"b" * 129), "not a label"),
        (put("labels.txt", b"\n".join(b"%d" % n for n in range(4097))), "more than 4096"),
        (put("probes.json", b"[]"), "expected"),
        (put("probes.json", b"[" * 60_000), "probes.json"),
        (put("probes.json", b'{"expected":["a",1]}'), "expected"),
        (put("probes.json", b'{"expected":["a","c"]}'), "no label"),
        (put("probes.json", b'{"expected":["a"]}'), "8 bytes"),
        (put("probes.json", b'{"expected":[]}'), "0 probes"),
        (put("probes.json", json.dumps({"expected": ["a"] * 11}).encode()), "11 probes"),
        (put("probes.bin", bytes(9)), "9 bytes"),
    ],
)
def test_a_wrong_member_is_named(change: Callable[[dict[str, bytes]], object], reason: str) -> None:
    """The error says which part of the file is wrong."""
    with pytest.raises(BadArtefact, match=reason):
        read(rezipped(change))


def test_a_zip_bomb_stays_small() -> None:
    """A member that inflates past its cap is refused, not inflated."""
    bomb = rezipped(put("labels.txt", bytes(50_000_000)), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 60_000
    with pytest.raises(BadArtefact, match=r"labels.txt: more than 262144 bytes"):
        read(bomb)


def test_other_compressions_are_refused() -> None:
    """Only stored and deflated members: the others need much more memory than they are long."""
    with pytest.raises(BadArtefact, match="compression"):
        read(rezipped(lambda members: None, zipfile.ZIP_LZMA))


def test_members_of_later_versions_are_left_alone() -> None:
    """A newer packer may add members; an older device still reads the file."""
    assert read(rezipped(put("calibration.json", b"{}"))).labels == ("a", "b")


def test_two_members_of_one_name_are_refused() -> None:
    """Nobody may be shown one manifest and run by another."""
    buffer = io.BytesIO(small())
    with zipfile.ZipFile(buffer, "a") as trailer, pytest.warns(UserWarning, match="Duplicate"):
        trailer.writestr("labels.txt", "x\ny\n")
    with pytest.raises(BadArtefact, match=r"2 members named labels\.txt"):
        read(buffer.getvalue())


def test_an_oversized_file_is_refused_at_once() -> None:
    """The cap comes before everything else."""
    with pytest.raises(BadArtefact, match="allowed"):
        read(bytes(MAX_ARTEFACT_BYTES + 1))


def test_packing_twice_is_refused() -> None:
    """A flatbuffer that has a trailer already would end up with two."""
    with pytest.raises(BadArtefact, match="already"):
        pack(small(), manifest(), ["a", "b"], PROBES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"when": object()}},
    ],
)
def test_packing_refuses_what_reading_would(wrong: dict[str, Any]) -> None:
    """A manifest that JSON cannot hold is the packer's error."""
    with pytest.raises(BadArtefact):
        pack(TFLITE, manifest(**wrong), ["a", "b"], PROBES)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a\n", "x" * 65])
def test_names_are_words(name: str) -> None:
    """Names and versions stand in signed lines and file names."""
    with pytest.raises(ValueError, match="name"):
        manifest(name=name)


def test_artefact_and_wish_need_no_numpy() -> None:
    """The operator's side reads both without the device's libraries."""
    code = "import sys, inference.artefact, inference.model_section; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tiny_model_is_what_it_says() -> None:
    """The model that these tests use is a real int8 flatbuffer."""
    assert read(tiny_artefact()).tflite == tiny_tflite()
